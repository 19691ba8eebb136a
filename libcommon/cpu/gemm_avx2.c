/* gemm_avx2.c - the tiles for processors with AVX2 and FMA. A tile is walked in strips of 16
 * columns: 6 rows x 2 vectors accumulate in 12 of the 16 registers. */
/* SPDX-License-Identifier: MIT */
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "cpu/gemm_kernel.h"

#define INLINE static inline __attribute__((always_inline))
#define EACH(i, n) _Pragma("GCC unroll 6") for (int i = 0; i < (n); i++)

enum { NR = T5_GEMM_NR, WIDE = 16 };

/* Fetches the part of the next panel that belongs to the first strip's share of one step. */
INLINE void fetch(const struct t5_gemm_ahead *ahead, int64_t step)
{
    for (int i = 0; i < ahead->lines; i++)
        _mm_prefetch(ahead->next + step * 256 + 64 * (ahead->first + i), _MM_HINT_T1);
}

/* n columns of a strip, the rest 0; vector j of two. */
INLINE __m256 load_part(const float *p, int n, int j)
{
    if (n >= 8 * j + 8)
        return _mm256_loadu_ps(p + 8 * j);
    float all[8] = {0};
    for (int i = 8 * j; i < n; i++)
        all[i - 8 * j] = p[i];
    return _mm256_loadu_ps(all);
}

INLINE void store_part(float *p, __m256 v, int n, int j)
{
    if (n >= 8 * j + 8) {
        _mm256_storeu_ps(p + 8 * j, v);
        return;
    }
    float all[8];
    _mm256_storeu_ps(all, v);
    for (int i = 8 * j; i < n; i++)
        p[i] = all[i - 8 * j];
}

INLINE void start(__m256 acc[6][2], const float *y, int64_t ldy, int mr, int n, int accumulate)
{
    EACH(i, mr)
        EACH(j, 2)
            acc[i][j] = accumulate ? load_part(y + i * ldy, n, j) : _mm256_setzero_ps();
}

INLINE void finish(float *y, int64_t ldy, __m256 acc[6][2], int mr, int n)
{
    EACH(i, mr)
        EACH(j, 2)
            store_part(y + i * ldy, acc[i][j], n, j);
}

INLINE void f32_strip(int mr, float *y, int64_t ldy, const float *a, int64_t rs, int64_t cs,
                      const float *b, int64_t ldb, int64_t k, int n, int accumulate,
                      const struct t5_gemm_ahead *ahead)
{
    __m256 acc[6][2];
    start(acc, y, ldy, mr, n, accumulate);
    for (int64_t p = 0; p < k; p++, a += cs, b += ldb) {
        __m256 bv[2];
        fetch(ahead, p);
        EACH(j, 2)
            bv[j] = load_part(b, n, j);
        EACH(i, mr) {
            __m256 av = _mm256_broadcast_ss(a + i * rs);
            EACH(j, 2)
                acc[i][j] = _mm256_fmadd_ps(av, bv[j], acc[i][j]);
        }
    }
    finish(y, ldy, acc, mr, n);
}

INLINE void bf16_strip(int mr, float *y, int64_t ldy, const uint16_t *a, int64_t lda,
                       const uint16_t *b, int64_t k, int n, int accumulate,
                       const struct t5_gemm_ahead *ahead)
{
    __m256 acc[6][2];
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    start(acc, y, ldy, mr, n, accumulate);
    for (int64_t p = 0; p < k / 2; p++, a += 2, b += 2 * NR) {
        __m256 even[2], odd[2];
        fetch(ahead, p);
        EACH(j, 2) {
            __m256i pairs = _mm256_loadu_si256((const __m256i *)(const void *)(b + 16 * j));
            even[j] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
            odd[j] = _mm256_castsi256_ps(_mm256_and_si256(pairs, high));
        }
        EACH(i, mr) {
            __m256 a0 = _mm256_set1_ps(t5_bf16_to_f32(a[i * lda]));
            __m256 a1 = _mm256_set1_ps(t5_bf16_to_f32(a[i * lda + 1]));
            EACH(j, 2)
                acc[i][j] = _mm256_fmadd_ps(a1, odd[j], _mm256_fmadd_ps(a0, even[j], acc[i][j]));
        }
    }
    finish(y, ldy, acc, mr, n);
}

/* 8 columns at a time: products of 16-bit pairs, two partial sums a column, never saturating. */
INLINE void int8_strip(int mr, float *y, int64_t ldy, const uint8_t *a, int64_t lda,
                       const float *a_scale, const int8_t *b, const float *b_scale,
                       const int32_t *shift, int64_t k, int n, int accumulate,
                       const struct t5_gemm_ahead *ahead)
{
    __m256i sum[6][2];
    EACH(i, mr)
        EACH(j, 2)
            sum[i][j] = _mm256_setzero_si256();
    for (int64_t p = 0; p < k / 4; p++, a += 4, b += 4 * NR) {
        __m256i bv[2];
        fetch(ahead, p);
        EACH(j, 2)
            bv[j] =
                _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(b + 16 * j)));
        EACH(i, mr) {
            int32_t quad;
            memcpy(&quad, a + i * lda, 4);
            __m256i av = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(quad)));
            EACH(j, 2)
                sum[i][j] = _mm256_add_epi32(sum[i][j], _mm256_madd_epi16(av, bv[j]));
        }
    }
    EACH(i, mr) {
        /* (0a 0b 1a 1b | 2a 2b 3a 3b) and the next four columns to 0..7 */
        __m256i all = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[i][0], sum[i][1]), 0xd8);
        all = _mm256_sub_epi32(all, _mm256_loadu_si256((const __m256i *)(const void *)shift));
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(all), _mm256_loadu_ps(b_scale));
        v = _mm256_mul_ps(v, _mm256_set1_ps(a_scale[i]));
        if (accumulate)
            v = _mm256_add_ps(load_part(y + i * ldy, n, 0), v);
        store_part(y + i * ldy, v, n, 0);
    }
}

#define BY_ROWS(CALL)                                                                              \
    switch (m) {                                                                                   \
    case 1:                                                                                        \
        CALL(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        CALL(2);                                                                                   \
        break;                                                                                     \
    case 3:                                                                                        \
        CALL(3);                                                                                   \
        break;                                                                                     \
    case 4:                                                                                        \
        CALL(4);                                                                                   \
        break;                                                                                     \
    case 5:                                                                                        \
        CALL(5);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        CALL(6);                                                                                   \
    }

static const struct t5_gemm_ahead nothing = {NULL, 0, 0};

static void f32(float *y, int64_t ldy, const float *a, int64_t rs, int64_t cs, const float *b,
                int64_t ldb, int64_t k, int m, int n, int accumulate,
                const struct t5_gemm_ahead *ahead)
{
    for (int j = 0; j < n; j += WIDE) {
        const int wide = n - j < WIDE ? n - j : WIDE;
        /* a strip that is whole gets a constant width */
#define CALL(mr) f32_strip(mr, y + j, ldy, a, rs, cs, b + j, ldb, k, WIDE, accumulate, ahead)
        if (wide == WIDE) {
            BY_ROWS(CALL)
        }
#undef CALL
#define CALL(mr) f32_strip(mr, y + j, ldy, a, rs, cs, b + j, ldb, k, wide, accumulate, ahead)
        else {
            BY_ROWS(CALL)
        }
#undef CALL
        ahead = &nothing;
    }
}

static void bf16(float *y, int64_t ldy, const uint16_t *a, int64_t lda, const uint16_t *b,
                 int64_t k, int m, int n, int accumulate, const struct t5_gemm_ahead *ahead)
{
    for (int j = 0; j < n; j += WIDE) {
        const int wide = n - j < WIDE ? n - j : WIDE;
#define CALL(mr) bf16_strip(mr, y + j, ldy, a, lda, b + 2 * j, k, wide, accumulate, ahead)
        BY_ROWS(CALL)
#undef CALL
        ahead = &nothing;
    }
}

static void int8(float *y, int64_t ldy, const uint8_t *a, int64_t lda, const float *a_scale,
                 const int8_t *b, const float *b_scale, const int32_t *shift, int64_t k, int m,
                 int n, int accumulate, const struct t5_gemm_ahead *ahead)
{
    for (int j = 0; j < n; j += 8) {
        const int wide = n - j < 8 ? n - j : 8;
#define CALL(mr)                                                                                   \
    int8_strip(mr, y + j, ldy, a, lda, a_scale, b + 4 * j, b_scale + j, shift + j, k, wide,        \
               accumulate, ahead)
        BY_ROWS(CALL)
#undef CALL
        ahead = &nothing;
    }
}

/* Plain loops, vectorised by the compiler for this file's target. */
static void round_row(uint16_t *out, const float *x, int64_t k, int64_t padded)
{
#pragma omp simd
    for (int64_t p = 0; p < k; p++)
        out[p] = t5_f32_to_bf16(x[p]);
    for (int64_t p = k; p < padded; p++)
        out[p] = 0;
}

static void quantise_row(uint8_t *out, float *scale, const float *x, int64_t k, int64_t padded)
{
    float absmax = 0;
    int nan = 0;
#pragma omp simd reduction(max : absmax) reduction(| : nan)
    for (int64_t p = 0; p < k; p++) {
        absmax = fabsf(x[p]) > absmax ? fabsf(x[p]) : absmax;
        nan |= x[p] != x[p];
    }
    if (nan)
        absmax = NAN;
    const float by = absmax > 0 ? 127 / absmax : 0;
    *scale = absmax / 127;
    for (int64_t p = 0; p < padded; p++)
        out[p] = (uint8_t)(128 + (p < k ? _mm_cvtss_si32(_mm_set_ss(x[p] * by)) : 0));
}

static void transpose(float *out, const float *in, int64_t ld, int n, int64_t depth)
{
    for (int64_t p = 0; p < depth; p += 8) /* lines of the input are read once */
        for (int j = 0; j < n; j++)
            for (int64_t i = p; i < p + 8 && i < depth; i++)
                out[i * NR + j] = in[j * ld + i];
}

const struct t5_gemm_isa t5_gemm_avx2 = {"avx2",    f32,          bf16,     int8,
                                         round_row, quantise_row, transpose};
