/* gemm_pack.c - frozen weights into panels, once, when a model is loaded. Knows the layout that
 * gemm_kernel.h describes; computes no products. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cpu/gemm.h"
#include "cpu/gemm_kernel.h"

enum {
    NR = T5_GEMM_NR,
    DEPTH = 128,  /* k of a block of floats, */
    PIECE = 1024, /* and of int8, on the stack */
};

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

/* Steps of a panel's rows of 64 numbers: two rows of k become one of pairs. */
static void put_bf16(uint16_t *out, const float *even, const float *odd)
{
    uint16_t a[NR], b[NR];
    t5_gemm_isa()->round(a, even, NR, NR);
    t5_gemm_isa()->round(b, odd, NR, NR);
    for (int j = 0; j < NR; j++) {
        out[2 * j] = a[j];
        out[2 * j + 1] = b[j];
    }
}

/* block (depth, NR) to k indices from.. of the panel; depth is even unless it ends at k. */
static void put_block(const struct t5_packed *w, char *panel, const float *block, int64_t from,
                      int64_t depth)
{
    static const float zeros[NR];
    if (w->math == T5_COMPUTE_F32) {
        memcpy(panel + from * 256, block, (size_t)depth * 256);
        return;
    }
    for (int64_t p = 0; p < depth; p += 2)
        put_bf16((uint16_t *)(void *)(panel + (from + p) * 128), block + p * NR,
                 p + 1 < depth ? block + (p + 1) * NR : zeros);
}

/* Rows j.. of W, one panel of them. */
static void pack_rows(const struct t5_packed *w, char *panel, int64_t j,
                      const struct t5_matrix *parts)
{
    float rows[NR * DEPTH], block[DEPTH * NR] __attribute__((aligned(64)));
    const int64_t n = w->n - j < NR ? w->n - j : NR;
    memset(block, 0, sizeof block);
    for (int64_t from = 0; from < w->k; from += DEPTH) {
        const int64_t depth = w->k - from < DEPTH ? w->k - from : DEPTH;
        for (int64_t i = 0; i < n; i++) {
            int64_t row = j + i;
            const struct t5_matrix *part = find_part(parts, &row);
            t5_matrix_read(rows + i * DEPTH, part, row, from, depth);
        }
        t5_gemm_isa()->transpose(block, rows, DEPTH, (int)n, depth);
        put_block(w, panel, block, from, depth);
    }
}

/* Columns j.. of W, one panel of them, become columns of the result; W's rows become k. */
static void pack_columns(const struct t5_packed *w, char *panel, int64_t j,
                         const struct t5_matrix *parts)
{
    float block[DEPTH * NR] = {0};
    const int64_t n = w->n - j < NR ? w->n - j : NR;
    for (int64_t from = 0; from < w->k; from += DEPTH) {
        const int64_t depth = w->k - from < DEPTH ? w->k - from : DEPTH;
        for (int64_t p = 0; p < depth; p++) {
            int64_t row = from + p;
            const struct t5_matrix *part = find_part(parts, &row);
            t5_matrix_read(block + p * NR, part, row, j, n);
        }
        put_block(w, panel, block, from, depth);
    }
}

/* The scale of a row that comes as floats: absmax / 127. */
static float absmax_scale(const struct t5_matrix *part, int64_t row, int64_t k)
{
    float piece[PIECE], absmax = 0;
    for (int64_t from = 0; from < k; from += PIECE) {
        const int64_t n = k - from < PIECE ? k - from : PIECE;
        t5_matrix_read(piece, part, row, from, n);
        for (int64_t p = 0; p < n; p++)
            absmax = fmaxf(absmax, fabsf(piece[p]));
    }
    return absmax / 127;
}

/* Elements from..from+n of a row as int8: as stored where it is I8, by `scale` otherwise. */
static void read_int8(int8_t *out, const struct t5_matrix *part, int64_t row, int64_t k,
                      int64_t from, int64_t n, float scale)
{
    float piece[PIECE];
    if (part->type == T5_I8) {
        memcpy(out, (const int8_t *)part->data + row * k + from, (size_t)n);
        return;
    }
    t5_matrix_read(piece, part, row, from, n);
    for (int64_t p = 0; p < n; p++)
        out[p] = scale > 0 ? (int8_t)lrintf(piece[p] / scale) : 0;
}

/* Rows j.. of W, one panel of them: four int8 of a row move as one 32-bit number. */
static void pack_rows_int8(struct t5_packed *w, char *panel, int64_t j,
                           const struct t5_matrix *parts)
{
    float words[NR * PIECE / 4];
    int8_t *rows = (int8_t *)words;
    const int64_t n = w->n - j < NR ? w->n - j : NR;
    memset(w->scale + j, 0, NR * sizeof *w->scale);
    memset(w->shift + j, 0, NR * sizeof *w->shift);
    for (int64_t from = 0; from < w->k; from += PIECE) {
        const int64_t depth = w->k - from < PIECE ? w->k - from : PIECE;
        for (int64_t i = 0; i < n; i++) {
            int64_t row = j + i;
            const struct t5_matrix *part = find_part(parts, &row);
            int8_t *to = rows + i * PIECE;
            int32_t sum = 0;
            if (from == 0)
                w->scale[j + i] =
                    part->type == T5_I8 ? t5_matrix_scale(part, row) : absmax_scale(part, row, w->k);
            read_int8(to, part, row, w->k, from, depth, w->scale[j + i]);
            memset(to + depth, 0, (size_t)(PIECE - depth));
            for (int64_t p = 0; p < depth; p++)
                sum += to[p];
            w->shift[j + i] += 128 * sum;
        }
        t5_gemm_isa()->transpose((float *)(void *)(panel + from * NR), words, PIECE / 4, (int)n,
                                 (depth + 3) / 4);
    }
}

static void shape(struct t5_packed *w, enum t5_compute math, int transposed, int64_t rows,
                  int64_t k)
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

/* Large weights lie on large pages where the system has them: fewer faults and address look-ups. */
static void *large_alloc(size_t bytes)
{
    const size_t page = bytes >= (size_t)4 << 20 ? (size_t)2 << 20 : 256;
    void *p = aligned_alloc(page, (bytes + page) / page * page);
    if (p && page > 256)
        (void)madvise(p, bytes, MADV_HUGEPAGE); /* advice: it may be refused */
    return p;
}

static int reserve(struct t5_packed *w, struct t5_err *err)
{
    const size_t columns = (size_t)(w->n + NR - 1) / NR * NR;
    const size_t bytes = columns / NR * w->panel_bytes;
    if (!(w->panels = large_alloc(bytes)))
        return t5_fail_memory(err, bytes, "a packed weight");
    if (w->math != T5_COMPUTE_INT8)
        return 0;
    w->scale = large_alloc(columns * sizeof(float));
    w->shift = large_alloc(columns * sizeof(int32_t));
    if (!w->scale || !w->shift)
        return t5_fail_memory(err, 2 * columns * sizeof(float), "a packed weight's scales");
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
        char *panel = (char *)out->panels + (size_t)(j / NR) * out->panel_bytes;
        if (out->k < out->k_padded || out->n - j < NR)
            memset(panel, 0, out->panel_bytes);
        if (math == T5_COMPUTE_INT8)
            pack_rows_int8(out, panel, j, parts);
        else if (transposed)
            pack_columns(out, panel, j, parts);
        else
            pack_rows(out, panel, j, parts);
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
