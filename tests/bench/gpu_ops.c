/* gpu_ops.c - times a backend's products and element-wise operators at FLAN-T5-XXL's shapes; JSONL,
 * one line an operator and shape. Operands are Gaussian-like: zeros run faster than data.
 * usage: gpu_ops [DEVICE [COMPUTE [TOKENS...]]]     defaults: cuda bf16 1300 3328 9000 16384 */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/buf.h"
#include "base/program.h"
#include "base/rng.h"

#define BLOCK ((int64_t)1 << 20) /* random values, repeated */
#define TARGET 0.05              /* seconds measured */

enum { D = 4096, F = 10240, SEQS = 64 };

struct bench {
    struct t5_backend_handle b;
    const char *compute;
    uint16_t *normal; /* host (BLOCK) bf16, about N(0, 1) */
    struct t5_err err;
};

static void fill_normal(uint16_t *out)
{
    const uint32_t key[2] = {1, 2};
    for (int64_t i = 0; i < BLOCK; i++) {
        uint32_t counter[4] = {(uint32_t)i, 0, 0, 0};
        struct t5_philox draw = t5_philox(counter, key);
        float sum = -2;
        for (int k = 0; k < 4; k++)
            sum += t5_uniform(draw.v[k]);
        out[i] = t5_f32_to_bf16(sum * 1.7320508f);
    }
}

/* Device memory of n elements of 2 or 4 bytes, N(0, 1). */
static void *values(struct bench *x, int64_t n, int floats)
{
    void *p;
    size_t size = floats ? 4 : 2;
    if (x->b.ops.alloc(x->b.dev, &p, (size_t)n * size, "operands", &x->err))
        return NULL;
    float *wide = floats ? malloc((size_t)BLOCK * 4) : NULL;
    if (wide)
        t5_to_f32(wide, x->normal, T5_BF16, (size_t)BLOCK);
    for (int64_t at = 0; at < n; at += BLOCK)
        x->b.ops.upload(x->b.dev, (char *)p + (size_t)at * size,
                        floats ? (void *)wide : (void *)x->normal,
                        (size_t)(n - at < BLOCK ? n - at : BLOCK) * size);
    free(wide);
    return p;
}

/* What is timed. */
struct work {
    enum { FORWARD, BACK, NORM, NORM_BACK, GLU, GLU_BACK } kind;
    const char *name;
    int64_t n, rows, cols;
    struct t5_weight *w;
    act *x, *y, *dy;
    float *stream, *gain;
    struct t5_pack pack;
    struct t5_dropout drop;
};

static void launch(struct bench *x, const struct work *k)
{
    const struct t5_backend *o = &x->b.ops;
    switch (k->kind) {
    case FORWARD:
        o->linear_fwd(x->b.dev, k->y, k->rows, k->x, k->cols, k->w, k->n);
        break;
    case BACK:
        o->linear_bwd_input(x->b.dev, k->x, k->cols, k->y, k->rows, k->w, k->n, 0);
        break;
    case NORM:
        o->norm_fwd(x->b.dev, k->stream, k->y, k->stream, k->x, k->gain, k->n, D, 1e-6f, &k->pack,
                    &k->drop, NULL, NULL);
        break;
    case NORM_BACK:
        o->norm_bwd(x->b.dev, (float *)k->dy, k->x, NULL, k->y, k->stream, k->gain, k->n, D, 1e-6f,
                    &k->pack, &k->drop, NULL, NULL);
        break;
    case GLU:
        o->glu_fwd(x->b.dev, k->y, k->x, k->n, F, T5_GLU_GELU_NEW, 1, &k->pack, &k->drop, NULL);
        break;
    default:
        o->glu_bwd(x->b.dev, k->dy, k->y, k->x, k->n, F, T5_GLU_GELU_NEW, 1, &k->pack, &k->drop, NULL);
    }
}

/* Seconds a launch: warmed up, then as many as make a measurement. */
static int measure(double *out, struct bench *x, const struct work *k)
{
    double spent = 0;
    launch(x, k); /* chooses algorithms */
    for (int64_t times = 3; spent<TARGET; times = spent> 1e-4
                                ? (int64_t)(1.2 * TARGET / spent * (double)times) + 1
                                : times * 8) {
        if (x->b.ops.sync(x->b.dev, &x->err))
            return -1;
        double start = t5_now();
        for (int64_t i = 0; i < times; i++)
            launch(x, k);
        if (x->b.ops.sync(x->b.dev, &x->err))
            return -1;
        spent = t5_now() - start;
        *out = spent / (double)times;
    }
    return 0;
}

static int report(struct bench *x, const struct work *k, double bytes)
{
    double seconds;
    if (measure(&seconds, x, k))
        return -1;
    printf("{\"bench\":\"gpu_ops\",\"compute\":\"%s\",\"op\":\"%s\",\"n\":%lld", x->compute,
           k->name, (long long)k->n);
    if (k->w)
        printf(",\"rows\":%lld,\"cols\":%lld,\"us\":%.1f,\"tflops\":%.0f}\n", (long long)k->rows,
               (long long)k->cols, seconds * 1e6,
               2e-12 * (double)k->n * (double)k->rows * (double)k->cols / seconds);
    else
        printf(",\"us\":%.1f,\"GB/s\":%.0f}\n", seconds * 1e6, bytes * 1e-9 / seconds);
    return 0;
}

static int products(struct bench *x, int64_t rows, int64_t cols, const char *const *tokens,
                    int n_tokens)
{
    struct work k = {.rows = rows, .cols = cols};
    size_t size = (size_t)(rows * cols);
    uint16_t *host = malloc(size * 2);
    int rc = host ? 0 : -1;
    for (size_t at = 0; rc == 0 && at < size; at += (size_t)BLOCK)
        memcpy(host + at, x->normal, (size - at < (size_t)BLOCK ? size - at : (size_t)BLOCK) * 2);
    struct t5_matrix m = {.data = host, .type = T5_BF16, .rows = rows, .cols = cols};
    rc = rc ||
         x->b.ops.weight_freeze(x->b.dev, &k.w, &m, 1, T5_USE_FORWARD | T5_USE_INPUT_GRAD, &x->err);
    for (int i = 0; rc == 0 && i < n_tokens; i++) {
        k.n = atoll(tokens[i]);
        k.x = values(x, k.n * cols, 0);
        k.y = values(x, k.n * rows, 0);
        k.kind = FORWARD, k.name = "linear_fwd";
        rc = !k.x || !k.y || report(x, &k, 0);
        k.kind = BACK, k.name = "linear_bwd_input";
        rc = rc || report(x, &k, 0);
        x->b.ops.release(x->b.dev, k.x);
        x->b.ops.release(x->b.dev, k.y);
    }
    x->b.ops.weight_free(x->b.dev, k.w);
    free(host);
    return rc ? -1 : 0;
}

/* One packed batch of SEQS equal sequences. */
static int lay_pack(struct bench *x, struct t5_pack *pack, int64_t n)
{
    int32_t offsets[SEQS + 1], *seq = malloc((size_t)n * 4);
    uint32_t record[SEQS];
    void *on[3] = {0};
    if (!seq)
        return -1;
    for (int64_t i = 0; i <= SEQS; i++)
        offsets[i] = (int32_t)(i * n / SEQS);
    for (int i = 0; i < SEQS; i++) {
        record[i] = (uint32_t)i;
        for (int32_t t = offsets[i]; t < offsets[i + 1]; t++)
            seq[t] = i;
    }
    const void *host[] = {offsets, seq, record};
    const size_t bytes[] = {sizeof offsets, (size_t)n * 4, sizeof record};
    int rc = 0;
    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = x->b.ops.alloc(x->b.dev, &on[i], bytes[i], "a batch", &x->err);
        if (rc == 0)
            x->b.ops.upload(x->b.dev, on[i], host[i], bytes[i]);
    }
    *pack = (struct t5_pack){n, SEQS, n / SEQS + 1, on[0], on[1], on[2]};
    free(seq);
    return rc;
}

static int rows_of(struct bench *x, int64_t n)
{
    struct work k = {.n = n, .drop = {.p = 0.1f, .key = {3, 4}, .site = 5}};
    double d = (double)n * D, f = (double)n * F;
    int rc = lay_pack(x, &k.pack, n);
    k.stream = values(x, n * D, 1);
    k.gain = values(x, D, 1);
    k.x = values(x, n * 2 * F, 0);
    k.y = values(x, n * F, 0);
    k.dy = values(x, n * 2 * F, 0);
    rc = rc || !k.stream || !k.gain || !k.x || !k.y || !k.dy;
    k.kind = NORM, k.name = "norm_fwd"; /* x and delta read, x and y written */
    rc = rc || report(x, &k, d * 12);
    k.kind = NORM_BACK, k.name = "norm_bwd"; /* dx, x, dy read, dx and ddelta written */
    rc = rc || report(x, &k, d * 16);
    k.kind = GLU, k.name = "glu_fwd";
    rc = rc || report(x, &k, f * 6);
    k.kind = GLU_BACK, k.name = "glu_bwd";
    rc = rc || report(x, &k, f * 10);
    void *const all[] = {k.stream,
                         k.gain,
                         k.x,
                         k.y,
                         k.dy,
                         (void *)k.pack.offsets,
                         (void *)k.pack.seq,
                         (void *)k.pack.record};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        x->b.ops.release(x->b.dev, all[i]);
    return rc ? -1 : 0;
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"1300", "3328", "9000", "16384"};
    static const int64_t shapes[][2] = {{3 * D, D}, {D, D}, {2 * F, D}, {D, F}};
    struct bench x = {.compute = argc > 2 ? argv[2] : "bf16"};
    struct t5_device_options options = {.compute = t5_compute_named(x.compute)};
    const char *const *tokens = argc > 3 ? (const char *const *)argv + 3 : usual;
    int n = argc > 3 ? argc - 3 : 4;
    x.normal = malloc((size_t)BLOCK * 2);
    int rc = !x.normal || t5_backend_open(&x.b, argc > 1 ? argv[1] : "cuda", &options, &x.err);
    if (rc == 0)
        fill_normal(x.normal);
    for (int i = 0; rc == 0 && i < 4; i++)
        rc = products(&x, shapes[i][0], shapes[i][1], tokens, n);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = rows_of(&x, atoll(tokens[i]));
    if (rc)
        fprintf(stderr, "gpu_ops: %s\n", x.err.text);
    t5_backend_close(&x.b);
    free(x.normal);
    return rc ? 1 : 0;
}
