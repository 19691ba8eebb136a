/* quant_row.h - what every quantiser of rows begins with: the largest magnitude. Inside io/ only.
 */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_QUANT_ROW_H
#define T5_IO_QUANT_ROW_H

#include <stdint.h>

/* The same source for each instruction set; with contraction off all give the same bytes. A
 * sanitized build has one version: its run time starts after the loader has chosen. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define T5_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define T5_CLONES
#endif

/* A row whose largest magnitude is below this becomes zeros with scale 0: what it would be divided by
 * need not be normal. */
#define T5_ROW_TINY 0x1p-100f

/* The largest magnitude of n floats: NaN or infinite where one of them is. 0 of none. */
float t5_row_largest(const float *w, int64_t n);
/* Index of the first of n floats that is NaN or infinite, or -1. */
int64_t t5_row_not_finite(const float *w, int64_t n);

#endif
