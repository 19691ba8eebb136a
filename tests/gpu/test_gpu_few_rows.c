/* test_gpu_few_rows.c - products of 1 to 17 rows with bf16, int8 and e4m3 weights, alone and with
 * what stands around them in a decode step, against ref: odd sizes, poisoned outputs, the same
 * bytes for a row whatever stands beside it. "test_gpu_few_rows time" prints instead how fast such
 * products read FLAN-T5-XXL's matrices. */
/* SPDX-License-Identifier: MIT */
#include "ok.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "base/rng.h"

enum { BF16, INT8, E4M3, KINDS };                    /* of a weight */
static struct t5_backend_handle handles[KINDS], gpu; /* gpu: the one of the case */
static struct t5_device *ref_dev;
static const struct t5_backend *const ref = &t5_backend_ref;

static void *fresh(size_t bytes)
{
    void *p = malloc(bytes + 4);
    assert_non_null(p);
    memset(p, 0xff, bytes + 4);
    return p;
}

/* Values that bf16 holds exactly. */
static float *numbers(int64_t n, uint64_t seed, float size)
{
    float *x = fresh((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        float value = size * ((float)(t5_mix(seed, (uint64_t)i) >> 40) * 0x1p-23f - 1);
        x[i] = t5_bf16_to_f32(t5_f32_to_bf16(value));
    }
    return x;
}

static void *up(const void *host, size_t bytes)
{
    void *p;
    OK(gpu.ops.alloc(gpu.dev, &p, bytes, "a test", &err));
    gpu.ops.upload(gpu.dev, p, host, bytes);
    return p;
}

static void *poison(size_t bytes)
{
    void *host = fresh(bytes), *p = up(host, bytes);
    free(host);
    return p;
}

static void *down(const void *p, size_t bytes)
{
    void *host = fresh(bytes);
    OK(gpu.ops.download(gpu.dev, host, p, bytes, &err));
    return host;
}

struct case_of {
    int64_t rows, cols;
    int kind;
};

/* A value that e4m3 holds exactly, its bits. */
static float e4m3(unsigned bits)
{
    int exponent = (int)(bits >> 3 & 15), mantissa = (int)(bits & 7);
    float size =
        exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    return bits & 128 ? -size : size;
}

/* Returns what its elements are about as large as. */
static double make_matrix(struct t5_matrix *m, const struct case_of *c)
{
    int64_t n = c->rows * c->cols;
    *m = (struct t5_matrix){.rows = c->rows, .cols = c->cols, .type = T5_F32};
    if (c->kind == BF16) {
        m->data = numbers(n, 1, 0.5f);
        return 0.5;
    }
    if (c->kind == E4M3) { /* with 448 in every row, 2^-6 is the scale that a row gets */
        float *w = fresh((size_t)n * sizeof *w);
        for (int64_t i = 0; i < n; i++) {
            unsigned bits = (unsigned)(t5_mix(7, (uint64_t)i) % 256);
            w[i] = ldexpf(e4m3(i % c->cols == 0 ? 0x7e : bits % 128 == 127 ? 0 : bits), -6);
        }
        m->data = w;
        return 3;
    }
    int8_t *q = fresh((size_t)n);
    for (int64_t i = 0; i < n; i++)
        q[i] = (int8_t)((int)(t5_mix(7, (uint64_t)i) % 256) - 128);
    m->data = q;
    m->type = T5_I8;
    m->scale = numbers(c->rows, 8, 0.01f);
    return 1.28;
}

/* The product of n rows into y (n, rows), bf16 as float, and logits. */
static void multiply(float *y, float *logits, const uint16_t *x, int64_t n,
                     const struct t5_weight *w, const struct case_of *c)
{
    size_t outs = (size_t)(n * c->rows);
    void *gx = up(x, (size_t)(n * c->cols) * 2), *gy = poison(outs * 2), *gl = poison(outs * 4);
    gpu.ops.linear_fwd(gpu.dev, gy, c->rows, gx, c->cols, w, n);
    gpu.ops.logits_fwd(gpu.dev, gl, gx, c->cols, w, n, 0.5f);
    uint16_t *b = down(gy, outs * 2);
    float *f = down(gl, outs * 4);
    t5_to_f32(y, b, T5_BF16, outs);
    memcpy(logits, f, outs * 4);
    free(b), free(f);
    gpu.ops.release(gpu.dev, gx), gpu.ops.release(gpu.dev, gy), gpu.ops.release(gpu.dev, gl);
}

struct both {
    struct t5_matrix m;
    struct t5_weight *ref, *gpu;
    double size; /* of a product's result */
};

static void freeze(struct both *w, const struct case_of *c)
{
    unsigned use = T5_USE_FORWARD | T5_USE_STEP;
    gpu = handles[c->kind];
    w->size = make_matrix(&w->m, c) * sqrt((double)c->cols);
    OK(ref->weight_freeze(ref_dev, &w->ref, &w->m, 1, use, &err));
    OK(gpu.ops.weight_freeze(gpu.dev, &w->gpu, &w->m, 1, use, &err));
}

static void thaw(struct both *w)
{
    ref->weight_free(ref_dev, w->ref);
    gpu.ops.weight_free(gpu.dev, w->gpu);
    free((void *)w->m.data), free((void *)w->m.scale);
}

static void check(const struct case_of *c)
{
    enum { MOST = 17 };
    struct both w;
    size_t ins = (size_t)(MOST * c->cols), outs = (size_t)(MOST * c->rows);
    float *x = numbers((int64_t)ins, 2, 1), *want = fresh(outs * 4), *want_l = fresh(outs * 4);
    float *y = fresh(outs * 4), *l = fresh(outs * 4), *y1 = fresh(outs * 4), *l1 = fresh(outs * 4);
    uint16_t *half = fresh(ins * 2);
    t5_from_f32(half, x, T5_BF16, ins);
    freeze(&w, c);
    ref->linear_fwd(ref_dev, want, c->rows, x, c->cols, w.ref, MOST);
    ref->logits_fwd(ref_dev, want_l, x, c->cols, w.ref, MOST, 0.5f);
    for (int n = 1; n <= MOST - (c->kind == E4M3); n++) {
        multiply(y, l, half, n, w.gpu, c);
        assert_close(y, want, n * c->rows, 4e-3 * w.size, 8e-3, "y");
        /* 17 rows go another way, int8 through bf16. e4m3 would have both sides in 8 bits. */
        int exact = n < MOST && c->cols % 16 == 0;
        assert_close(l, want_l, n * c->rows, (exact ? 1e-5 : 4e-3) * w.size, 1e-4, "logits");
        int whole = c->cols % (c->kind == BF16 ? 8 : 16) == 0;
        for (int64_t i = 0; whole && i < n && (n == 8 || n == 16);
             i++) { /* alone: the same bytes */
            multiply(y1, l1, half + i * c->cols, 1, w.gpu, c);
            assert_memory_equal(y1, y + i * c->rows, (size_t)c->rows * 4);
            assert_memory_equal(l1, l + i * c->rows, (size_t)c->rows * 4);
        }
    }
    thaw(&w);
    void *const owned[] = {x, want, want_l, y, l, y1, l1, half};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
}

static const int64_t sizes[][2] = {{6, 16},   {16, 64},   {34, 80},   {50, 208},  {8, 512},
                                   {24, 528}, {18, 2064}, {64, 4096}, {16, 10240}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void test_few_rows(void **state)
{
    (void)state;
    for (int i = 0; i < N_SIZES; i++)
        for (int kind = 0; kind < KINDS; kind++)
            check(&(struct case_of){sizes[i][0], sizes[i][1], kind});
    for (int kind = 0; kind < E4M3; kind++) { /* no multiple of what a lane reads */
        check(&(struct case_of){9, 8, kind});
        check(&(struct case_of){9, 20, kind});
    }
}

/* norm_linear in its three ends, and linear_add, of n rows. */
static void check_together(const struct case_of *c, int n)
{
    struct both w;
    int64_t ins = n * c->cols, outs = n * c->rows;
    float *x = numbers(ins, 3, 4), *norm = numbers(c->cols, 4, 1), *a = numbers(ins, 2, 1);
    float *y = fresh((size_t)ins * 4), *want = fresh((size_t)outs * 4),
          *h = fresh((size_t)outs * 4);
    float *stream = numbers(outs, 5, 4), *got = fresh((size_t)outs * 4);
    uint16_t *half = fresh((size_t)(ins + outs) * 2);
    freeze(&w, c);
    float *gx = up(x, (size_t)ins * 4), *gn = up(norm, (size_t)c->cols * 4);
    ref->norm_fwd(ref_dev, x, y, x, NULL, norm, n, c->cols, 1e-6f, NULL, NULL, NULL, NULL);
    ref->linear_fwd(ref_dev, want, c->rows, y, c->cols, w.ref, n);
    ref->glu_fwd(ref_dev, h, want, n, c->rows / 2, T5_GLU_GELU_NEW, 1, NULL, NULL, NULL);
    for (int end = T5_STEP_ACT; end <= T5_STEP_LOGITS; end++) {
        int logits = end == T5_STEP_LOGITS, gated = end == T5_STEP_GATED;
        size_t results = (size_t)outs / (gated ? 2 : 1), each = logits ? 4 : 2;
        void *gy = poison(results * each), *host;
        assert_int_equal(gpu.ops.norm_linear(gpu.dev, gy, gx, gn, 1e-6f, w.gpu, n,
                                             (enum t5_step_end)end, T5_GLU_GELU_NEW,
                                             logits ? 0.5f : 1, end ? w.gpu : NULL),
                         1);
        host = down(gy, results * each);
        t5_to_f32(got, host, logits ? T5_F32 : T5_BF16, results);
        for (size_t i = 0; logits && i < results; i++)
            got[i] *= 2;
        /* two of the gated factors are off, each as much as a product */
        assert_close(got, gated ? h : want, (int64_t)results,
                     4e-3 * w.size * (gated ? 2 * w.size : 1), 2e-2,
                     gated ? "gated" : "norm + product");
        gpu.ops.release(gpu.dev, gy), free(host);
    }
    t5_from_f32(half, a, T5_BF16, (size_t)ins);
    void *ga = up(half, (size_t)ins * 2);
    float *gs = up(stream, (size_t)outs * 4);
    ref->linear_fwd(ref_dev, want, c->rows, a, c->cols, w.ref, n);
    for (int64_t i = 0; i < outs; i++)
        want[i] += stream[i];
    assert_int_equal(gpu.ops.linear_add(gpu.dev, gs, ga, w.gpu, n, w.gpu), 1);
    OK(gpu.ops.download(gpu.dev, got, gs, (size_t)outs * 4, &err));
    assert_close(got, want, outs, 2e-5 * w.size, 1e-4, "added");
    thaw(&w);
    void *const dev[] = {gx, gn, ga, gs}, *const host[] = {x, norm,   a,   y,   want,
                                                           h, stream, got, half};
    for (int i = 0; i < 4; i++)
        gpu.ops.release(gpu.dev, dev[i]);
    for (int i = 0; i < 9; i++)
        free(host[i]);
}

static void test_together(void **state)
{
    (void)state;
    static const int rows[] = {1, 2, 8, 11, 16};
    for (int i = 0; i < N_SIZES; i++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int n = 0; n < 5; n++)
                check_together(&(struct case_of){sizes[i][0], sizes[i][1], kind}, rows[n]);
    struct both w;
    freeze(&w, &(struct case_of){9, 20, INT8});
    float x[20] = {0}, *gx = up(x, sizeof x);
    assert_int_equal(gpu.ops.linear_add(gpu.dev, gx, gx, w.gpu, 1, NULL), 0);
    assert_int_equal(
        gpu.ops.norm_linear(gpu.dev, gx, gx, gx, 0, w.gpu, 1, T5_STEP_ACT, T5_GLU_RELU, 1, NULL),
        0);
    gpu.ops.release(gpu.dev, gx);
    thaw(&w);
}

/* ---- speed ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Enough copies that the caches are no help, each several times; alone, or normalised in front. */
static void time_product(const struct case_of *c, int n, int with_norm)
{
    enum { COPIES = 4, TIMES = 50 };
    struct t5_matrix m;
    struct t5_weight *w[COPIES];
    size_t ins = (size_t)(n * c->cols);
    gpu = handles[c->kind];
    make_matrix(&m, c);
    float *x = numbers((int64_t)ins, 2, 1), *gf = up(x, ins * 4);
    uint16_t *half = fresh(ins * 2);
    t5_from_f32(half, x, T5_BF16, ins);
    void *gx = up(half, ins * 2), *gy = poison((size_t)(n * c->rows) * 2);
    for (int i = 0; i < COPIES; i++)
        OK(gpu.ops.weight_freeze(gpu.dev, &w[i], &m, 1, T5_USE_FORWARD, &err));
    double start = 0;
    for (int i = -COPIES; i < TIMES * COPIES; i++) {
        if (i == 0) {
            OK(gpu.ops.sync(gpu.dev, &err));
            start = now();
        }
        if (with_norm)
            gpu.ops.norm_linear(gpu.dev, gy, gf, gf, 1e-6f, w[(i + COPIES) % COPIES], n,
                                T5_STEP_ACT, T5_GLU_RELU, 1, w[(i + COPIES + 1) % COPIES]);
        else
            gpu.ops.linear_fwd(gpu.dev, gy, c->rows, gx, c->cols, w[(i + COPIES) % COPIES], n);
    }
    OK(gpu.ops.sync(gpu.dev, &err));
    double each = (now() - start) / (TIMES * COPIES);
    double bytes = (double)(c->rows * c->cols * (c->kind == BF16 ? 2 : 1));
    static const char *const names[] = {"bf16", "int8", "e4m3"};
    printf("%s %s%6lld x %5lld, %2d rows: %6.1f us, %5.0f GB/s\n", names[c->kind],
           with_norm ? "norm + " : "", (long long)c->rows, (long long)c->cols, n, each * 1e6,
           bytes / each * 1e-9);
    for (int i = 0; i < COPIES; i++)
        gpu.ops.weight_free(gpu.dev, w[i]);
    gpu.ops.release(gpu.dev, gx), gpu.ops.release(gpu.dev, gy), gpu.ops.release(gpu.dev, gf);
    free((void *)m.data), free((void *)m.scale), free(x), free(half);
}

static void time_all(void)
{
    static const int64_t shapes[][2] = {{12288, 4096}, {4096, 4096}, {20480, 4096}, {4096, 10240}};
    static const int rows[] = {1, 4, 16};
    for (int kind = 0; kind < KINDS; kind++)
        for (int s = 0; s < 4; s++)
            for (int i = 0; i < 3; i++)
                if (kind == INT8 ? i == 0 || s == 0 : i == 0 && s == 0)
                    time_product(&(struct case_of){shapes[s][0], shapes[s][1], kind}, rows[i], 0);
    time_product(&(struct case_of){12288, 4096, INT8}, 1, 1);
    time_product(&(struct case_of){4096, 4096, INT8}, 1, 1);
}

int main(int argc, char **argv)
{
    struct t5_err err = {0};
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_few_rows),
                                       cmocka_unit_test(test_together)};
    int failed = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        struct t5_device_options options = {.compute =
                                                kind == E4M3 ? T5_COMPUTE_FP8 : T5_COMPUTE_BF16};
        if ((kind == 0 && ref->open(&ref_dev, &options, &err)) ||
            t5_backend_open(&handles[kind], "cuda", &options, &err)) {
            print_error("%s\n", err.text);
            return 1;
        }
    }
    if (argc > 1 && strcmp(argv[1], "time") == 0)
        time_all();
    else
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    ref->close(ref_dev);
    for (int kind = 0; kind < KINDS; kind++)
        t5_backend_close(&handles[kind]);
    return failed;
}
