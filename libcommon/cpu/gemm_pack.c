/* gemm_pack.c - frozen weights into panels, once, when a model is loaded. Knows the layout that
 * gemm_kernel.h describes; computes no products. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>

#include "cpu/gemm.h"
#include "cpu/gemm_kernel.h"

enum { NR = T5_GEMM_NR, PIECE = 1024 }; /* elements read at a time, on the stack */

static int64_t unit(enum t5_compute math)
{
    return math == T5_COMPUTE_F32 ? 1 : math == T5_COMPUTE_BF16 ? 2 : 4;
}

/* The part that holds row *row of the stack; *row becomes its row inside the part. */
static const struct t5_matrix *find_part(const struct t5_matrix *parts, int64_t *row)
{
    while (*row >= parts->rows)
        *row -= parts++->rows;
    return parts;
}

static float scale_of(const struct t5_matrix *part, int64_t row)
{
    float scale;
    memcpy(&scale, (const char *)part->scale + 4 * row, 4);
    return scale;
}

/* Elements from..from+n of a row of a part (rows of k) as f32. */
static void read_piece(float *out, const struct t5_matrix *part, int64_t row, int64_t k,
                       int64_t from, int64_t n)
{
    const size_t at = (size_t)(row * k + from);
    if (part->type == T5_I8) {
        const int8_t *in = (const int8_t *)part->data + at;
        const float scale = scale_of(part, row);
        for (int64_t p = 0; p < n; p++)
            out[p] = (float)in[p] * scale;
    } else {
        t5_to_f32(out, (const char *)part->data + at * t5_dtype_size(part->type), part->type,
                  (size_t)n);
    }
}

static char *panel_of(const struct t5_packed *w, int64_t j)
{
    return (char *)w->panels + (size_t)(j / NR) * w->panel_bytes;
}

/* Column j of the result, k index p. */
static inline void put(const struct t5_packed *w, int64_t j, int64_t p, float value)
{
    const int64_t u = unit(w->math), at = (p / u * NR + j % NR) * u + p % u;
    void *panel = panel_of(w, j);
    if (w->math == T5_COMPUTE_F32)
        ((float *)panel)[at] = value;
    else
        ((uint16_t *)panel)[at] = t5_f32_to_bf16(value);
}

static void pack_row_float(const struct t5_packed *w, int64_t j, const struct t5_matrix *parts)
{
    float piece[PIECE];
    int64_t row = j;
    const struct t5_matrix *part = find_part(parts, &row);
    for (int64_t from = 0; from < w->k; from += PIECE) {
        const int64_t n = w->k - from < PIECE ? w->k - from : PIECE;
        read_piece(piece, part, row, w->k, from, n);
        for (int64_t p = 0; p < n; p++)
            put(w, j, from + p, piece[p]);
    }
}

/* As stored where it is I8, by the row's absmax otherwise. */
static void pack_row_int8(struct t5_packed *w, int64_t j, const struct t5_matrix *parts)
{
    float piece[PIECE], absmax = 0;
    int64_t row = j;
    int32_t sum = 0;
    const struct t5_matrix *part = find_part(parts, &row);
    int8_t *panel = (int8_t *)panel_of(w, j) + j % NR * 4;
    for (int64_t from = 0; part->type != T5_I8 && from < w->k; from += PIECE) {
        const int64_t n = w->k - from < PIECE ? w->k - from : PIECE;
        read_piece(piece, part, row, w->k, from, n);
        for (int64_t p = 0; p < n; p++)
            absmax = fmaxf(absmax, fabsf(piece[p]));
    }
    w->scale[j] = part->type == T5_I8 ? scale_of(part, row) : absmax / 127;
    for (int64_t from = 0; from < w->k; from += PIECE) {
        const int64_t n = w->k - from < PIECE ? w->k - from : PIECE;
        const int8_t *stored = (const int8_t *)part->data + row * w->k + from;
        if (part->type != T5_I8)
            read_piece(piece, part, row, w->k, from, n);
        for (int64_t p = 0; p < n; p++) {
            const int8_t q = part->type == T5_I8 ? stored[p]
                             : absmax > 0        ? (int8_t)lrintf(piece[p] * (127 / absmax))
                                                 : 0;
            panel[(from + p) / 4 * NR * 4 + (from + p) % 4] = q;
            sum += q;
        }
    }
    w->shift[j] = 128 * sum;
}

/* Columns j.. of W, one panel of them, become columns of the result; W's rows become k. */
static void pack_columns(const struct t5_packed *w, int64_t j, const struct t5_matrix *parts)
{
    float piece[NR];
    const int64_t n = w->n - j < NR ? w->n - j : NR;
    for (int64_t r = 0; r < w->k; r++) {
        int64_t row = r;
        const struct t5_matrix *part = find_part(parts, &row);
        read_piece(piece, part, row, w->n, j, n);
        for (int64_t i = 0; i < n; i++)
            put(w, j + i, r, piece[i]);
    }
}

static void shape(struct t5_packed *w, enum t5_compute math, int transposed, int64_t rows, int64_t k)
{
    *w = (struct t5_packed){.math = math, .n = transposed ? k : rows, .k = transposed ? rows : k};
    w->k_padded = math == T5_COMPUTE_F32 ? w->k : (w->k + 3) / 4 * 4; /* f32 reads rows in place */
    w->panel_bytes = (size_t)(w->k_padded / unit(math)) * 256;
}

int64_t t5_packed_size(enum t5_compute math, int transposed, int64_t rows, int64_t k)
{
    struct t5_packed w;
    shape(&w, math, transposed, rows, k);
    const int64_t panels = (w.n + NR - 1) / NR;
    return panels * ((int64_t)w.panel_bytes + (math == T5_COMPUTE_INT8 ? NR * 8 : 0));
}

static int reserve(struct t5_packed *w, struct t5_err *err)
{
    const size_t columns = (size_t)(w->n + NR - 1) / NR * NR;
    const size_t bytes = columns / NR * w->panel_bytes;
    if (!(w->panels = aligned_alloc(64, bytes ? bytes : 64)))
        return t5_fail_memory(err, bytes, "a packed weight");
    memset(w->panels, 0, bytes);
    if (w->math != T5_COMPUTE_INT8)
        return 0;
    const size_t row = columns * sizeof(float); /* a multiple of 256 */
    w->scale = aligned_alloc(64, row ? row : 64);
    w->shift = aligned_alloc(64, row ? row : 64);
    if (!w->scale || !w->shift)
        return t5_fail_memory(err, 2 * row, "a packed weight's scales");
    memset(w->scale, 0, row);
    memset(w->shift, 0, row);
    return 0;
}

int t5_packed_make(struct t5_packed *out, enum t5_compute math, int transposed,
                   const struct t5_matrix *parts, int n_parts, struct t5_err *err)
{
    const int64_t k = parts->cols;
    int64_t rows = 0;
    for (int i = 0; i < n_parts; i++)
        rows += parts[i].rows;
    shape(out, math, transposed, rows, k);
    if (transposed && math == T5_COMPUTE_INT8)
        return t5_fail(err, "a transposed product has no int8 form: row scales lie along its sum");
    if (out->k > 65536 && math == T5_COMPUTE_INT8)
        return t5_fail(err, "int8 product over %lld elements: sums of at most 65536 fit 32 bits",
                       (long long)out->k);
    if (reserve(out, err) < 0) {
        t5_packed_free(out);
        return -1;
    }
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < out->n; j += NR) {
        if (transposed)
            pack_columns(out, j, parts);
        for (int64_t i = j; !transposed && i < out->n && i < j + NR; i++)
            if (math == T5_COMPUTE_INT8)
                pack_row_int8(out, i, parts);
            else
                pack_row_float(out, i, parts);
    }
    return 0;
}

void t5_packed_free(struct t5_packed *packed)
{
    if (!packed)
        return;
    free(packed->panels);
    free(packed->scale);
    free(packed->shift);
    *packed = (struct t5_packed){0};
}
