/* gemm_portable.c - the tiles in plain C: what any processor runs, and the readable definition of
 * the other two files. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "cpu/gemm_kernel.h"

enum { NR = T5_GEMM_NR };

static void start(float acc[NR], const float *y, int n, int accumulate)
{
    for (int j = 0; j < NR; j++)
        acc[j] = accumulate && j < n ? y[j] : 0;
}

static void f32(float *y, int64_t ldy, const float *a, int64_t rs, int64_t cs, const float *b,
                int64_t ldb, int64_t k, int m, int n, int accumulate,
                const struct t5_gemm_ahead *ahead)
{
    (void)ahead;
    for (int i = 0; i < m; i++, y += ldy) {
        float acc[NR];
        start(acc, y, n, accumulate);
        for (int64_t p = 0; p < k; p++) {
            const float av = a[i * rs + p * cs], *row = b + p * ldb;
#pragma omp simd
            for (int j = 0; j < n; j++)
                acc[j] += av * row[j];
        }
        memcpy(y, acc, (size_t)n * sizeof(float));
    }
}

static void bf16(float *y, int64_t ldy, const uint16_t *a, int64_t lda, const uint16_t *b,
                 int64_t k, int m, int n, int accumulate, const struct t5_gemm_ahead *ahead)
{
    (void)ahead;
    for (int i = 0; i < m; i++, y += ldy, a += lda) {
        float acc[NR];
        start(acc, y, n, accumulate);
        for (int64_t p = 0; p < k; p += 2) {
            const float a0 = t5_bf16_to_f32(a[p]), a1 = t5_bf16_to_f32(a[p + 1]);
            const uint16_t *pairs = b + p * NR;
#pragma omp simd
            for (int j = 0; j < NR; j++) {
                acc[j] += a0 * t5_bf16_to_f32(pairs[2 * j]);
                acc[j] += a1 * t5_bf16_to_f32(pairs[2 * j + 1]);
            }
        }
        memcpy(y, acc, (size_t)n * sizeof(float));
    }
}

static void int8(float *y, int64_t ldy, const uint8_t *a, int64_t lda, const float *a_scale,
                 const int8_t *b, const float *b_scale, const int32_t *shift, int64_t k, int m,
                 int n, int accumulate, const struct t5_gemm_ahead *ahead)
{
    (void)ahead;
    for (int i = 0; i < m; i++, y += ldy, a += lda) {
        int32_t sum[NR];
        for (int j = 0; j < NR; j++)
            sum[j] = -shift[j];
        for (int64_t p = 0; p < k; p += 4) {
            const int8_t *quads = b + p * NR;
            for (int j = 0; j < NR; j++)
                for (int q = 0; q < 4; q++)
                    sum[j] += a[p + q] * quads[4 * j + q];
        }
        for (int j = 0; j < n; j++) {
            const float value = (float)sum[j] * b_scale[j] * a_scale[i];
            y[j] = accumulate ? y[j] + value : value;
        }
    }
}

static void round_row(uint16_t *out, const float *x, int64_t k, int64_t padded)
{
    for (int64_t p = 0; p < padded; p++)
        out[p] = p < k ? t5_f32_to_bf16(x[p]) : 0;
}

static void quantise_row(uint8_t *out, float *scale, const float *x, int64_t k, int64_t padded)
{
    float absmax = 0;
    for (int64_t p = 0; p < k; p++)
        absmax = isnan(x[p]) || isnan(absmax) ? NAN : fmaxf(absmax, fabsf(x[p]));
    const float by = absmax > 0 ? 127 / absmax : 0;
    *scale = absmax / 127;
    for (int64_t p = 0; p < padded; p++)
        out[p] = (uint8_t)(128 + (p < k ? (int)lrintf(x[p] * by) : 0));
}

static void transpose(float *out, const float *in, int64_t ld, int n, int64_t depth)
{
    for (int j = 0; j < n; j++)
        for (int64_t p = 0; p < depth; p++)
            out[p * NR + j] = in[j * ld + p];
}

const struct t5_gemm_isa t5_gemm_portable = {"portable", f32,          bf16,     int8,
                                             round_row,  quantise_row, transpose};
