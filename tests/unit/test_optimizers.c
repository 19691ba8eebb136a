/* test_optimizers.c - Adafactor against transformers and AdamW with 8-bit states against
 * bitsandbytes (testdata/golden/optimizers.jsonl), on every backend; the maps of 8-bit codes; odd
 * sizes. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "backend/dynamic_map.h"
#include "base/rng.h"

#define MOST 4096

struct golden { /* a row of the file */
    char name[16];
    int64_t rows, cols;
    int vector, steps;
    double lr, weight_decay;
    float p[MOST];
    json_t *states; /* 8 bit: after each step; or NULL */
};

/* tests/golden/optimizers.py: parameter i is value(i, 1000), its gradient in step t value(i, t). */
static float value(int64_t i, int t)
{
    return ldexpf((float)((i * 37 + t * 101) % 97 - 48) / 64, -(int)(i % 9));
}

static int read_golden(struct golden *g, FILE *f)
{
    static char line[1 << 17];
    if (!fgets(line, sizeof line, f))
        return 0;
    json_t *row = json_loads(line, 0, NULL), *p = json_object_get(row, "p");
    snprintf(g->name, sizeof g->name, "%s", json_string_value(json_object_get(row, "name")));
    g->rows = json_integer_value(json_object_get(row, "rows"));
    g->cols = json_integer_value(json_object_get(row, "cols"));
    g->vector = json_is_true(json_object_get(row, "vector"));
    g->steps = (int)json_integer_value(json_object_get(row, "steps"));
    g->lr = json_number_value(json_object_get(row, "lr"));
    g->weight_decay = json_number_value(json_object_get(row, "weight_decay"));
    assert_int_equal(json_array_size(p), g->rows * g->cols);
    for (size_t i = 0; i < json_array_size(p); i++)
        g->p[i] = (float)json_number_value(json_array_get(p, i));
    g->states = json_incref(json_object_get(row, "states"));
    json_decref(row);
    return 1;
}

/* A tensor in training; on ref and cpu device memory is the host's. */
struct tensor {
    int64_t rows, cols;
    int vector;
    float *p, *g, *row, *col, m_scale[MOST / T5_BLOCK8 + 1], v_scale[MOST / T5_BLOCK8 + 1];
    uint8_t *m, *v;
};

static void tensor_init(struct tensor *t, int64_t rows, int64_t cols, int vector)
{
    size_t n = (size_t)(rows * cols);
    *t = (struct tensor){.rows = rows, .cols = cols, .vector = vector};
    t->p = calloc(n, sizeof *t->p);
    t->g = calloc(n, sizeof *t->g);
    t->row = calloc(vector ? n : (size_t)rows, sizeof *t->row);
    t->col = vector ? NULL : calloc((size_t)cols, sizeof *t->col);
    t->m = calloc(n, 1);
    t->v = calloc(n, 1);
    for (size_t i = 0; i < n; i++)
        t->p[i] = value((int64_t)i, 1000);
}

static void tensor_free(struct tensor *t)
{
    free(t->p);
    free(t->g);
    free(t->row);
    free(t->col);
    free(t->m);
    free(t->v);
}

static void step(struct tensor *t, const struct t5_backend_handle *b, int eight, int number,
                 double lr, double weight_decay, double clip)
{
    float maps[2 * T5_MAP];
    double squares;
    int64_t n = t->rows * t->cols;
    b->ops.sum_squares(b->dev, &squares, t->g, n);
    if (eight) {
        struct t5_adamw how = {.lr = (float)lr,
                               .beta1 = 0.9f,
                               .beta2 = 0.999f,
                               .eps = 1e-8f,
                               .weight_decay = (float)weight_decay,
                               .clip = (float)clip,
                               .step = number};
        t5_dynamic_maps(maps);
        b->ops.adamw8(b->dev, t->p, t->g, t->m, t->v, t->m_scale, t->v_scale, n, maps, &how,
                      &squares);
        return;
    }
    struct t5_adafactor how = {.lr = (float)lr,
                               .decay = (float)(1 - pow(number, -0.8)),
                               .weight_decay = (float)weight_decay,
                               .clip = (float)clip};
    b->ops.adafactor(b->dev, t->p, t->g, t->row, t->col, t->rows, t->cols, &how, &squares);
}

static void open_backend(struct t5_backend_handle *b, const char *name)
{
    struct t5_err err = {0};
    struct t5_device_options options = {.threads = 2};
    if (t5_backend_open(b, name, &options, &err))
        fail_msg("%s", err.text);
}

static void numbers(float *out, const json_t *row, const char *key)
{
    const json_t *list = json_object_get(row, key);
    assert_true(json_array_size(list) > 0);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = (float)json_number_value(json_array_get(list, i));
}

static void codes(uint8_t *out, const json_t *row, const char *key)
{
    const json_t *list = json_object_get(row, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = (uint8_t)json_integer_value(json_array_get(list, i));
}

/* Codes may be neighbours, or apart by less than bitsandbytes' CPU tells apart: it looks them up by
 * 16 bits. */
static void compare_codes(const uint8_t *got, const uint8_t *want, int64_t n, const float *map)
{
    int equal = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(abs(got[i] - want[i]) <= 1 || fabsf(map[got[i]] - map[want[i]]) < 3e-5f);
        equal += got[i] == want[i];
    }
    assert_true(2 * equal > n);
}

/* Each step starts from bitsandbytes' states. */
static void compare_states(struct tensor *t, const json_t *state)
{
    static float want[MOST];
    uint8_t m[MOST], v[MOST];
    float maps[2 * T5_MAP];
    int64_t n = t->rows * t->cols, blocks = (n + T5_BLOCK8 - 1) / T5_BLOCK8;
    t5_dynamic_maps(maps);
    codes(m, state, "m");
    codes(v, state, "v");
    compare_codes(t->m, m, n, maps);
    compare_codes(t->v, v, n, maps + T5_MAP);
    numbers(want, state, "m_scale");
    assert_close(t->m_scale, want, blocks, 0, 1e-6, "scale of m");
    numbers(want, state, "v_scale");
    assert_close(t->v_scale, want, blocks, 0, 2e-5, "scale of v"); /* 1 - 0.999f is 1.3e-5 off */
    numbers(want, state, "p");
    assert_close(t->p, want, n, 1e-7, 1e-6, "8-bit AdamW");
    memcpy(t->m, m, (size_t)n);
    memcpy(t->v, v, (size_t)n);
}

static void follow(const char *device)
{
    static struct golden want;
    struct t5_backend_handle b;
    FILE *f = fopen("testdata/golden/optimizers.jsonl", "r");
    int n = 0, eight = 0;
    assert_non_null(f);
    open_backend(&b, device);
    for (; read_golden(&want, f); n++) {
        struct tensor t;
        tensor_init(&t, want.rows, want.cols, want.vector);
        for (int s = 0; s < want.steps; s++) {
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.g[i] = value(i, s);
            step(&t, &b, want.states != NULL, s + 1, want.lr, want.weight_decay, 0);
            if (want.states)
                compare_states(&t, json_array_get(want.states, (size_t)s));
        }
        assert_close(t.p, want.p, t.rows * t.cols, 2e-7, 2e-6, want.name);
        eight += want.states != NULL;
        json_decref(want.states);
        tensor_free(&t);
    }
    fclose(f);
    assert_true(n == 8 && eight == 2);
    t5_backend_close(&b);
}

static void test_golden_ref(void **state)
{
    (void)state;
    follow("ref");
}

static void test_golden_cpu(void **state)
{
    (void)state;
    follow("cpu");
}

/* cpu against ref: odd sizes, clipping, and nothing changed by what is not finite. */
static void test_against_ref(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {1, 7}, {7, 1}, {5, 77}, {64, 64}, {13, 315}};
    struct t5_backend_handle b[2];
    (void)state;
    open_backend(&b[0], "ref");
    open_backend(&b[1], "cpu");
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++)
        for (int kind = 0; kind < 3; kind++) { /* matrix, vector, 8 bit */
            struct tensor t[2];
            const int64_t rows = shapes[i / 2][0], cols = shapes[i / 2][1], n = rows * cols;
            for (int k = 0; k < 2; k++) {
                tensor_init(&t[k], rows, cols, kind == 1);
                for (int s = 0; s < 3; s++) {
                    for (int64_t j = 0; j < n; j++)
                        t[k].g[j] = value(j, s);
                    step(&t[k], &b[k], kind == 2, s + 1, 0.01, 0.05, i % 2 ? 0.3 : 0);
                }
            }
            assert_close(t[1].p, t[0].p, n, 1e-7, 1e-5, "parameters");
            memcpy(t[0].p, t[1].p, (size_t)n * sizeof(float));
            t[1].g[n / 2] = NAN;
            step(&t[1], &b[1], kind == 2, 4, 0.01, 0.05, 0.3);
            assert_memory_equal(t[1].p, t[0].p, (size_t)n * sizeof(float));
            for (int k = 0; k < 2; k++)
                tensor_free(&t[k]);
        }
    t5_backend_close(&b[0]);
    t5_backend_close(&b[1]);
}

/* The maps ascend, hold 0 and 1, and every value's code is the nearest. The ends and the middle of
 * the signed map as bitsandbytes' create_dynamic_map has them. */
static void test_maps(void **state)
{
    float maps[2 * T5_MAP];
    (void)state;
    t5_dynamic_maps(maps);
    assert_true(t5_close((double)maps[0], -0.992968738079071, 0, 1e-7));
    assert_true(maps[127] == 0 && maps[255] == 1 && maps[256] == 0 && maps[511] == 1);
    assert_true(t5_close((double)maps[128], 5.500000384017767e-07, 0, 1e-6));
    assert_true(t5_close((double)maps[257], 3.2500003044333425e-07, 0, 1e-6));
    assert_true(t5_close((double)maps[510], 0.9964843988418579, 0, 1e-7));
    for (int k = 0; k < 2; k++) {
        const float *map = maps + k * T5_MAP;
        for (int i = 0; i < T5_MAP; i++) {
            assert_true(i == 0 || map[i] > map[i - 1]);
            assert_int_equal(t5_dynamic_code(map, map[i]), i);
        }
        for (int i = 0; i < 10000; i++) {
            float x = (float)i / 10000 * (k ? 1 : 2) - (k ? 0 : 1);
            float got = fabsf(map[t5_dynamic_code(map, x)] - x);
            for (int c = 0; c < T5_MAP; c++)
                assert_true(got <= fabsf(map[c] - x) + 1e-7f);
        }
    }
}

/* Where there never was a gradient, of either sign of zero, nothing moves and nothing is kept. */
static void test_zeros(void **state)
{
    struct t5_backend_handle b;
    struct tensor t;
    float start[300];
    (void)state;
    open_backend(&b, "cpu");
    tensor_init(&t, 3, 100, 0);
    for (int i = 0; i < 300; i++)
        t.g[i] = i % 2 ? -0.0f : 0.0f;
    memcpy(start, t.p, sizeof start);
    for (int s = 1; s <= 3; s++)
        step(&t, &b, 1, s, 0.01, 0, 1);
    assert_memory_equal(t.p, start, sizeof start);
    assert_true(t.m_scale[0] == 0 && t.v_scale[1] == 0);
    for (int i = 0; i < 300; i++)
        assert_true(t.m[i] == 127 && t.v[i] == 0); /* the codes of 0 */
    for (int s = 1; s <= 3; s++)
        step(&t, &b, 0, s, 0.01, 0, 1);
    assert_memory_equal(t.p, start, sizeof start);
    tensor_free(&t);
    t5_backend_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_ref),  cmocka_unit_test(test_golden_cpu),
        cmocka_unit_test(test_against_ref), cmocka_unit_test(test_maps),
        cmocka_unit_test(test_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
