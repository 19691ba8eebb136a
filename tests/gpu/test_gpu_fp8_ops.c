/* test_gpu_fp8_ops.c - 8-bit products against ref's products of what both sides hold after
 * rounding, from every type of file, and rows that norm and glu leave in 8 bits. */
/* SPDX-License-Identifier: MIT */
#include "gpu_ops.h"

/* e4m3 rounded to nearest even, as a float: 3 bits of fraction, 2^-9 between the smallest. */
static float rounded8(float x)
{
    int e;
    float size = fabsf(x);
    frexpf(size, &e);
    float step = ldexpf(1, (e < -5 ? -5 : e) - 4);
    return copysignf(fminf(rintf(size / step) * step, 448), x);
}

/* Rows through e4m3 with one scale each and back; the scales where they are wanted. */
static float *through8(const float *x, int64_t n, int64_t cols, float *scales)
{
    float *out = fresh((size_t)(n * cols) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        float largest = 0;
        for (int64_t c = 0; c < cols; c++)
            largest = fmaxf(largest, fabsf(x[i * cols + c]));
        float scale = fmaxf(largest / 448, 0x1p-100f), inverse = 1 / scale;
        for (int64_t c = 0; c < cols; c++)
            out[i * cols + c] = rounded8(x[i * cols + c] * inverse) * (scales ? 1 : scale);
        if (scales)
            scales[i] = scale;
    }
    return out;
}

/* Both sides in 8 bits, against ref's products of what both sides hold: what is left is the order
 * and width of the sums, and the result's own rounding. */
static void check_fp8(int64_t n, int64_t rows, int64_t cols, enum t5_dtype type, float size,
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
        if (type == T5_I8)
            w[i] = (float)q[i] * q_scale[i / cols];
    }
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
    if (type == T5_F8) { /* taken as it is */
        memcpy(w_scale, q_scale, (size_t)rows * 4);
        t5_to_f32(wq, q, T5_F8, (size_t)(rows * cols));
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
    /* the tensor cores' fast accumulation of e4m3 keeps some 14 bits of a partial sum */
    assert_close(got, y, n * rows, 4 * to, 5e-3, "fp8 linear");
    free(got);
    gpu.ops.logits_fwd(gpu.dev, gl, gx, cols, gw, n, 1);
    got = down_f(gl, n * rows);
    assert_close(got, y, n * rows, 4 * to, 5e-3, "fp8 logits");
    free(got);
    ref->linear_bwd_input(ref_dev, dx, cols, dyq, rows, rb, n, 1);
    gpu.ops.linear_bwd_input(gpu.dev, gdx, cols, gdy, rows, gw, n, 1);
    got = down_act(gdx, n * cols);
    assert_close(got, dx, n * cols, 4 * fro, 5e-3, "fp8 dx, added"); /* cuBLASLt rounds first */
    free(got);
    ref->linear_bwd_input(ref_dev, fresh_dx, cols, dyq, rows, rb, n, 0);
    gpu.ops.linear_bwd_input(gpu.dev, gdx, cols, gdy, rows, gw, n, 0);
    got = down_act(gdx, n * cols);
    assert_close(got, fresh_dx, n * cols, fro, 5e-3, "fp8 dx");
    free(got);
    ref->weight_free(ref_dev, rb);
    ref->weight_free(ref_dev, rw);
    gpu.ops.weight_free(gpu.dev, gw);
    void *const dev[] = {gx, gdy, gy, gdx, gl};
    void *const host[] = {w,       x,  dy,     dx, y,   w_scale, dy_scale, q,
                          q_scale, wq, half_w, xq, dyq, wide,    fresh_dx};
    for (int i = 0; i < 5; i++)
        drop_dev(dev[i]);
    for (int i = 0; i < 15; i++)
        free(host[i]);
}

static void test_fp8(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 16, 16},    {3, 64, 48},     {11, 192, 64},
                                       {130, 96, 544}, {257, 128, 512}, {70, 512, 4112}};
    static const enum t5_dtype types[] = {T5_F32, T5_BF16, T5_I8, T5_F8};
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 4; k++)
            check_fp8(sizes[i][0], sizes[i][1], sizes[i][2], types[k], k == 1 ? 1e-3f : 1,
                      k % 2 ? T5_USE_COMPACT : 0);
}

/* A product of what an operator just wrote must have the bytes of the same product of a copy: the
 * 8 bits left behind are those that would be made. y: room for both results, made before: nothing
 * may come between an operator and its product. */
static void same_of_copy(void *const y[2], void *x, int64_t x_elements, const struct t5_weight *w,
                         int64_t n, int64_t in, int64_t out, int back, const char *what)
{
    void *copy = NULL;
    uint16_t *host[2] = {fresh((size_t)(n * out) * 2), fresh((size_t)(n * out) * 2)};
    for (int i = 0; i < 2; i++) {
        if (i == 1) {
            uint16_t *bits = fresh((size_t)x_elements * 2);
            OK(gpu.ops.download(gpu.dev, bits, x, (size_t)x_elements * 2, &err));
            copy = up(bits, (size_t)x_elements * 2);
            free(bits);
        }
        if (back)
            gpu.ops.linear_bwd_input(gpu.dev, y[i], out, i ? copy : x, in, w, n, 0);
        else
            gpu.ops.linear_fwd(gpu.dev, y[i], out, i ? copy : x, in, w, n);
    }
    for (int i = 0; i < 2; i++)
        OK(gpu.ops.download(gpu.dev, host[i], y[i], (size_t)(n * out) * 2, &err));
    if (memcmp(host[0], host[1], (size_t)(n * out) * 2) != 0)
        fail_msg("%s: what was left in 8 bits is not what would have been made", what);
    free(host[0]);
    free(host[1]);
    drop_dev(copy);
}

/* norm and glu, forward and back, each with the product behind it; then a row that changes between
 * the two. */
static void check_left(struct batch *b, int64_t d, int64_t f)
{
    int64_t n = b->host.n_tokens;
    struct t5_dropout drop = dropout(0.2f, 5);
    float *wi = acts(2 * f * d, 1, 0.1f), *wo = acts(d * f, 2, 0.1f), *gain = floats(d, 3, 1);
    float *x = floats(n * d, 4, 1), *delta = acts(n * d, 5, 1), *dh = acts(n * f, 6, 1);
    struct t5_matrix mi = {wi, T5_F32, NULL, 2 * f, d, NULL};
    struct t5_matrix mo = {wo, T5_F32, NULL, d, f, NULL};
    struct t5_weight *gi, *go;
    unsigned use = T5_USE_FORWARD | T5_USE_INPUT_GRAD;
    OK(gpu.ops.weight_freeze(gpu.dev, &gi, &mi, 1, use, &err));
    OK(gpu.ops.weight_freeze(gpu.dev, &go, &mo, 1, use, &err));
    float *gx = up_f(x, n * d), *gdx = up_f(x, n * d), *ggain = up_f(gain, d);
    void *gh = up_act(dh, n * f), *gdelta = up_act(delta, n * d), *gy = poison(act_bytes(n * d));
    void *gg = poison(act_bytes(n * 2 * f)), *gdh = up_act(dh, n * f),
         *gdg = poison(act_bytes(n * 2 * f));
    void *const y[2] = {poison(act_bytes(n * 2 * f)), poison(act_bytes(n * 2 * f))};
    gpu.ops.linear_fwd(gpu.dev, gdelta, d, gh, f, go, n); /* delta is wo's */
    gpu.ops.norm_fwd(gpu.dev, gx, gy, gx, gdelta, ggain, n, d, 1e-6f, &b->dev, &drop, &drop);
    same_of_copy(y, gy, n * d, gi, n, d, 2 * f, 0, "norm_fwd");
    gpu.ops.linear_fwd(gpu.dev, gg, 2 * f, gy, d, gi, n);
    gpu.ops.glu_fwd(gpu.dev, gh, gg, n, f, T5_GLU_GELU_NEW, 1, &b->dev, &drop);
    same_of_copy(y, gh, n * f, go, n, f, d, 0, "glu_fwd");
    gpu.ops.glu_bwd(gpu.dev, gdg, gdh, gg, n, f, T5_GLU_GELU_NEW, 1, &b->dev, &drop);
    same_of_copy(y, gdg, n * 2 * f, gi, n, 2 * f, d, 1, "glu_bwd");
    gpu.ops.norm_bwd(gpu.dev, gdx, gdelta, NULL, gy, gx, ggain, n, d, 1e-6f, &b->dev, &drop, &drop);
    same_of_copy(y, gdelta, n * d, go, n, d, f, 1, "norm_bwd");
    gpu.ops.norm_fwd(gpu.dev, gx, gy, gx, gdelta, ggain, n, d, 1e-6f, &b->dev, &drop, &drop);
    gpu.ops.zero(gpu.dev, gy, act_bytes(n * d));
    gpu.ops.linear_fwd(gpu.dev, gg, 2 * f, gy, d, gi, n);
    float *got = down_act(gg, n * 2 * f);
    for (int64_t i = 0; i < n * 2 * f; i++)
        if (got[i] != 0)
            fail_msg("rows that changed since were taken as they had been left");
    free(got);
    gpu.ops.weight_free(gpu.dev, gi);
    gpu.ops.weight_free(gpu.dev, go);
    void *const dev[] = {gx, gdx, ggain, gh, gdelta, gy, gg, gdh, gdg, y[0], y[1]};
    void *const host[] = {wi, wo, gain, x, delta, dh};
    for (int i = 0; i < 11; i++)
        drop_dev(dev[i]);
    for (int i = 0; i < 6; i++)
        free(host[i]);
}

static void test_left(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct batch b;
        batch_init(&b, batches[i].q, batches[i].n);
        check_left(&b, 64, 1024);
        check_left(&b, 528, 2816);
        check_left(&b, 4096, 5200);
        batch_free(&b);
    }
}

static int setup(void **state)
{
    (void)state;
    half = 1;
    return setup_as(T5_COMPUTE_FP8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fp8), cmocka_unit_test(test_left)};
    return cmocka_run_group_tests_name("fp8", tests, setup, teardown);
}
