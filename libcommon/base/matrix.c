/* matrix.c - every type of weight to float. */
/* SPDX-License-Identifier: MIT */
#include "base/matrix.h"

#include "base/nf4.h"

float t5_matrix_scale(const struct t5_matrix *m, int64_t row)
{
    float scale;
    memcpy(&scale, (const char *)m->scale + 4 * row, 4);
    return scale;
}

void t5_matrix_read(float *out, const struct t5_matrix *m, int64_t row, int64_t from, int64_t n)
{
    const int64_t at = row * m->cols + from;
    const char *data = (const char *)m->data + (size_t)at * t5_dtype_size(m->type);
    if (m->type == T5_NF4) {
        t5_nf4_read(out, m->data, m->block, m->scale, at, n);
    } else if (m->type == T5_I8) {
        const float scale = t5_matrix_scale(m, row);
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)(signed char)data[i] * scale;
    } else {
        t5_to_f32(out, data, m->type, (size_t)n);
        const float scale = m->type == T5_F8 ? t5_matrix_scale(m, row) : 1;
        for (int64_t i = 0; scale != 1 && i < n; i++)
            out[i] *= scale;
    }
}

void t5_matrix_read_rows(float *out, const struct t5_matrix *m, int64_t first, int64_t n)
{
    for (int64_t r = 0; r < n; r++)
        t5_matrix_read(out + r * m->cols, m, first + r, 0, m->cols);
}
