/* matrix.h - reading a matrix as it lies in a file: every type to float. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BACKEND_MATRIX_H
#define T5_BACKEND_MATRIX_H

#include "backend/backend.h"

/* Elements [from, from + n) of row `row`. */
void t5_matrix_read(float *out, const struct t5_matrix *m, int64_t row, int64_t from, int64_t n);
/* Rows [first, first + n): out (n, cols). */
void t5_matrix_read_rows(float *out, const struct t5_matrix *m, int64_t first, int64_t n);
/* The scale of a row of I8 or F8. */
float t5_matrix_scale(const struct t5_matrix *m, int64_t row);

#endif
