/* test_cpu_gemm.c - the CPU's matrix products against plain double loops, on every instruction set
 * that this processor has; rows and threads never change a bit. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/gemm.h"

static const char *const isas[] = {"avx512", "avx2", "portable"};

static float *floats(int64_t n, uint64_t seed)
{
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(t5_mix(seed, (uint64_t)i) >> 40) * 0x1p-23f - 1;
    return x;
}

static float *poison(int64_t n)
{
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    memset(x, 0xff, (size_t)(n + 1) * sizeof *x);
    return x;
}

/* W (n, k) as a file would hold it, in two stacked parts of different types. */
struct weight {
    float *values; /* what the parts mean */
    void *data[2];
    float *scale[2];
    struct t5_matrix parts[2];
};

static void weight_init(struct weight *w, int64_t n, int64_t k, enum t5_dtype first,
                        enum t5_dtype second)
{
    enum t5_dtype types[2] = {first, second};
    int64_t from[3] = {0, n / 3, n};
    *w = (struct weight){.values = floats(n * k, 7)};
    for (int i = 0; i < 2; i++) {
        int64_t rows = from[i + 1] - from[i];
        float *values = w->values + from[i] * k;
        w->data[i] = malloc((size_t)(rows * k) * 4 + 1);
        w->scale[i] = floats(rows, 9);
        for (int64_t r = 0; types[i] == T5_I8 && r < rows; r++) {
            w->scale[i][r] = 0.01f + fabsf(w->scale[i][r]) / 127;
            for (int64_t c = 0; c < k; c++) {
                int8_t q = (int8_t)(values[r * k + c] * 128);
                ((int8_t *)w->data[i])[r * k + c] = q;
                values[r * k + c] = w->scale[i][r] * (float)q;
            }
        }
        if (types[i] != T5_I8) {
            t5_from_f32(w->data[i], values, types[i], (size_t)(rows * k));
            t5_to_f32(values, w->data[i], types[i], (size_t)(rows * k));
        }
        w->parts[i] = (struct t5_matrix){w->data[i], types[i],
                                         types[i] == T5_I8 ? w->scale[i] : NULL, rows, k, NULL};
    }
}

static void weight_free(struct weight *w)
{
    for (int i = 0; i < 2; i++) {
        free(w->data[i]);
        free(w->scale[i]);
    }
    free(w->values);
}

static double rounded(float x, enum t5_compute math)
{
    return math == T5_COMPUTE_BF16 ? (double)t5_bf16_to_f32(t5_f32_to_bf16(x)) : (double)x;
}

/* One element: sum over p of x[p] w[p * step], in double; *size gets the sum of magnitudes. int8:
 * both sides quantised by their absmax, which for a stored int8 row gives the stored numbers or
 * finer ones. */
static double element(const float *x, const float *w, int64_t step, int64_t k, enum t5_compute math,
                      double *size)
{
    double sum = 0;
    *size = 0;
    for (int64_t p = 0; p < k; p++) {
        double term = rounded(x[p], math) * rounded(w[p * step], math);
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static void check_packed(int64_t m, int64_t n, int64_t k, enum t5_compute math, int transposed,
                         enum t5_dtype first, enum t5_dtype second, int accumulate)
{
    struct weight w;
    struct t5_packed packed;
    struct t5_gemm_scratch scratch = {0};
    struct t5_err err;
    weight_init(&w, n, k, first, second);
    assert_int_equal(t5_packed_make(&packed, math, transposed, w.parts, 2, &err), 0);
    const int64_t in = transposed ? n : k, out = transposed ? k : n, ldx = in + 3, ldy = out + 5;
    /* room for 7 rows only: longer inputs take turns */
    assert_int_equal(t5_gemm_scratch_make(&scratch, 7, in, &err), 0);
    float *x = floats(m * ldx, 3), *y = accumulate ? floats(m * ldy, 5) : poison(m * ldy);
    float *before = malloc((size_t)(m * ldy) * sizeof *before);
    memcpy(before, y, (size_t)(m * ldy) * sizeof *y);
    for (int64_t i = 0; i < 3 * m; i++) /* what lies between rows is not read */
        x[i / 3 * ldx + in + i % 3] = NAN;
    t5_gemm_packed(y, ldy, x, ldx, m, &packed, accumulate, &scratch, 2);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < out; j++) {
            double size, start = accumulate ? (double)before[i * ldy + j] : 0;
            double want = start + element(x + i * ldx, w.values + (transposed ? j : j * k),
                                          transposed ? k : 1, in, math, &size);
            /* int8: half a step of 1/127 on the activation, and on a weight that came as floats */
            double slack = math == T5_COMPUTE_INT8 ? 0.02 * sqrt((double)in) + 0.002 * size : 0;
            if (!t5_close((double)y[i * ldy + j], want, 1e-6 + 2e-6 * size + slack, 0))
                fail_msg("%s math %d transposed %d (%lld, %lld, %lld) at %lld, %lld: got %.9g, "
                         "want %.9g",
                         t5_gemm_isa_name(), (int)math, transposed, (long long)m, (long long)n,
                         (long long)k, (long long)i, (long long)j, (double)y[i * ldy + j], want);
        }
        assert_memory_equal(y + i * ldy + out, before + i * ldy + out, 5 * sizeof(float));
    }
    free(x);
    free(y);
    free(before);
    t5_gemm_scratch_free(&scratch);
    t5_packed_free(&packed);
    weight_free(&w);
}

static void test_packed(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 64, 64},  {2, 65, 3},    {7, 130, 33},
                                        {6, 48, 127}, {19, 77, 10}, {97, 16, 256}, {5, 20, 2311}};
    for (int a = 0; a < 3; a++) {
        if (t5_gemm_force(isas[a]) < 0)
            continue;
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int math = 0; math < 3; math++)
                for (int transposed = 0; transposed < (math == T5_COMPUTE_INT8 ? 1 : 2);
                     transposed++)
                    for (int add = 0; add < 2; add++) {
                        const int64_t *at = shapes[s];
                        check_packed(at[0], at[1], at[2], math, transposed, T5_F32, T5_I8, add);
                        check_packed(at[0], at[1], at[2], math, transposed, T5_BF16, T5_F16, add);
                    }
    }
    t5_gemm_force(isas[0]);
}

/* Stored int8 and a hand-made activation: the sums are whole numbers, so the result is exact. */
static void test_int8_exact(void **state)
{
    (void)state;
    enum { N = 70, K = 37 };
    int8_t q[N * K];
    float scale[N], x[2 * K], y[2 * N], first[2 * N];
    struct t5_err err;
    for (int i = 0; i < N * K; i++)
        q[i] = (int8_t)(t5_mix(1, (uint64_t)i) & 0xff); /* -128 too */
    for (int i = 0; i < N; i++)
        scale[i] = 1.0f / (float)(i + 1);
    for (int i = 0; i < 2 * K; i++) /* absmax 127, so that its quantisation is the identity */
        x[i] = i % K == 5 ? -127 : (float)((int)(t5_mix(2, (uint64_t)i) % 255) - 127);
    struct t5_matrix part = {q, T5_I8, scale, N, K, NULL};
    struct t5_packed packed;
    struct t5_gemm_scratch scratch = {0};
    assert_int_equal(t5_packed_make(&packed, T5_COMPUTE_INT8, 0, &part, 1, &err), 0);
    assert_int_equal(t5_gemm_scratch_make(&scratch, 2, K, &err), 0);
    for (int a = 0, seen = 0; a < 3; a++) {
        if (t5_gemm_force(isas[a]) < 0)
            continue;
        memset(y, 0xff, sizeof y);
        t5_gemm_packed(y, N, x, K, 2, &packed, 0, &scratch, 1);
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < N; j++) {
                int sum = 0;
                for (int p = 0; p < K; p++)
                    sum += (int)x[i * K + p] * q[j * K + p];
                assert_true(y[i * N + j] == (float)sum * scale[j]);
            }
        if (seen++)
            assert_memory_equal(y, first, sizeof y); /* the same bits on every processor */
        memcpy(first, y, sizeof y);
    }
    t5_gemm_force(isas[0]);
    x[K + 3] = NAN; /* a NaN is not hidden by rounding it to some int8 */
    t5_gemm_packed(y, N, x, K, 2, &packed, 0, &scratch, 1);
    assert_true(isfinite(y[0]) && isnan(y[N]) && isnan(y[2 * N - 1]));
    t5_gemm_scratch_free(&scratch);
    t5_packed_free(&packed);
}

/* y = (m, n) of a (m, k) and b (k, n), each in either order in memory. */
static void check_views(int64_t m, int64_t n, int64_t k, int a_turned, int b_turned, int accumulate)
{
    const int64_t lda = (a_turned ? m : k) + 2, ldb = (b_turned ? k : n) + 4, ldy = n + 1;
    float *a = floats(lda * (a_turned ? k : m), 3), *b = floats(ldb * (b_turned ? n : k), 4);
    float *y = accumulate ? floats(m * ldy, 5) : poison(m * ldy);
    float *before = malloc((size_t)(m * ldy) * sizeof *before);
    memcpy(before, y, (size_t)(m * ldy) * sizeof *y);
    struct t5_view av = {a, a_turned ? 1 : lda, a_turned ? lda : 1};
    struct t5_view bv = {b, b_turned ? 1 : ldb, b_turned ? ldb : 1};
    t5_gemm(y, ldy, av, bv, m, n, k, accumulate, 2);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double want = accumulate ? (double)before[i * ldy + j] : 0, size = fabs(want);
            for (int64_t p = 0; p < k; p++) {
                double term =
                    (double)a[i * av.row + p * av.col] * (double)b[p * bv.row + j * bv.col];
                want += term;
                size += fabs(term);
            }
            if (!t5_close((double)y[i * ldy + j], want, 1e-6 + 2e-6 * size, 0))
                fail_msg("%s (%lld, %lld, %lld) a %d b %d at %lld, %lld: got %.9g, want %.9g",
                         t5_gemm_isa_name(), (long long)m, (long long)n, (long long)k, a_turned,
                         b_turned, (long long)i, (long long)j, (double)y[i * ldy + j], want);
        }
        assert_memory_equal(y + i * ldy + n, before + i * ldy + n, sizeof(float));
    }
    free(a);
    free(b);
    free(y);
    free(before);
}

static void test_views(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 16, 100}, {130, 4, 33},    {33, 300, 64},
                                        {13, 65, 17}, {64, 80, 0},  {100, 16, 1100}, {17, 31, 513}};
    for (int s = 0; s < 3; s++) {
        if (t5_gemm_force(isas[s]) < 0)
            continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int bits = 0; bits < 8; bits++)
                check_views(shapes[i][0], shapes[i][1], shapes[i][2], bits & 1, bits >> 1 & 1,
                            bits >> 2);
    }
    t5_gemm_force(isas[0]);
}

/* A row alone, in a batch, and at another place in it: the same bytes. So for 1, 2, 4 and 8
 * threads. */
static void test_same_bytes(void **state)
{
    (void)state;
    enum { M = 103, N = 200, K = 301 };
    struct weight w;
    struct t5_gemm_scratch scratch = {0};
    struct t5_err err;
    weight_init(&w, N, K, T5_I8, T5_F32);
    assert_int_equal(t5_gemm_scratch_make(&scratch, M, K, &err), 0);
    float *x = floats(M * K, 3), *all = poison(M * N), *again = poison(M * N);
    for (int s = 0; s < 3; s++)
        for (int math = 0; math < 4; math++) { /* 3: weights that change */
            struct t5_packed packed = {0};
            if (t5_gemm_force(isas[s]) < 0)
                continue;
            if (math < 3)
                assert_int_equal(t5_packed_make(&packed, math, 0, w.parts, 2, &err), 0);
#define PRODUCT(y, row, m)                                                                         \
    do {                                                                                           \
        if (math < 3)                                                                              \
            t5_gemm_packed(y, N, x + (row)*K, K, m, &packed, 0, &scratch, threads);                \
        else                                                                                       \
            t5_gemm(y, N, (struct t5_view){x + (row)*K, K, 1}, (struct t5_view){w.values, 1, K},   \
                    m, N, K, 0, threads);                                                          \
    } while (0)
            int threads = 1;
            PRODUCT(all, 0, M);
            for (threads = 2; threads <= 8; threads *= 2) {
                PRODUCT(again, 0, M);
                assert_memory_equal(again, all, M * N * sizeof *all);
            }
            threads = 2;
            for (int row = 0; row < M; row += 3) {
                int m = 1 + row % 9 < M - row ? 1 + row % 9 : M - row;
                PRODUCT(again, row, m);
                assert_memory_equal(again, all + row * N, (size_t)(m * N) * sizeof *all);
            }
#undef PRODUCT
            t5_packed_free(&packed);
        }
    t5_gemm_force(isas[0]);
    t5_gemm_scratch_free(&scratch);
    free(x);
    free(all);
    free(again);
    weight_free(&w);
}

static void test_refusals(void **state)
{
    (void)state;
    float one = 1;
    struct t5_matrix part = {&one, T5_F32, NULL, 1, 1, NULL};
    struct t5_packed packed;
    struct t5_err err;
    assert_int_equal(t5_packed_make(&packed, T5_COMPUTE_INT8, 1, &part, 1, &err), -1);
    part.cols = 65537; /* data are not read */
    assert_int_equal(t5_packed_make(&packed, T5_COMPUTE_INT8, 0, &part, 1, &err), -1);
    assert_int_equal(t5_gemm_force("no such"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed),   cmocka_unit_test(test_int8_exact),
        cmocka_unit_test(test_views),    cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
