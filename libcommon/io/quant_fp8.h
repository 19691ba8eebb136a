/* quant_fp8.h - rows of a weight as E4M3 with one scale each: scale = absmax / 448, value = w /
 * scale rounded to nearest even, saturating. A row whose largest magnitude is below T5_ROW_TINY
 * (quant_row.h) becomes zeros with scale 0. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_QUANT_FP8_H
#define T5_IO_QUANT_FP8_H

#include <stdint.h>

/* One row of n weights. Returns -1, or the index of the first that is not finite; then q and scale
 * are not set. */
int64_t t5_fp8_row(uint8_t *q, float *scale, const float *w, int64_t n);

#endif
