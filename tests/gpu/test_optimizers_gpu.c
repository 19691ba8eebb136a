/* test_optimizers_gpu.c - Adafactor and AdamW with 8-bit states on the CUDA backend against ref:
 * three steps, each from ref's own state, since a code that lies between two values may fall either
 * way. */
/* SPDX-License-Identifier: MIT */
#include "../unit/compare.h"

#include <stdlib.h>
#include <string.h>

#include "backend/dynamic_map.h"
#include "base/rng.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call)                                                                                  \
            fail_msg("%s", err.text);                                                              \
    } while (0)

static struct t5_backend_handle ref, gpu;
static struct t5_err err;

enum { MOST = 12 }; /* buffers of a case */
/* Memory on both sides: host[i] is ref's, device[i] the card's. */
struct pair {
    void *host[MOST], *device[MOST];
    size_t bytes[MOST];
    int n;
};

static void *add(struct pair *p, size_t bytes)
{
    int i = p->n++;
    p->bytes[i] = bytes;
    p->host[i] = calloc(1, bytes);
    OK(gpu.ops.alloc(gpu.dev, &p->device[i], bytes, "a test", &err));
    return p->host[i];
}

/* What ref has, to the card. */
static void push(const struct pair *p)
{
    for (int i = 0; i < p->n; i++)
        gpu.ops.upload(gpu.dev, p->device[i], p->host[i], p->bytes[i]);
    OK(gpu.ops.sync(gpu.dev, &err));
}

static void *pull(const struct pair *p, int i)
{
    void *copy = malloc(p->bytes[i]);
    OK(gpu.ops.download(gpu.dev, copy, p->device[i], p->bytes[i], &err));
    return copy;
}

static void compare_floats(const struct pair *p, int i, const char *what)
{
    float *got = pull(p, i);
    assert_close(got, p->host[i], (int64_t)(p->bytes[i] / sizeof *got), 1e-7, 2e-5, what);
    free(got);
}

static void drop(struct pair *p)
{
    for (int i = 0; i < p->n; i++) {
        free(p->host[i]);
        gpu.ops.release(gpu.dev, p->device[i]);
    }
}

static void draw(float *out, int64_t n, uint64_t seed, float size)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = size * ((float)(t5_mix(seed, (uint64_t)i) % 20001) / 10000 - 1);
}

/* Parameters, gradients, the norm: buffers 0, 1, 2. */
static void start(struct pair *p, int64_t n)
{
    *p = (struct pair){0};
    draw(add(p, (size_t)n * sizeof(float)), n, 1, 1);
    add(p, (size_t)n * sizeof(float));
    add(p, sizeof(double));
}

static void next_gradient(struct pair *p, int64_t n, int step)
{
    draw(p->host[1], n, (uint64_t)step + 10, 2);
    ref.ops.sum_squares(ref.dev, p->host[2], p->host[1], n);
    push(p);
}

/* A norm that is not finite changes nothing. */
static void poison_norm(struct pair *p)
{
    double bad = NAN;
    gpu.ops.upload(gpu.dev, p->device[2], &bad, sizeof bad);
}

static void check_adafactor(int64_t rows, int64_t cols, int vector, float clip)
{
    struct pair p;
    int64_t n = rows * cols;
    start(&p, n);
    add(&p, (size_t)(vector ? n : rows) * sizeof(float));
    if (!vector)
        add(&p, (size_t)cols * sizeof(float));
    for (int step = 1; step <= 4; step++) {
        struct t5_adafactor how = {.lr = 0.01f,
                                   .decay = (float)(1 - pow(step, -0.8)),
                                   .weight_decay = 0.05f,
                                   .clip = clip};
        next_gradient(&p, n, step);
        if (step == 4)
            poison_norm(&p);
        else
            ref.ops.adafactor(ref.dev, p.host[0], p.host[1], p.host[3], vector ? NULL : p.host[4],
                              rows, cols, &how, p.host[2]);
        gpu.ops.adafactor(gpu.dev, p.device[0], p.device[1], p.device[3],
                          vector ? NULL : p.device[4], rows, cols, &how, p.device[2]);
        compare_floats(&p, 0, "adafactor");
        compare_floats(&p, 3, "row");
        if (!vector)
            compare_floats(&p, 4, "col");
    }
    drop(&p);
}

static void test_adafactor(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {1, 9}, {9, 1}, {7, 77}, {64, 64}, {513, 1030}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int vector = 0; vector < 2; vector++)
            check_adafactor(shapes[i][0], shapes[i][1], vector, i % 2 ? 0.5f : 0);
}

static void compare_codes(const struct pair *p, int i)
{
    uint8_t *got = pull(p, i), *want = p->host[i];
    for (size_t k = 0; k < p->bytes[i]; k++)
        assert_true(abs(got[k] - want[k]) <= 1);
    free(got);
}

static void check_adamw8(int64_t n, float clip)
{
    struct pair p;
    size_t blocks = (size_t)((n + T5_BLOCK8 - 1) / T5_BLOCK8);
    start(&p, n);
    add(&p, (size_t)n);
    add(&p, (size_t)n);
    add(&p, blocks * sizeof(float));
    add(&p, blocks * sizeof(float));
    t5_dynamic_maps(add(&p, 2 * T5_MAP * sizeof(float)));
    for (int step = 1; step <= 4; step++) {
        struct t5_adamw how = {.lr = 0.01f,
                               .beta1 = 0.9f,
                               .beta2 = 0.999f,
                               .eps = 1e-8f,
                               .weight_decay = 0.05f,
                               .clip = clip,
                               .step = step};
        next_gradient(&p, n, step);
        if (step == 4)
            poison_norm(&p);
        else
            ref.ops.adamw8(ref.dev, p.host[0], p.host[1], p.host[3], p.host[4], p.host[5],
                           p.host[6], n, p.host[7], &how, p.host[2]);
        gpu.ops.adamw8(gpu.dev, p.device[0], p.device[1], p.device[3], p.device[4], p.device[5],
                       p.device[6], n, p.device[7], &how, p.device[2]);
        compare_floats(&p, 0, "8-bit AdamW");
        compare_floats(&p, 5, "scale of m");
        compare_floats(&p, 6, "scale of v");
        compare_codes(&p, 3);
        compare_codes(&p, 4);
    }
    drop(&p);
}

static void test_adamw8(void **state)
{
    static const int64_t sizes[] = {1, 255, 256, 257, 4096, 100003};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_adamw8(sizes[i], i % 2 ? 0.5f : 0);
}

static int setup(void **state)
{
    struct t5_device_options options = {.threads = 1, .compute = T5_COMPUTE_F32};
    (void)state;
    if (t5_backend_open(&ref, "ref", &options, &err) ||
        t5_backend_open(&gpu, "cuda", &options, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    t5_backend_close(&ref);
    t5_backend_close(&gpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adafactor),
        cmocka_unit_test(test_adamw8),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
