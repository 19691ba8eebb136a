/* lora.c - the low-rank path beside a frozen projection, forward and backward (arXiv:2106.09685).
 *   u = drop(x) A^T,  y += scale u B^T;   du = scale dy B,  dB += scale dy^T u,  dA += du^T
 * drop(x), dx += drop'(du A) What concerns rows alone runs on chunks of rows, one thread each; the
 * gradients of A and B are split by their own columns and rows, and sum over tokens in order. */
/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cpu/cpu.h"

enum { CHUNK = 192, PANEL = 64, DEPTH = 256 };

static int64_t rank_sum(const struct t5_lora *lora, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += lora[i].rank;
    return sum;
}

static struct t5_view rows_of(const float *x, int64_t ld)
{
    return (struct t5_view){x, ld, 1};
}
static struct t5_view turned(const float *x, int64_t ld)
{
    return (struct t5_view){x, 1, ld};
}

/* Rows first..first+n of x, dropped out into work, or where they are. */
static struct t5_view dropped(struct t5_device *dev, float *work, const float *x, int64_t ldx,
                              int64_t cols, int64_t first, int64_t n, const struct t5_pack *pack,
                              const struct t5_dropout *drop)
{
    if (!t5_dropout_active(drop))
        return rows_of(x + first * ldx, ldx);
    for (int64_t i = 0; i < n; i++)
        dev->rows->drop(work + i * cols, x + (first + i) * ldx, cols, drop,
                        cpu_place(pack, first + i));
    return rows_of(work, cols);
}

static void copy_scaled(struct t5_device *dev, float *out, const float *u, int64_t ldu, int64_t n,
                        int64_t rank, float scale)
{
    for (int64_t i = 0; i < n; i++)
        dev->rows->scale(out + i * rank, u + i * ldu, scale, rank);
}

void cpu_lora_fwd(struct t5_device *dev, act *y, int64_t ldy, act *u, const act *x, int64_t ldx,
                  int64_t cols, const struct t5_lora *lora, int n_lora, int64_t n,
                  const struct t5_pack *pack)
{
    const int64_t ldu = rank_sum(lora, n_lora);
    size_t stride;
    float *work = cpu_work(dev, dev->threads, (size_t)(CHUNK * (cols + ldu)), &stride);
    if (!work)
        return;
    CPU_PARALLEL_FOR(dev, n * cols > 65536)
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t m = n - from < CHUNK ? n - from : CHUNK;
        float *mine = work + (size_t)omp_get_thread_num() * stride, *scaled = mine + CHUNK * cols;
        float *ui = (float *)u + from * ldu;
        for (int l = 0; l < n_lora; ui += lora[l].rank, l++) {
            const struct t5_lora *at = &lora[l];
            t5_gemm(ui, ldu, dropped(dev, mine, x, ldx, cols, from, m, pack, &at->dropout),
                    turned(at->a, cols), m, at->rank, cols, 0, 1);
            copy_scaled(dev, scaled, ui, ldu, m, at->rank, at->scale);
            t5_gemm((float *)y + from * ldy + at->column, ldy, rows_of(scaled, at->rank),
                    turned(at->b, at->rank), m, at->rows, at->rank, 1, 1);
        }
    }
}

/* du for all, and dx. */
static void backward_rows(struct t5_device *dev, float *dx, int64_t lddx, float *du, int64_t ldu,
                          const float *dy, int64_t lddy, int64_t cols, const struct t5_lora *lora,
                          int n_lora, int64_t n, const struct t5_pack *pack)
{
    size_t stride;
    float *work = cpu_work(dev, dev->threads, (size_t)(CHUNK * cols), &stride);
    if (!work)
        return;
    CPU_PARALLEL_FOR(dev, n * cols > 65536)
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t m = n - from < CHUNK ? n - from : CHUNK;
        float *mine = work + (size_t)omp_get_thread_num() * stride;
        float *dui = du + from * ldu;
        for (int l = 0; l < n_lora; dui += lora[l].rank, l++) {
            const struct t5_lora *at = &lora[l];
            const int masked = t5_dropout_active(&at->dropout);
            t5_gemm(dui, ldu, rows_of(dy + from * lddy + at->column, lddy),
                    rows_of(at->b, at->rank), m, at->rank, at->rows, 0, 1);
            for (int64_t i = 0; i < m; i++)
                dev->rows->scale(dui + i * ldu, dui + i * ldu, at->scale, at->rank);
            if (!dx)
                continue;
            t5_gemm(masked ? mine : dx + from * lddx, masked ? cols : lddx, rows_of(dui, ldu),
                    rows_of(at->a, cols), m, cols, at->rank, !masked, 1);
            for (int64_t i = 0; masked && i < m; i++) {
                float *row = mine + i * cols, *to = dx + (from + i) * lddx;
                dev->rows->drop(row, row, cols, &at->dropout, cpu_place(pack, from + i));
                dev->rows->add(to, to, row, cols);
            }
        }
    }
}

/* dA += du^T drop(x), 64 columns a task; the draws are made again where they are needed. */
static void backward_a(struct t5_device *dev, const struct t5_lora *at, const float *du,
                       int64_t ldu, const float *x, int64_t ldx, int64_t cols, int64_t n,
                       const struct t5_pack *pack)
{
    if (!t5_dropout_active(&at->dropout)) {
        t5_gemm(at->da, cols, turned(du, ldu), rows_of(x, ldx), at->rank, cols, n, 1, dev->threads);
        return;
    }
    CPU_PARALLEL_FOR(dev, n * cols > 65536)
    for (int64_t c = 0; c < cols; c += PANEL) {
        const int64_t wide = cols - c < PANEL ? cols - c : PANEL;
        float panel[DEPTH * PANEL];
        for (int64_t from = 0; from < n; from += DEPTH) {
            const int64_t m = n - from < DEPTH ? n - from : DEPTH;
            for (int64_t i = 0; i < m; i++) {
                struct t5_place place = cpu_place(pack, from + i);
                place.first = (uint32_t)c;
                dev->rows->drop(panel + i * PANEL, x + (from + i) * ldx + c, wide, &at->dropout,
                                place);
            }
            t5_gemm(at->da + c, cols, turned(du + from * ldu, ldu), rows_of(panel, PANEL), at->rank,
                    wide, m, 1, 1);
        }
    }
}

void cpu_lora_bwd(struct t5_device *dev, act *dx, int64_t lddx, act *work, const act *dy,
                  int64_t lddy, const act *u, const act *x, int64_t ldx, int64_t cols,
                  const struct t5_lora *lora, int n_lora, int64_t n, const struct t5_pack *pack)
{
    const int64_t ldu = rank_sum(lora, n_lora);
    backward_rows(dev, dx, lddx, work, ldu, dy, lddy, cols, lora, n_lora, n, pack);
    int64_t first = 0;
    for (int l = 0; l < n_lora; first += lora[l].rank, l++) {
        const struct t5_lora *at = &lora[l];
        size_t stride;
        float *scaled = cpu_work(dev, 1, (size_t)(n * at->rank), &stride);
        if (!scaled)
            return;
        backward_a(dev, at, (const float *)work + first, ldu, x, ldx, cols, n, pack);
        copy_scaled(dev, scaled, (const float *)u + first, ldu, n, at->rank, at->scale);
        t5_gemm(at->db, at->rank, turned((const float *)dy + at->column, lddy),
                rows_of(scaled, at->rank), at->rows, at->rank, n, 1, dev->threads);
    }
}
