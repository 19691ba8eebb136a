/* test_gpu_q8_ops.c - products in 8 bits, e4m3 and int8, against ref's products of what both sides
 * hold after rounding, from every type of file, and rows that norm and glu leave in 8 bits. */
/* SPDX-License-Identifier: MIT */
#include "gpu_ops.h"

static int int8; /* or e4m3 */

/* x inverse to the nearest, even between two: e4m3 has 3 bits of fraction, 2^-9 between the
 * smallest. int8 is rounded from the exact product. */
static float rounded8(float x, float inverse)
{
    int e;
    if (int8)
        return (float)rint((double)x * inverse);
    x *= inverse;
    float size = fabsf(x);
    frexpf(size, &e);
    float step = ldexpf(1, (e < -5 ? -5 : e) - 4);
    return copysignf(fminf(rintf(size / step) * step, 448), x);
}

/* Rows through 8 bits with one scale each and back; the scales where they are wanted. */
static float *through8(const float *x, int64_t n, int64_t cols, float *scales)
{
    float *out = fresh((size_t)(n * cols) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        float largest = 0;
        for (int64_t c = 0; c < cols; c++)
            largest = fmaxf(largest, fabsf(x[i * cols + c]));
        float scale = fmaxf(largest * (int8 ? 1.0f / 127 : 1.0f / 448), 0x1p-100f);
        float inverse = 1 / scale;
        for (int64_t c = 0; c < cols; c++)
            out[i * cols + c] = rounded8(x[i * cols + c], inverse) * (scales ? 1 : scale);
        if (scales)
            scales[i] = scale;
    }
    return out;
}

/* Both sides in 8 bits, against ref's products of what both sides hold: what is left is the order
 * and width of the sums, and the result's own rounding. */
static void check_q8(int64_t n, int64_t rows, int64_t cols, enum t5_dtype type, float size,
                     unsigned use)
{
    float *w = acts(rows * cols, 1, 0.1f), *x = acts(n * cols, 2, size),
          *dy = acts(n * rows, 3, size);
    float *dx = acts(n * cols, 4, size), *y = fresh((size_t)(n * rows) * 4);
    float *w_scale = fresh((size_t)rows * 4), *dy_scale = fresh((size_t)n * 4);
    int8_t *q = fresh((size_t)(rows * cols));
    float *q_scale = floats(rows, 8, 0.001f);
    uint16_t *half_w = fresh((size_t)(rows * cols) * 2);
    for (int64_t i = 0; i < n; i++) /* rows of different size, one of zeros */
        for (int64_t c = 0; c < cols; c++)
            x[i * cols + c] *= i % 3 == 1 ? 0 : ldexpf(1, (int)(i % 5) - 2);
    for (int64_t i = 0; i < rows * cols; i++) {
        uint64_t draw = t5_mix(7, (uint64_t)i);
        q[i] = (int8_t)(draw % 255 - 127);
        if (type == T5_F8) /* any bits but NaN's */
            q[i] = (int8_t)(draw % 127 | (draw >> 8 & 0x80));
    }
    float *raw = fresh((size_t)(rows * cols) * 4); /* of the file's 8 bits */
    if (type == T5_F8)
        t5_to_f32(raw, q, type, (size_t)(rows * cols));
    for (int64_t i = 0; type == T5_I8 && i < rows * cols; i++)
        raw[i] = q[i];
    for (int64_t i = 0; (type == T5_I8 || type == T5_F8) && i < rows * cols; i++)
        w[i] = raw[i] * q_scale[i / cols];
    t5_from_f32(half_w, w, T5_BF16, (size_t)(rows * cols));
    const void *data = type == T5_F32 ? (void *)w : type == T5_BF16 ? (void *)half_w : (void *)q;
    int64_t top = rows / 32 * 16, width = (int64_t)t5_dtype_size(type);
    struct t5_matrix parts[2] = {
        {.data = data, .type = type, .scale = q_scale, .rows = top, .cols = cols},
        {.data = (const char *)data + top * cols * width,
         .type = type,
         .scale = q_scale + top,
         .rows = rows - top,
         .cols = cols}};
    float *wq = through8(w, rows, cols, w_scale), *xq = through8(x, n, cols, NULL);
    if (type == (int8 ? T5_I8 : T5_F8)) { /* taken as it is */
        memcpy(w_scale, q_scale, (size_t)rows * 4);
        memcpy(wq, raw, (size_t)(rows * cols) * 4);
    }
    /* the input gradient: dy takes the weight's scales before it is rounded */
    for (int64_t i = 0; i < n * rows; i++)
        y[i] = dy[i] * w_scale[i % rows];
    float *dyq = through8(y, n, rows, NULL);
    struct t5_matrix back = {wq, T5_F32, NULL, rows, cols, NULL};
    struct t5_weight *rb, *rw, *gw;
    OK(ref->weight_freeze(ref_dev, &rb, &back, 1, T5_USE_INPUT_GRAD, &err));
    float *wide = fresh((size_t)(rows * cols) * 4);
    for (int64_t i = 0; i < rows * cols; i++)
        wide[i] = wq[i] * w_scale[i / cols];
    struct t5_matrix there = {wide, T5_F32, NULL, rows, cols, NULL};
    OK(ref->weight_freeze(ref_dev, &rw, &there, 1, T5_USE_FORWARD, &err));
    int first = top == 0;
    OK(gpu.ops.weight_freeze(gpu.dev, &gw, parts + first, 2 - first,
                             T5_USE_FORWARD | T5_USE_INPUT_GRAD | use, &err));
    void *gx = up_act(x, n * cols), *gdy = up_act(dy, n * rows), *gy = poison(act_bytes(n * rows));
    void *gdx = up_act(dx, n * cols);
    float *gl = poison((size_t)(n * rows) * 4), *fresh_dx = fresh((size_t)(n * cols) * 4);
    double near = 2e-3 * (type == T5_F8 ? 0.4 : 0.1) * size, to = near * sqrt((double)cols),
           fro = near * sqrt((double)rows);
    ref->linear_fwd(ref_dev, y, rows, xq, cols, rw, n);
    gpu.ops.linear_fwd(gpu.dev, gy, rows, gx, cols, gw, n);
    float *got = down_act(gy, n * rows);
    /* the tensor cores' fast accumulation of e4m3 keeps some 14 bits of a partial sum; int8's is
     * exact, so what is left is bf16's rounding */
    double slack8 = int8 ? 1e-3 : 4;
    assert_close(got, y, n * rows, slack8 * to, 5e-3, "8-bit linear");
    free(got);
    gpu.ops.logits_fwd(gpu.dev, gl, gx, cols, gw, n, 1);
    got = down_f(gl, n * rows);
    assert_close(got, y, n * rows, slack8 * to, 5e-3, "8-bit logits");
    free(got);
    ref->linear_bwd_input(ref_dev, dx, cols, dyq, rows, rb, n, 1);
    gpu.ops.linear_bwd_input(gpu.dev, gdx, cols, gdy, rows, gw, n, 1);
    got = down_act(gdx, n * cols);
    assert_close(got, dx, n * cols, slack8 * fro, 5e-3,
                 "8-bit dx, added"); /* cuBLASLt rounds first */
    free(got);
    ref->linear_bwd_input(ref_dev, fresh_dx, cols, dyq, rows, rb, n, 0);
    gpu.ops.linear_bwd_input(gpu.dev, gdx, cols, gdy, rows, gw, n, 0);
    got = down_act(gdx, n * cols);
    assert_close(got, fresh_dx, n * cols, (int8 ? slack8 : 1) * fro, 5e-3, "8-bit dx");
    free(got);
    ref->weight_free(ref_dev, rb);
    ref->weight_free(ref_dev, rw);
    gpu.ops.weight_free(gpu.dev, gw);
    void *const dev[] = {gx, gdy, gy, gdx, gl};
    void *const host[] = {w,       x,  dy,     dx, y,   w_scale, dy_scale, q,
                          q_scale, wq, half_w, xq, dyq, wide,    fresh_dx, raw};
    for (int i = 0; i < 5; i++)
        drop_dev(dev[i]);
    for (int i = 0; i < 16; i++)
        free(host[i]);
}

static void test_products(void **state)
{
    (void)state;
    /* the last four for int8 alone: its tiles of 192 and 256 columns, forward and added to */
    static const int64_t sizes[][3] = {{1, 16, 16},     {3, 64, 48},     {11, 192, 64},
                                       {130, 96, 544},  {257, 128, 512}, {70, 512, 4112},
                                       {300, 784, 320}, {17, 8464, 48},  {17, 48, 8464},
                                       {33, 12688, 48}, {33, 48, 12688}};
    static const enum t5_dtype types[] = {T5_F32, T5_BF16, T5_I8, T5_F8};
    for (int i = 0; i < (int8 ? 11 : 7); i++)
        for (int k = 0; k < 4; k++)
            check_q8(sizes[i][0], sizes[i][1], sizes[i][2], types[k], k == 1 ? 1e-3f : 1,
                     k % 2 ? T5_USE_COMPACT : 0);
}

static uint16_t *bits_of(const void *p, int64_t n)
{
    uint16_t *bits = fresh((size_t)n * 2);
    OK(gpu.ops.download(gpu.dev, bits, p, (size_t)n * 2, &err));
    return bits;
}

static struct t5_weight *frozen(float *values, int64_t rows, int64_t cols)
{
    struct t5_matrix m = {values, T5_F32, NULL, rows, cols, NULL};
    struct t5_weight *w;
    OK(gpu.ops.weight_freeze(gpu.dev, &w, &m, 1, T5_USE_FORWARD | T5_USE_INPUT_GRAD, &err));
    free(values);
    return w;
}

static void *up_acts(int64_t n, uint64_t seed)
{
    float *host = acts(n, seed, 1);
    void *p = up_act(host, n);
    free(host);
    return p;
}

static float *up_floats(int64_t n, uint64_t seed)
{
    float *host = floats(n, seed, 1), *p = up_f(host, n);
    free(host);
    return p;
}

/* Rows of y at an odd distance get the same values; what is between them stays. For int8: cuBLASLt
 * takes no such rows of e4m3 products. */
static void test_apart(void **state)
{
    (void)state;
    const int64_t n = 37, rows = 272, cols = 144, apart = rows + 3;
    struct t5_weight *w = frozen(acts(rows * cols, 1, 0.1f), rows, cols);
    void *x = up_acts(n * cols, 2), *y = poison(act_bytes(n * rows)),
         *z = poison(act_bytes(n * apart));
    gpu.ops.linear_fwd(gpu.dev, y, rows, x, cols, w, n);
    gpu.ops.linear_fwd(gpu.dev, z, apart, x, cols, w, n);
    uint16_t *want = bits_of(y, n * rows), *got = bits_of(z, n * apart);
    for (int64_t i = 0; i < n; i++) {
        assert_memory_equal(got + i * apart, want + i * rows, (size_t)rows * 2);
        for (int64_t c = rows; c < apart; c++)
            assert_int_equal(got[i * apart + c], 0xffff);
    }
    gpu.ops.weight_free(gpu.dev, w);
    free(want);
    free(got);
    drop_dev(x);
    drop_dev(y);
    drop_dev(z);
}

/* Of a row with a NaN or an infinity in it nothing is finite, of others all. */
static void test_not_finite(void **state)
{
    (void)state;
    const int64_t n = 40, rows = 32, cols = 128;
    struct t5_weight *w = frozen(acts(rows * cols, 1, 0.1f), rows, cols);
    float *host = acts(n * cols, 2, 1);
    host[3 * cols + 17] = NAN;
    host[20 * cols + 127] = -INFINITY;
    void *x = up_act(host, n * cols), *y = poison(act_bytes(n * rows));
    gpu.ops.linear_fwd(gpu.dev, y, rows, x, cols, w, n);
    float *got = down_act(y, n * rows);
    for (int64_t i = 0; i < n * rows; i++)
        assert_int_equal(!isfinite(got[i]), i / rows == 3 || i / rows == 20);
    gpu.ops.weight_free(gpu.dev, w);
    free(host);
    free(got);
    drop_dev(x);
    drop_dev(y);
}

/* ---- what an operator leaves in 8 bits for the product behind it ---- */

enum left_op { NORM_FWD, GLU_FWD, GLU_BWD, NORM_BWD, LEFT_OPS };
static const char *const left_names[] = {"norm_fwd", "glu_fwd", "glu_bwd", "norm_bwd"};

struct left {
    const struct batch *b;
    int64_t n, d, f;
    struct t5_weight *wi, *wo;    /* (2F, D), (D, F) */
    float *x, *dx, *x_out, *gain; /* dx: norm_bwd adds to what it is each time */
    void *delta, *g, *dh, *dy;
};

static int64_t left_width(const struct left *t, enum left_op op)
{
    return op == NORM_FWD || op == NORM_BWD ? t->d : op == GLU_FWD ? t->f : 2 * t->f;
}

/* Runs op into `to`, then the product that reads it into y, and returns y's bits: owned. */
static uint16_t *left_run(const struct left *t, enum left_op op, void *to,
                          const struct t5_reader *reader, void *y, int64_t *elements)
{
    const struct t5_pack *pack = &t->b->dev;
    struct t5_dropout drop = dropout(0.2f, 5);
    int64_t n = t->n, d = t->d, f = t->f, width = left_width(t, op);
    int64_t out = op == NORM_FWD ? 2 * f : op == NORM_BWD ? f : d;
    float *dx = up_f(t->dx, n * d);
    if (op == NORM_FWD)
        gpu.ops.norm_fwd(gpu.dev, t->x_out, to, t->x, t->delta, t->gain, n, d, 1e-6f, pack, &drop,
                         &drop, reader);
    else if (op == GLU_FWD)
        gpu.ops.glu_fwd(gpu.dev, to, t->g, n, f, T5_GLU_GELU_NEW, 1, pack, &drop, reader);
    else if (op == GLU_BWD)
        gpu.ops.glu_bwd(gpu.dev, to, t->dh, t->g, n, f, T5_GLU_GELU_NEW, 1, pack, &drop, reader);
    else
        gpu.ops.norm_bwd(gpu.dev, dx, to, NULL, t->dy, t->x, t->gain, n, d, 1e-6f, pack, &drop,
                         &drop, reader);
    const struct t5_weight *w = op == NORM_FWD || op == GLU_BWD ? t->wi : t->wo;
    if (op == NORM_FWD || op == GLU_FWD)
        gpu.ops.linear_fwd(gpu.dev, y, out, to, width, w, n);
    else
        gpu.ops.linear_bwd_input(gpu.dev, y, out, to, width, w, n, 0);
    *elements = n * out;
    uint16_t *bits = bits_of(y, n * out);
    drop_dev(dx);
    return bits;
}

/* Without a reader the rows go through bf16 and a pass of their own. With one, and with one that
 * reads alone, into memory that holds NaN, the product must have the same bytes. */
static void check_left_op(const struct left *t, enum left_op op)
{
    const struct t5_weight *w = op == NORM_FWD || op == GLU_BWD ? t->wi : t->wo;
    struct t5_reader readers[2] = {{.w = w}, {.w = w, .alone = 1}};
    int64_t room = t->n * 2 * t->f, elements;
    void *y = poison(act_bytes(room));
    void *plain = poison(act_bytes(room));
    uint16_t *want = left_run(t, op, plain, NULL, y, &elements);
    for (int i = 0; i < 2; i++) {
        void *to = poison(act_bytes(room));
        uint16_t *got = left_run(t, op, to, &readers[i], y, &elements);
        if (memcmp(want, got, (size_t)elements * 2) != 0)
            fail_msg("%s%s: what was left in 8 bits is not what would have been made",
                     left_names[op], i ? ", read alone" : "");
        free(got);
        drop_dev(to);
    }
    free(want);
    drop_dev(plain);
    drop_dev(y);
}

/* Rows that change between the operator and the product are not taken as they had been left. */
static void check_changed(const struct left *t)
{
    struct t5_reader reader = {.w = t->wi};
    struct t5_dropout none = {0};
    int64_t n = t->n, d = t->d, out = 2 * t->f;
    void *y = poison(act_bytes(n * d)), *g = poison(act_bytes(n * out));
    gpu.ops.norm_fwd(gpu.dev, t->x_out, y, t->x, t->delta, t->gain, n, d, 1e-6f, &t->b->dev, &none,
                     &none, &reader);
    gpu.ops.zero(gpu.dev, y, act_bytes(n * d));
    gpu.ops.linear_fwd(gpu.dev, g, out, y, d, t->wi, n);
    float *got = down_act(g, n * out);
    for (int64_t i = 0; i < n * out; i++)
        if (got[i] != 0)
            fail_msg("rows that changed since were taken as they had been left");
    free(got);
    drop_dev(y);
    drop_dev(g);
}

/* Rows with a lasting reader are taken after products of others, and not after they were written
 * anew: each time the product has the bytes of that of a copy. */
static void check_lasting(const struct left *t)
{
    struct t5_reader reader = {.w = t->wi, .lasting = 1};
    struct t5_dropout none = {0};
    int64_t n = t->n, d = t->d, out = 2 * t->f;
    void *y = poison(act_bytes(n * d)), *g = poison(act_bytes(n * out));
    for (int round = 0; round < 2; round++) {
        gpu.ops.norm_fwd(gpu.dev, t->x_out, y, t->x, round ? NULL : t->delta, t->gain, n, d, 1e-6f,
                         &t->b->dev, &none, &none, &reader);
        gpu.ops.linear_fwd(gpu.dev, g, d, t->dh, t->f, t->wo, n);
        gpu.ops.linear_fwd(gpu.dev, g, out, y, d, t->wi, n);
        uint16_t *rows = bits_of(y, n * d), *got = bits_of(g, n * out);
        void *copy = up(rows, (size_t)(n * d) * 2);
        gpu.ops.linear_fwd(gpu.dev, g, out, copy, d, t->wi, n);
        uint16_t *want = bits_of(g, n * out);
        if (memcmp(want, got, (size_t)(n * out) * 2) != 0)
            fail_msg("a lasting reader's product, %s", round ? "of rows written anew" : "later");
        drop_dev(copy);
        free(rows);
        free(got);
        free(want);
    }
    drop_dev(y);
    drop_dev(g);
}

static void check_left(const struct batch *b, int64_t d, int64_t f)
{
    int64_t n = b->host.n_tokens;
    struct left t = {.b = b,
                     .n = n,
                     .d = d,
                     .f = f,
                     .wi = frozen(acts(2 * f * d, 1, 0.1f), 2 * f, d),
                     .wo = frozen(acts(d * f, 2, 0.1f), d, f),
                     .x = up_floats(n * d, 4),
                     .dx = floats(n * d, 8, 1),
                     .x_out = poison((size_t)(n * d) * 4),
                     .gain = up_floats(d, 3),
                     .delta = up_acts(n * d, 5),
                     .g = up_acts(n * 2 * f, 6),
                     .dh = up_acts(n * f, 7),
                     .dy = up_acts(n * d, 9)};
    for (int op = 0; op < LEFT_OPS; op++)
        check_left_op(&t, (enum left_op)op);
    check_changed(&t);
    check_lasting(&t);
    gpu.ops.weight_free(gpu.dev, t.wi);
    gpu.ops.weight_free(gpu.dev, t.wo);
    void *const dev[] = {t.x, t.x_out, t.gain, t.delta, t.g, t.dh, t.dy};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        drop_dev(dev[i]);
    free(t.dx);
}

static void test_left(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct batch b;
        batch_init(&b, batches[i].q, batches[i].n);
        check_left(&b, 64, 1024);
        check_left(&b, 528, 2816);
        if (i == 0) /* one token: rows are what differs */
            check_left(&b, 4096, 5200);
        batch_free(&b);
    }
}

static int setup_e4m3(void **state)
{
    (void)state;
    half = 1, int8 = 0;
    return setup_as(T5_COMPUTE_FP8);
}
static int setup_int8(void **state)
{
    (void)state;
    half = 1, int8 = 1;
    return setup_as(T5_COMPUTE_INT8);
}

int main(void)
{
    const struct CMUnitTest fp8[] = {cmocka_unit_test(test_products),
                                     cmocka_unit_test(test_not_finite),
                                     cmocka_unit_test(test_left)};
    const struct CMUnitTest int8_tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_apart),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_left)};
    return cmocka_run_group_tests_name("fp8", fp8, setup_e4m3, teardown) +
           cmocka_run_group_tests_name("int8", int8_tests, setup_int8, teardown);
}
