/* gemm.c - drivers of the CPU matrix products: split the result into tasks of one panel (64
 * columns) and some rows, walk the tiles. The arithmetic is in the tile functions (gemm_kernel.h);
 * the packing of frozen weights is in gemm_pack.c.
 *
 * The panel of a task stays in the second-level cache while its rows pass; the next one is asked
 * for meanwhile. With few rows the products are bound by reading the weights, once, in order. */
/* SPDX-License-Identifier: MIT */
#include "cpu/gemm.h"

#include <stdlib.h>

#include "base/buf.h"
#include "cpu/gemm_kernel.h"

enum {
    MR = T5_GEMM_MR,
    NR = T5_GEMM_NR,
    CHUNK = 16 * MR,    /* rows of a task: fixed, so that the split knows nothing of threads */
    BLOCK_STEPS = 1024, /* 256-byte steps of a panel between two visits of the result: 256 KB */
    DEPTH = 512,        /* k of a panel packed on the fly: 128 KB of stack */
};

static const struct t5_gemm_isa *isa;

static const struct t5_gemm_isa *best_isa(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512bf16"))
        return &t5_gemm_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &t5_gemm_avx2;
    return &t5_gemm_portable;
}

__attribute__((constructor)) static void choose(void)
{
    isa = best_isa();
}

const struct t5_gemm_isa *t5_gemm_isa(void)
{
    return isa;
}

const char *t5_gemm_isa_name(void)
{
    return isa->name;
}

int t5_gemm_force(const char *name)
{
    static const struct t5_gemm_isa *const all[] = {&t5_gemm_avx512, &t5_gemm_avx2,
                                                    &t5_gemm_portable};
    int best = 0;
    while (all[best] != best_isa())
        best++;
    for (int i = best; i < 3; i++) /* what comes later in the list is a subset */
        if (!strcmp(all[i]->name, name)) {
            isa = all[i];
            return 0;
        }
    return -1;
}

/* ---- scratch ---- */

int t5_gemm_scratch_make(struct t5_gemm_scratch *scratch, int64_t m, int64_t k, struct t5_err *err)
{
    /* a converted row takes at most 2 bytes an element, a scale, and rounding up to a cache line */
    size_t bytes = (size_t)m * ((size_t)(k + 3) * 2 + sizeof(float) + 64) + 128;
    if (bytes <= scratch->bytes)
        return 0;
    void *data = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!data)
        return t5_fail_memory(err, bytes, "converted activations");
    free(scratch->data);
    *scratch = (struct t5_gemm_scratch){data, bytes};
    return 0;
}

void t5_gemm_scratch_free(struct t5_gemm_scratch *scratch)
{
    if (scratch)
        free(scratch->data);
}

/* ---- frozen weights ---- */

/* A block of rows ready for the tiles: the activations as the weight's math wants them. */
struct rows {
    char *data;
    size_t stride; /* bytes between rows */
    float *scale;
};

static void packed_task(float *y, int64_t ldy, const struct rows *x, int64_t from, int64_t to,
                        const struct t5_packed *w, int64_t panel, int accumulate)
{
    const int64_t steps = (int64_t)(w->panel_bytes / 256);
    const int n = (int)(w->n - panel * NR < NR ? w->n - panel * NR : NR);
    const int64_t tiles = (to - from + MR - 1) / MR;
    const int64_t block =
        w->math == T5_COMPUTE_INT8 ? steps : BLOCK_STEPS; /* int8 sums stay inside */
    const char *b = (const char *)w->panels + panel * (int64_t)w->panel_bytes;
    y += panel * NR;
    for (int64_t s = 0; s < steps; s += block, b += block * 256) {
        const int64_t count = steps - s < block ? steps - s : block;
        const int add = accumulate || s > 0;
        for (int64_t t = 0; t < tiles; t++) {
            /* the first tiles fetch what follows in memory, together all four lines of a step */
            const int lines = tiles == 1 ? 4 : tiles <= 3 ? 2 : 1;
            const struct t5_gemm_ahead ahead = {b + count * 256, (int)t * lines % 4,
                                                t * lines < 4 ? lines : 0};
            const int64_t i = from + t * MR;
            const int m = (int)(to - i < MR ? to - i : MR);
            float *out = y + i * ldy;
            const char *a = x->data + (size_t)i * x->stride;
            if (w->math == T5_COMPUTE_F32)
                isa->f32(out, ldy, (const float *)a + s, (int64_t)(x->stride / 4), 1,
                         (const float *)b, NR, count, m, n, add, &ahead);
            else if (w->math == T5_COMPUTE_BF16)
                isa->bf16(out, ldy, (const uint16_t *)a + 2 * s, (int64_t)(x->stride / 2),
                          (const uint16_t *)b, 2 * count, m, n, add, &ahead);
            else
                isa->int8(out, ldy, (const uint8_t *)a, (int64_t)x->stride, x->scale + i,
                          (const int8_t *)b, w->scale + panel * NR, w->shift + panel * NR,
                          4 * count, m, n, add, &ahead);
        }
    }
}

/* Row i of x to bf16 or to int8 with its scale. */
static void convert_row(const struct rows *to, const float *x, int64_t i, const struct t5_packed *w)
{
    char *out = to->data + (size_t)i * to->stride;
    if (w->math == T5_COMPUTE_BF16)
        isa->round((uint16_t *)(void *)out, x, w->k, w->k_padded);
    else
        isa->quantise((uint8_t *)out, to->scale + i, x, w->k, w->k_padded);
}

/* count rows that fit the scratch at once */
static void packed_rows(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t count,
                        const struct t5_packed *w, int accumulate, struct rows in, int threads)
{
    const int64_t panels = (w->n + NR - 1) / NR, chunks = (count + CHUNK - 1) / CHUNK;
    /* a few rows are converted before the threads are woken, which saves them a barrier */
    const int convert = w->math != T5_COMPUTE_F32, early = convert && count * w->k <= 8192;
    for (int64_t i = 0; early && i < count; i++)
        convert_row(&in, x + i * ldx, i, w);
#pragma omp parallel num_threads(threads) if (threads > 1 && count * w->n * w->k > 32768)
    {
        if (convert && !early) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < count; i++)
                convert_row(&in, x + i * ldx, i, w);
        }
#pragma omp for schedule(static) nowait
        for (int64_t task = 0; task < panels * chunks; task++) {
            const int64_t from = task % chunks * CHUNK, to = from + CHUNK;
            packed_task(y, ldy, &in, from, to < count ? to : count, w, task / chunks, accumulate);
        }
    }
}

void t5_gemm_packed(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m,
                    const struct t5_packed *w, int accumulate, struct t5_gemm_scratch *scratch,
                    int threads)
{
    if (w->math == T5_COMPUTE_F32) { /* read in place */
        const struct rows in = {(char *)(uintptr_t)x, (size_t)ldx * sizeof(float), NULL};
        packed_rows(y, ldy, x, ldx, m, w, accumulate, in, threads);
        return;
    }
    const size_t stride = (size_t)w->k_padded * (w->math == T5_COMPUTE_BF16 ? 2 : 1);
    const int64_t most = (int64_t)((scratch->bytes - 64) / (stride + sizeof(float)));
    for (int64_t first = 0; first < m; first += most) {
        const int64_t count = m - first < most ? m - first : most;
        const size_t scales = ((size_t)count * stride + 63) / 64 * 64; /* behind the rows */
        char *data = scratch->data;
        const struct rows in = {data, stride, (float *)(void *)(data + scales)};
        packed_rows(y + first * ldy, ldy, x + first * ldx, ldx, count, w, accumulate, in, threads);
    }
}

/* ---- weights that change ---- */

/* Copies b(depth, n) into out(depth, NR); columns from n on are left alone, tiles mask them. */
static void pack_view(float *out, struct t5_view b, int64_t depth, int n)
{
    if (b.col == 1) {
        for (int64_t p = 0; p < depth; p++)
            memcpy(out + p * NR, b.data + p * b.row, (size_t)n * sizeof(float));
        return;
    }
    isa->transpose(out, b.data, b.col, n, depth);
}

/* The task-th block of `rows` rows by NR columns of the result, all rows of a panel first. */
static void view_task(float *y, int64_t ldy, struct t5_view a, struct t5_view b, int64_t all_m,
                      int64_t all_n, int64_t k, int accumulate, int64_t rows, int64_t task)
{
    static const struct t5_gemm_ahead nothing = {NULL, 0, 0};
    float panel[DEPTH * NR] __attribute__((aligned(64)));
    const int64_t chunks = (all_m + rows - 1) / rows;
    const int64_t first = task % chunks * rows, j = task / chunks * NR;
    const int64_t m = all_m - first < rows ? all_m - first : rows;
    const int n = (int)(all_n - j < NR ? all_n - j : NR);
    y += first * ldy + j;
    a.data += first * a.row;
    b.data += j * b.col;
    for (int64_t p = 0; p < k; p += DEPTH) {
        const int64_t depth = k - p < DEPTH ? k - p : DEPTH;
        const float *in = b.data + p * b.row;
        int64_t ldb = b.row;
        if (b.col != 1 || m > 2 * MR) {
            pack_view(panel, (struct t5_view){in, b.row, b.col}, depth, n);
            in = panel;
            ldb = NR;
        }
        for (int64_t i = 0; i < m; i += MR)
            isa->f32(y + i * ldy, ldy, a.data + i * a.row + p * a.col, a.row, a.col, in, ldb, depth,
                     (int)(m - i < MR ? m - i : MR), n, accumulate || p > 0, &nothing);
    }
}

void t5_gemm(float *y, int64_t ldy, struct t5_view a, struct t5_view b, int64_t m, int64_t n,
             int64_t k, int accumulate, int threads)
{
    /* wide results share a packed panel among more rows */
    const int64_t rows = n > 4 * NR ? 4 * CHUNK : CHUNK;
    const int64_t tasks = ((n + NR - 1) / NR) * ((m + rows - 1) / rows);
    if (k == 0 && !accumulate) {
        for (int64_t i = 0; i < m; i++)
            memset(y + i * ldy, 0, (size_t)n * sizeof(float));
        return;
    }
    if (threads == 1 || m * n * k <= 32768) { /* also inside a parallel region of the caller's */
        for (int64_t task = 0; task < tasks; task++)
            view_task(y, ldy, a, b, m, n, k, accumulate, rows, task);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t task = 0; task < tasks; task++)
        view_task(y, ldy, a, b, m, n, k, accumulate, rows, task);
}
