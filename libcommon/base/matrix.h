/* matrix.h - a matrix of weights as it lies in a file, and reading it: every type to float. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_MATRIX_H
#define T5_BASE_MATRIX_H

#include "base/dtype.h"

/* A matrix on the host, as it lies in a file: any alignment.
 *
 * - F32, F16, BF16, F64: data (rows, cols)
 * - I8, F8 (E4M3): data (rows, cols) of one byte, scale F32 (rows): value = data x scale of its row
 * - NF4: data are codes of 4 bits, flat, (rows x cols + 1) / 2 bytes, the first of two in the high
 *   half; block U8 (rows x cols / 64, rounded up); scale F32 (1 + blocks / 256, rounded up): an
 *   offset, then group scales. base/nf4.h has the formula, the code book, and t5_nf4_block_scales,
 *   which makes one float a block of block and scale. Blocks run on from row to row where cols is
 *   no multiple of 64. */
struct t5_matrix {
    const void *data;
    enum t5_dtype type;
    const void *scale;  /* NULL unless I8, F8, NF4 */
    int64_t rows, cols; /* (out, in) */
    const void *block;  /* NULL unless NF4 */
};

/* Elements [from, from + n) of row `row`. */
void t5_matrix_read(float *out, const struct t5_matrix *m, int64_t row, int64_t from, int64_t n);
/* Rows [first, first + n): out (n, cols). */
void t5_matrix_read_rows(float *out, const struct t5_matrix *m, int64_t first, int64_t n);
/* The scale of a row of I8 or F8. */
float t5_matrix_scale(const struct t5_matrix *m, int64_t row);

#endif
