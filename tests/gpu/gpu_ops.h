/* gpu_ops.h - what the tests of single operators share: operands on both sides, packed batches,
 * comparison, opening ref and the card. Each test program includes it once. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEST_GPU_OPS_H
#define T5_TEST_GPU_OPS_H

#include "ok.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/nf4.h"
#include "base/rng.h"

static struct t5_backend_handle gpu;
static struct t5_device *ref_dev;
static const struct t5_backend *const ref = &t5_backend_ref;
static int half; /* activations are bf16 */

/* What an operator's result may be off by: f32 against double sums, or bf16's half unit in the last
 * place. */
static inline double slack(double size)
{
    return half ? 1e-2 * size : 2e-5 * size;
}
static inline double rtol(void)
{
    return half ? 1.2e-2 : 2e-5;
}

static inline void *fresh(size_t bytes)
{
    void *p = malloc(bytes + 4);
    assert_non_null(p);
    memset(p, 0xff, bytes + 4);
    return p;
}

static inline float *floats(int64_t n, uint64_t seed, float size)
{
    float *x = fresh((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = size * ((float)(t5_mix(seed, (uint64_t)i) >> 40) * 0x1p-23f - 1);
    return x;
}

/* Activations: values that the device's type holds exactly, so that both sides start from the same.
 */
static inline float *acts(int64_t n, uint64_t seed, float size)
{
    float *x = floats(n, seed, size);
    for (int64_t i = 0; half && i < n; i++)
        x[i] = t5_bf16_to_f32(t5_f32_to_bf16(x[i]));
    return x;
}

/* ---- device copies ---- */

static inline void *up(const void *host, size_t bytes)
{
    void *p;
    OK(gpu.ops.alloc(gpu.dev, &p, bytes, "a test", &err));
    gpu.ops.upload(gpu.dev, p, host, bytes);
    return p;
}

static inline float *up_f(const float *host, int64_t n)
{
    return up(host, (size_t)n * sizeof *host);
}

static inline void *up_act(const float *host, int64_t n)
{
    uint16_t *b = fresh((size_t)n * 2);
    void *p;
    if (!half)
        return up_f(host, n);
    t5_from_f32(b, host, T5_BF16, (size_t)n);
    p = up(b, (size_t)n * 2);
    free(b);
    return p;
}

static inline void *poison(size_t bytes)
{
    void *host = fresh(bytes), *p = up(host, bytes);
    free(host);
    return p;
}
static inline size_t act_bytes(int64_t n)
{
    return (size_t)n * (half ? 2 : 4);
}

static inline float *down_f(const void *p, int64_t n)
{
    float *host = fresh((size_t)n * sizeof *host);
    OK(gpu.ops.download(gpu.dev, host, p, (size_t)n * sizeof *host, &err));
    return host;
}

static inline float *down_act(const void *p, int64_t n)
{
    uint16_t *b = fresh((size_t)n * 2);
    float *host;
    if (!half)
        return down_f(p, n);
    OK(gpu.ops.download(gpu.dev, b, p, (size_t)n * 2, &err));
    host = fresh((size_t)n * sizeof *host);
    t5_to_f32(host, b, T5_BF16, (size_t)n);
    free(b);
    return host;
}

static inline void drop_dev(void *p)
{
    gpu.ops.release(gpu.dev, p);
}

static inline void same(float *got, const float *want, int64_t n, double size, const char *what)
{
    char label[100];
    snprintf(label, sizeof label, "%s %s", half ? "bf16" : "f32", what);
    assert_close(got, want, n, slack(size), rtol(), label);
    free(got);
}

/* ---- packed batches, on both sides ---- */

struct batch {
    struct t5_pack host, dev;
    int32_t offsets[9], *seq;
    uint32_t record[8];
};

static inline void batch_init(struct batch *b, const int *lengths, int n)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < n; i++) {
        b->record[i] = 1000u + 7u * (uint32_t)i;
        b->offsets[i + 1] = b->offsets[i] + lengths[i];
        b->host.longest = lengths[i] > b->host.longest ? lengths[i] : b->host.longest;
    }
    b->host.n_tokens = b->offsets[n];
    b->host.n_seqs = n;
    b->seq = fresh((size_t)b->offsets[n] * sizeof *b->seq);
    for (int i = 0; i < n; i++)
        for (int t = b->offsets[i]; t < b->offsets[i + 1]; t++)
            b->seq[t] = i;
    b->host.offsets = b->offsets;
    b->host.seq = b->seq;
    b->host.record = b->record;
    b->dev = b->host;
    b->dev.offsets = up(b->offsets, (size_t)(n + 1) * 4);
    b->dev.seq = up(b->seq, (size_t)b->offsets[n] * 4);
    b->dev.record = up(b->record, (size_t)n * 4);
}

static inline void batch_free(struct batch *b)
{
    drop_dev((void *)b->dev.offsets);
    drop_dev((void *)b->dev.seq);
    drop_dev((void *)b->dev.record);
    free(b->seq);
}

static const int one[] = {1}, some[] = {5, 1, 60, 13}, other[] = {3, 50, 7, 1},
                 longer[] = {130, 700, 17, 64};
static const struct {
    const int *q, *k;
    int n;
} batches[] = {
    {one, one, 1}, {some, other, 4}, {other, some, 4}, {longer, longer, 4}, {other, longer, 4}};
enum { N_BATCHES = sizeof batches / sizeof *batches };

static inline struct t5_dropout dropout(float p, uint32_t site)
{
    return (struct t5_dropout){p, {0x1234567, 0x89abcdef}, site};
}

/* ---- opening ---- */

static int setup_as(enum t5_compute compute)
{
    struct t5_device_options options = {.compute = compute};
    struct t5_err err = {0};
    if (ref->open(&ref_dev, &options, &err) || t5_backend_open(&gpu, "cuda", &options, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ref->close(ref_dev);
    t5_backend_close(&gpu);
    return 0;
}

#endif
