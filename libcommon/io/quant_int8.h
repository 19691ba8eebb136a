/* quant_int8.h - rows of a weight as int8 with one scale each: scale = absmax / 127, value =
 * round(w x 127 / absmax), ties to even, so |w - value x scale| <= scale / 2. Symmetric: -128 is
 * never used. A row whose largest magnitude is below T5_ROW_TINY (quant_row.h) becomes zeros with
 * scale 0. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_QUANT_INT8_H
#define T5_IO_QUANT_INT8_H

#include <stdint.h>

/* One row of n weights. Returns -1, or the index of the first that is not finite; then q and scale
 * are not set. */
int64_t t5_int8_row(int8_t *q, float *scale, const float *w, int64_t n);

#endif
