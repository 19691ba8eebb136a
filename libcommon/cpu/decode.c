/* decode.c - attention of one decode step: each row's single query against its cache, or against
 * its encoded source. Keys are walked in order of position. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

enum { KEYS = 16 };

static void softmax(const struct t5_device *dev, float *s, int64_t n)
{
    const float sum = dev->rows->exp_sum(s, s, dev->rows->max(s, n), n);
    dev->rows->scale(s, s, 1 / sum, n);
}

/* Positions from `from` on that lie in one slot, at most to position t, whose slot is the row's
 * own. */
static int64_t run_length(const struct t5_decode_rows *rows, int64_t r, int64_t from, int64_t t)
{
    const int32_t *history = rows->history + r * rows->length;
    int64_t n = 1;
    if (from == t)
        return 1;
    while (from + n <= t && (from + n < t ? history[from + n] : rows->slot[r]) == history[from])
        n++;
    return n;
}

static void self_head(const struct t5_device *dev, float *out, const float *k_cache,
                      const float *v_cache, const float *q, float *s, int64_t r, int64_t h,
                      const struct t5_decode_rows *rows, const struct t5_attention *shape)
{
    const int64_t d = shape->d_kv, width = shape->heads * d, t = rows->position[r];
    float *p = s + rows->length;
    for (int64_t j = 0, n; j <= t; j += n) {
        const int64_t slot = j < t ? rows->history[r * rows->length + j] : rows->slot[r];
        n = run_length(rows, r, j, t);
        dev->rows->scores(s + j, q, k_cache + (slot * rows->length + j) * width + h * d, width, n,
                          d);
    }
    if (shape->bias) {
        cpu_bias_line(p, shape, h, -t, t + 1);
        dev->rows->add(s, s, p, t + 1);
    }
    softmax(dev, s, t + 1);
    memset(out, 0, (size_t)d * sizeof *out);
    for (int64_t j = 0, n; j <= t; j += n) {
        const int64_t slot = j < t ? rows->history[r * rows->length + j] : rows->slot[r];
        n = run_length(rows, r, j, t);
        dev->rows->mix(out, s + j, v_cache + (slot * rows->length + j) * width + h * d, width, n,
                       d);
    }
}

void cpu_decode_self(struct t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                     const struct t5_decode_rows *rows, const struct t5_attention *shape)
{
    const int64_t heads = shape->heads, width = heads * shape->d_kv;
    float *kc = k_cache, *vc = v_cache;
    size_t stride;
    float *work = cpu_work(dev, dev->threads, (size_t)(2 * rows->length), &stride);
    if (!work)
        return;
    for (int64_t r = 0; r < rows->n_rows; r++) {
        const int64_t at = rows->slot[r] * rows->length + rows->position[r];
        const float *x = (const float *)qkv + r * 3 * width;
        memcpy(kc + at * width, x + width, (size_t)width * sizeof(float));
        memcpy(vc + at * width, x + 2 * width, (size_t)width * sizeof(float));
    }
    CPU_PARALLEL_FOR(dev, rows->n_rows * width > 1024)
    for (int64_t task = 0; task < rows->n_rows * heads; task++) {
        const int64_t r = task / heads, h = task % heads;
        self_head(dev, (float *)out + r * width + h * shape->d_kv, kc, vc,
                  (const float *)qkv + r * 3 * width + h * shape->d_kv,
                  work + (size_t)omp_get_thread_num() * stride, r, h, rows, shape);
    }
}

/* Heads first..last of one row against its source. Keys are taken KEYS at a time for all the heads,
 * so that memory is read nearly in order. */
static void cross_heads(const struct t5_device *dev, float *out, const float *q, const float *kv,
                        float *s, int64_t n, int64_t first, int64_t last, int64_t d, int64_t width)
{
    const float *v = kv + width;
    for (int64_t j = 0; j < n; j += KEYS)
        for (int64_t h = first; h < last; h++)
            dev->rows->scores(s + (h - first) * n + j, q + h * d, kv + j * 2 * width + h * d,
                              2 * width, n - j < KEYS ? n - j : KEYS, d);
    for (int64_t h = first; h < last; h++)
        softmax(dev, s + (h - first) * n, n);
    memset(out + first * d, 0, (size_t)((last - first) * d) * sizeof *out);
    for (int64_t j = 0; j < n; j += KEYS)
        for (int64_t h = first; h < last; h++)
            dev->rows->mix(out + h * d, s + (h - first) * n + j, v + j * 2 * width + h * d,
                           2 * width, n - j < KEYS ? n - j : KEYS, d);
}

void cpu_decode_cross(struct t5_device *dev, act *out, const act *q, const act *kv,
                      const struct t5_decode_rows *rows, const struct t5_attention *shape)
{
    const int64_t heads = shape->heads, d = shape->d_kv, width = heads * d;
    /* many rows: one a task; few: their heads apart */
    const int64_t together = rows->n_rows >= 8 ? heads : 1, parts = heads / together;
    int64_t longest = 1;
    for (int64_t r = 0; r < rows->n_rows; r++)
        longest = rows->source_count[r] > longest ? rows->source_count[r] : longest;
    size_t stride;
    float *work = cpu_work(dev, dev->threads, (size_t)(longest * together), &stride);
    if (!work)
        return;
    CPU_PARALLEL_FOR(dev, rows->n_rows * width > 256)
    for (int64_t task = 0; task < rows->n_rows * parts; task++) {
        const int64_t r = task / parts, h = task % parts * together;
        cross_heads(dev, (float *)out + r * width, (const float *)q + r * width,
                    (const float *)kv + rows->source_begin[r] * 2 * width,
                    work + (size_t)omp_get_thread_num() * stride, rows->source_count[r], h,
                    h + together, d, width);
    }
}
