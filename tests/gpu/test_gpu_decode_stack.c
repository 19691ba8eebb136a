/* test_gpu_decode_stack.c - a decoder's step as one kernel against the same step operator by
 * operator, on the card and on ref: several layers, types of weights, histories that other slots
 * hold, sources of different lengths, steps that follow each other; the same bytes for a step run
 * again, recorded. "test_gpu_decode_stack time" prints instead what a token of
 * FLAN-T5-XXL takes either way, and where the kernel's time goes. */
/* SPDX-License-Identifier: MIT */
#include "gpu_ops.h"

#include <time.h>

struct geometry {
    int64_t layers, d, heads, d_kv, f, vocab;
};
enum { INT8, BF16, MIXED, KINDS }; /* of weights; MIXED: every second one is bf16 */

#define PLACES 4 /* rows to choose from */
#define SLOTS 6
#define LENGTH 24
#define SOURCES 40 /* tokens */
#define BUCKETS 6
#define FAR 9
#define EPS 1e-6f
enum { QKV, SELF_O, CROSS_Q, CROSS_O, WI, WO, PRODUCTS };

/* One backend's decoder. */
struct side {
    const struct t5_backend *ops;
    struct t5_device *dev;
    int bf16;
    struct geometry g;
    int64_t length;
    struct t5_weight **w; /* (layers, PRODUCTS), then the head */
    struct t5_decode_layer *layers;
    struct t5_attention self;
    float *final_norm, *x, *logits;
    act *y, *qkv, *q, *attended, *delta, *wide, *h;
    void **owned;
    int n_owned;
};

static void *keep(struct side *s, void *p)
{
    s->owned[s->n_owned++] = p;
    return p;
}

static void *room(struct side *s, int64_t bytes)
{
    void *p;
    OK(s->ops->alloc(s->dev, &p, (size_t)bytes, "a test", &err));
    return keep(s, p);
}

static void *place(struct side *s, const void *host, int64_t bytes)
{
    void *p = room(s, bytes);
    s->ops->upload(s->dev, p, host, (size_t)bytes);
    return p;
}

static float *vector(struct side *s, int64_t n, uint64_t seed, float middle)
{
    float *host = floats(n, seed, 0.5f), *p;
    for (int64_t i = 0; i < n; i++)
        host[i] += middle;
    p = place(s, host, n * 4);
    free(host);
    return p;
}

static act *activations(struct side *s, int64_t n, uint64_t seed)
{
    float *host = acts(n, seed, 1);
    uint16_t *narrow = fresh((size_t)n * 2);
    t5_from_f32(narrow, host, T5_BF16, (size_t)n);
    act *p = s->bf16 ? place(s, narrow, n * 2) : place(s, host, n * 4);
    free(host), free(narrow);
    return p;
}

static act *act_room(struct side *s, int64_t n)
{
    return room(s, n * (s->bf16 ? 2 : 4));
}

static void matrix(struct t5_matrix *m, int64_t rows, int64_t cols, int is_int8, uint64_t seed)
{
    float size = 1.7f / sqrtf((float)cols); /* a product is about as large as its input */
    *m = (struct t5_matrix){.rows = rows, .cols = cols, .type = T5_F32};
    if (!is_int8) {
        m->data = acts(rows * cols, seed, size);
        return;
    }
    uint8_t *q = fresh((size_t)(rows * cols));
    for (int64_t i = 0; i < rows * cols; i += 8) {
        uint64_t draw = t5_mix(seed, (uint64_t)i);
        for (int j = 0; j < 8 && i + j < rows * cols; j++)
            q[i + j] = (uint8_t)(draw >> 8 * j);
    }
    float *scale = floats(rows, seed + 1, 0.3f * size / 128);
    for (int64_t i = 0; i < rows; i++)
        scale[i] += size / 128;
    m->data = q, m->type = T5_I8, m->scale = scale;
}

static void freeze(struct side *s, struct t5_weight **w, const struct t5_matrix *m, unsigned use)
{
    OK(s->ops->weight_freeze(s->dev, w, m, 1, T5_USE_FORWARD | use, &err));
}

static void shape_of(const struct geometry *g, int product, int64_t *rows, int64_t *cols)
{
    int64_t inner = g->heads * g->d_kv;
    int64_t const all[PRODUCTS][2] = {{3 * inner, g->d}, {g->d, inner},    {inner, g->d},
                                      {g->d, inner},     {2 * g->f, g->d}, {g->d, g->f}};
    *rows = all[product][0], *cols = all[product][1];
}

/* same_layers: all are copies of one, which is enough for timing, and the head is as wide as files
 * have it. */
static void open_weights(struct side *s, int kind, int same_layers)
{
    const struct geometry *g = &s->g;
    for (int64_t i = 0; i < g->layers * PRODUCTS + 1; i++) {
        int64_t product = i % PRODUCTS, rows = g->vocab, cols = g->d;
        struct t5_matrix m;
        int is_head = i == g->layers * PRODUCTS;
        if (!is_head)
            shape_of(g, (int)product, &rows, &cols);
        if (same_layers && !is_head && i >= PRODUCTS)
            continue; /* made with the first layer's */
        int is_int8 = kind == INT8 ? !(is_head && same_layers) : kind == MIXED && i % 2 == 0;
        matrix(&m, rows, cols, is_int8, 100 + (uint64_t)i);
        freeze(s, &s->w[i], &m, is_head ? T5_USE_WIDE : 0);
        for (int64_t l = 1; same_layers && !is_head && l < g->layers; l++)
            freeze(s, &s->w[l * PRODUCTS + product], &m, 0);
        free((void *)m.data), free((void *)m.scale);
    }
}

static void open_side(struct side *s, const struct t5_backend *ops, struct t5_device *dev,
                      const struct geometry *g, int kind, int64_t slots, int64_t length,
                      int64_t sources, int same_layers)
{
    int64_t inner = g->heads * g->d_kv, n = g->layers;
    int32_t bucket[2 * FAR + 1];
    *s = (struct side){.ops = ops, .dev = dev, .bf16 = ops != ref, .g = *g, .length = length};
    s->w = fresh((size_t)(n * PRODUCTS + 1) * sizeof *s->w);
    s->layers = fresh((size_t)n * sizeof *s->layers);
    s->owned = fresh((size_t)(n * 6 + 200) * sizeof *s->owned);
    open_weights(s, kind, same_layers);
    for (int64_t l = 0; l < n; l++) {
        struct t5_weight **w = s->w + l * PRODUCTS;
        s->layers[l] = (struct t5_decode_layer){
            w[QKV],
            w[SELF_O],
            w[CROSS_Q],
            w[CROSS_O],
            w[WI],
            w[WO],
            vector(s, g->d, 10 + (uint64_t)l, 1),
            vector(s, g->d, 20 + (uint64_t)l, 1),
            vector(s, g->d, 30 + (uint64_t)l, 1),
            activations(s, slots * length * inner, 40 + (uint64_t)l),
            activations(s, slots * length * inner, 50 + (uint64_t)l),
            activations(s, sources * 2 * inner, 60 + (uint64_t)l),
        };
    }
    for (int i = 0; i <= 2 * FAR; i++)
        bucket[i] = (int32_t)(t5_mix(3, (uint64_t)i) % BUCKETS);
    s->self = (struct t5_attention){.heads = g->heads,
                                    .d_kv = g->d_kv,
                                    .causal = 1,
                                    .bias = vector(s, BUCKETS * g->heads, 5, 0),
                                    .bucket = place(s, bucket, sizeof bucket),
                                    .buckets = BUCKETS,
                                    .max_distance = FAR};
    s->final_norm = vector(s, g->d, 6, 1);
    s->x = room(s, g->d * 4), s->logits = room(s, g->vocab * 4);
    s->y = act_room(s, g->d), s->delta = act_room(s, g->d);
    s->qkv = act_room(s, 3 * inner), s->q = act_room(s, inner);
    s->attended = act_room(s, inner), s->h = act_room(s, g->f);
    s->wide = act_room(s, 2 * g->f);
}

static void close_side(struct side *s)
{
    for (int64_t i = 0; i < s->g.layers * PRODUCTS + 1; i++)
        s->ops->weight_free(s->dev, s->w[i]);
    for (int i = 0; i < s->n_owned; i++)
        s->ops->release(s->dev, s->owned[i]);
    free(s->w), free(s->layers), free(s->owned);
}

/* ---- the step, operator by operator ---- */

static void enter(struct side *s, void *y, const float *norm, const struct t5_weight *w,
                  int64_t rows, enum t5_step_end end)
{
    if (s->ops->norm_linear &&
        s->ops->norm_linear(s->dev, y, s->x, norm, EPS, w, 1, end, T5_GLU_GELU_NEW,
                            end == T5_STEP_LOGITS ? 0.5f : 1, NULL))
        return;
    s->ops->norm_fwd(s->dev, s->x, s->y, s->x, NULL, norm, 1, s->g.d, EPS, NULL, NULL, NULL, NULL);
    if (end == T5_STEP_LOGITS) {
        s->ops->logits_fwd(s->dev, y, s->y, s->g.d, w, 1, 0.5f);
        return;
    }
    s->ops->linear_fwd(s->dev, end == T5_STEP_GATED ? s->wide : y, rows, s->y, s->g.d, w, 1);
    if (end == T5_STEP_GATED)
        s->ops->glu_fwd(s->dev, y, s->wide, 1, s->g.f, T5_GLU_GELU_NEW, 1, NULL, NULL, NULL);
}

static void leave(struct side *s, const act *from, const struct t5_weight *w, int64_t cols)
{
    if (s->ops->linear_add && s->ops->linear_add(s->dev, s->x, from, w, 1, NULL))
        return;
    s->ops->linear_fwd(s->dev, s->delta, s->g.d, from, cols, w, 1);
    s->ops->norm_fwd(s->dev, s->x, s->y, s->x, s->delta, s->final_norm, 1, s->g.d, EPS, NULL, NULL,
                     NULL, NULL);
}

static void by_operators(struct side *s, const struct t5_decode_rows *rows)
{
    int64_t inner = s->g.heads * s->g.d_kv;
    struct t5_attention cross = s->self;
    cross.bias = NULL, cross.causal = 0;
    for (int64_t i = 0; i < s->g.layers; i++) {
        struct t5_decode_layer *l = &s->layers[i];
        enter(s, s->qkv, l->self_norm, l->qkv, 3 * inner, T5_STEP_ACT);
        s->ops->decode_self(s->dev, s->attended, l->k_cache, l->v_cache, s->qkv, rows, &s->self);
        leave(s, s->attended, l->self_o, inner);
        enter(s, s->q, l->cross_norm, l->cross_q, inner, T5_STEP_ACT);
        s->ops->decode_cross(s->dev, s->attended, s->q, l->cross_kv, rows, &cross);
        leave(s, s->attended, l->cross_o, inner);
        enter(s, s->h, l->ff_norm, l->wi, 2 * s->g.f, T5_STEP_GATED);
        leave(s, s->h, l->wo, s->g.f);
    }
    enter(s, s->logits, s->final_norm, s->w[s->g.layers * PRODUCTS], s->g.vocab, T5_STEP_LOGITS);
}

/* ---- the step in one piece ---- */

static struct t5_stacked *open_stack(struct side *s)
{
    const struct geometry *g = &s->g;
    struct t5_decode_stack stack = {.layers = s->layers,
                                    .n_layers = g->layers,
                                    .d_model = g->d,
                                    .d_ff = g->f,
                                    .self = s->self,
                                    .kind = T5_GLU_GELU_NEW,
                                    .eps = EPS,
                                    .scale = 0.5f,
                                    .final_norm = s->final_norm,
                                    .head = s->w[g->layers * PRODUCTS]};
    return s->ops->decode_stack_open(
        s->dev,
        room(s, s->ops->decode_stack_bytes(s->dev, g->layers, g->d, g->heads * g->d_kv, g->f)),
        &stack);
}

/* ---- rows ---- */

struct rows {
    int32_t slot, position, begin, count, history[LENGTH];
    struct t5_decode_rows on_host;
};

/* The row at one of PLACES, at its `step`th step. */
static void make_rows(struct rows *r, int64_t at, int step)
{
    static const int32_t slot[PLACES] = {3, 0, 5, 1}, position[PLACES] = {5, 0, 21, 12},
                         begin[PLACES] = {0, 0, 7, 33}, count[PLACES] = {7, 7, 26, 1};
    r->slot = slot[at], r->position = position[at] + step;
    r->begin = begin[at], r->count = count[at];
    for (int64_t j = 0; j < LENGTH; j++) /* since the first step in its own slot */
        r->history[j] =
            j >= position[at] || t5_mix(4, (uint64_t)(at * LENGTH + j)) % 2 ? slot[at] : 4;
    r->on_host = (struct t5_decode_rows){.n_rows = 1,
                                         .length = LENGTH,
                                         .slot = &r->slot,
                                         .position = &r->position,
                                         .history = r->history,
                                         .source_begin = &r->begin,
                                         .source_count = &r->count,
                                         .longest_source = 26,
                                         .sharing = 1};
}

static struct t5_decode_rows rows_on(struct side *s, const struct rows *r)
{
    struct t5_decode_rows rows = r->on_host;
    rows.slot = place(s, &r->slot, sizeof r->slot);
    rows.position = place(s, &r->position, sizeof r->position);
    rows.history = place(s, r->history, sizeof r->history);
    rows.source_begin = place(s, &r->begin, sizeof r->begin);
    rows.source_count = place(s, &r->count, sizeof r->count);
    return rows;
}

static void feed(struct side *s, int step)
{
    float *x = floats(s->g.d, 70 + (uint64_t)step, 2);
    s->ops->upload(s->dev, s->x, x, (size_t)s->g.d * 4);
    free(x);
}

static float *logits_of(struct side *s)
{
    float *host = fresh((size_t)s->g.vocab * 4);
    OK(s->ops->download(s->dev, host, s->logits, (size_t)s->g.vocab * 4, &err));
    return host;
}

/* A step in one piece, with poisoned logits; its logits, the caller's. */
static float *stacked_step(struct side *s, struct t5_stacked *stacked, int64_t at, int step,
                           int recorded)
{
    struct rows r;
    make_rows(&r, at, step);
    struct t5_decode_rows rows = rows_on(s, &r);
    float *poisoned = fresh((size_t)s->g.vocab * 4);
    s->ops->upload(s->dev, s->logits, poisoned, (size_t)s->g.vocab * 4);
    free(poisoned);
    feed(s, step);
    if (recorded) {
        s->ops->record_begin(s->dev);
        s->ops->decode_stack(s->dev, stacked, s->x, s->logits, &rows, NULL);
        struct t5_recording *recording = s->ops->record_end(s->dev);
        assert_non_null(recording);
        assert_int_equal(s->ops->replay(s->dev, recording), 1);
        float *got = logits_of(s);
        s->ops->recording_free(s->dev, recording);
        return got;
    }
    assert_int_equal(s->ops->decode_stack(s->dev, stacked, s->x, s->logits, &rows, NULL), 1);
    return logits_of(s);
}

static float *operators_step(struct side *s, int64_t at, int step)
{
    struct rows r;
    make_rows(&r, at, step);
    struct t5_decode_rows rows = rows_on(s, &r);
    feed(s, step);
    by_operators(s, &rows);
    return logits_of(s);
}

/* ---- the test ---- */

static const struct geometry geometries[] = {{3, 256, 4, 64, 768, 300},
                                             {2, 256, 32, 8, 256, 36},
                                             {1, 256, 4, 64, 2304, 200}},
                             uneven = {2, 528, 3, 16, 80, 12}; /* 8-bit weights alone */

/* bound: of one kernel against operators that round the same products in other places */
static void check(const struct geometry *g, int kind, int64_t at, int with_ref)
{
    struct side piece, many, exact;
    open_side(&piece, &gpu.ops, gpu.dev, g, kind, SLOTS, LENGTH, SOURCES, 0);
    open_side(&many, &gpu.ops, gpu.dev, g, kind, SLOTS, LENGTH, SOURCES, 0);
    if (with_ref)
        open_side(&exact, ref, ref_dev, g, kind, SLOTS, LENGTH, SOURCES, 0);
    struct t5_stacked *stacked = open_stack(&piece);
    assert_non_null(stacked);
    for (int step = 0; step < 2; step++) {
        float *got = stacked_step(&piece, stacked, at, step, 0),
              *want = operators_step(&many, at, step);
        assert_near(got, want, g->vocab, 5e-3, "one kernel against operators");
        if (with_ref) {
            float *reference = operators_step(&exact, at, step);
            assert_near(got, reference, g->vocab, 3e-2, "one kernel against ref");
            free(reference);
        }
        /* the same keys and values are written again */
        float *again = stacked_step(&piece, stacked, at, step, 1);
        assert_memory_equal(again, got, (size_t)g->vocab * 4);
        free(got), free(want), free(again);
    }
    gpu.ops.decode_stack_close(gpu.dev, stacked);
    close_side(&piece), close_side(&many);
    if (with_ref)
        close_side(&exact);
}

static void test_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof geometries / sizeof *geometries; i++)
        for (int kind = 0; kind < KINDS; kind++)
            if (i == 0 || kind != BF16)
                check(&geometries[i], kind, (int64_t)(i + (size_t)kind) % PLACES, 1);
    check(&uneven, INT8, 2, 1);
    check(&uneven, INT8, 3, 1);
}

/* e4m3; ref would have weights that are not rounded to it. */
static void test_fp8(void **state)
{
    (void)state;
    check(&geometries[0], BF16, 0, 0);
    check(&geometries[0], BF16, 2, 0);
}

static void test_refused(void **state)
{
    (void)state;
    struct side s;
    struct rows r;
    open_side(&s, &gpu.ops, gpu.dev, &geometries[1], INT8, SLOTS, LENGTH, SOURCES, 0);
    struct t5_stacked *stacked = open_stack(&s);
    assert_non_null(stacked);
    make_rows(&r, 0, 0);
    struct t5_decode_rows rows = r.on_host;
    rows.n_rows = 2; /* more rows, or keys, than it takes: nothing is read */
    assert_int_equal(gpu.ops.decode_stack(gpu.dev, stacked, s.x, s.logits, &rows, NULL), 0);
    rows.n_rows = 1, rows.longest_source = 1 << 20;
    assert_int_equal(gpu.ops.decode_stack(gpu.dev, stacked, s.x, s.logits, &rows, NULL), 0);
    gpu.ops.decode_stack_close(gpu.dev, stacked);
    close_side(&s);
    open_side(&s, &gpu.ops, gpu.dev, &uneven, BF16, SLOTS, LENGTH, SOURCES, 0);
    assert_null(open_stack(&s));
    close_side(&s);
}

/* ---- speed ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define TIMES 50
#define TIMED_SOURCE 140
#define TIMED_POSITION 25

static double seconds(struct side *s, struct t5_stacked *stacked, const struct t5_decode_rows *rows,
                      int64_t *stamps)
{
    double start = 0;
    for (int i = -2; i < TIMES; i++) {
        if (i == 0) {
            OK(s->ops->sync(s->dev, &err));
            start = now();
        }
        if (stacked)
            s->ops->decode_stack(s->dev, stacked, s->x, s->logits, rows, stamps);
        else
            by_operators(s, rows);
    }
    OK(s->ops->sync(s->dev, &err));
    return (now() - start) / TIMES;
}

/* Of block 0: how long a product waits for its input (attention and the other blocks), and works.
 * A layer's mean, without the first and the last. */
static void print_stamps(struct side *s, int64_t *stamps, double step)
{
    static const char *const names[PRODUCTS + 1] = {"q k v", "self o", "cross q", "cross o",
                                                    "wi",    "wo",     "logits"};
    int64_t layers = s->g.layers, n = T5_STACK_STAMPS(layers);
    int64_t *at = fresh((size_t)n * sizeof *at);
    OK(s->ops->download(s->dev, at, stamps, (size_t)n * sizeof *at, &err));
    double us = step * 1e6 / (double)(at[n - 1] - at[0]);
    for (int64_t p = 0; p <= PRODUCTS; p++) {
        double waits = 0, works = 0;
        int64_t first = p == PRODUCTS ? layers : 1, last = p == PRODUCTS ? layers + 1 : layers - 1;
        for (int64_t l = first; l < last; l++) {
            int64_t i = 2 * (p == PRODUCTS ? layers * PRODUCTS : l * PRODUCTS + p);
            waits += (double)(at[i + 1] - at[i]) * us,
                works += (double)(at[i + 2] - at[i + 1]) * us;
        }
        printf("%8s: waits %6.2f us, works %6.2f us\n", names[p], waits / (double)(last - first),
               works / (double)(last - first));
    }
    free(at);
}

static void time_all(void)
{
    struct geometry xxl = {24, 4096, 64, 64, 10240, 32128};
    struct side s;
    int32_t zero = 0, position = TIMED_POSITION, count = TIMED_SOURCE, history[64] = {0};
    open_side(&s, &gpu.ops, gpu.dev, &xxl, INT8, 1, 64, TIMED_SOURCE, 1);
    struct t5_stacked *stacked = open_stack(&s);
    int64_t bytes = T5_STACK_STAMPS(xxl.layers) * (int64_t)sizeof(int64_t);
    int64_t *stamps = room(&s, bytes);
    double weights = 2 * (double)(xxl.vocab * xxl.d);
    for (int64_t i = 0, r, c; i < PRODUCTS; i++) {
        shape_of(&xxl, (int)i, &r, &c);
        weights += (double)(xxl.layers * r * c);
    }
    assert_non_null(stacked);
    struct t5_decode_rows rows = {.n_rows = 1,
                                  .length = 64,
                                  .slot = place(&s, &zero, sizeof zero),
                                  .position = place(&s, &position, sizeof position),
                                  .history = place(&s, history, sizeof history),
                                  .source_begin = place(&s, &zero, sizeof zero),
                                  .source_count = place(&s, &count, sizeof count),
                                  .longest_source = 256,
                                  .sharing = 1};
    feed(&s, 0);
    printf("XXL, int8, bf16 head, position %d, source %d; ms a step\n", TIMED_POSITION,
           TIMED_SOURCE);
    for (int turn = 0; turn < 2; turn++) {
        double each = seconds(&s, NULL, &rows, NULL), together = seconds(&s, stacked, &rows, NULL);
        printf("operators %.3f, %.0f GB/s; one kernel %.3f, %.0f GB/s\n", each * 1e3,
               weights / each * 1e-9, together * 1e3, weights / together * 1e-9);
    }
    print_stamps(&s, stamps, seconds(&s, stacked, &rows, stamps));
    gpu.ops.decode_stack_close(gpu.dev, stacked);
    close_side(&s);
}

static int setup(void **state)
{
    (void)state;
    return setup_as(T5_COMPUTE_BF16);
}
static int setup_fp8(void **state)
{
    (void)state;
    return setup_as(T5_COMPUTE_FP8);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_refused)};
    const struct CMUnitTest eight[] = {cmocka_unit_test(test_fp8)};
    half = 1;
    if (argc > 1 && strcmp(argv[1], "time") == 0) {
        if (setup_as(T5_COMPUTE_BF16))
            return 1;
        time_all();
        return teardown(NULL);
    }
    return cmocka_run_group_tests_name("bf16", tests, setup, teardown) +
           cmocka_run_group_tests_name("fp8", eight, setup_fp8, teardown);
}
