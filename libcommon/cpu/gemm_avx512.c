/* gemm_avx512.c - tiles of 6 x 64 for processors with AVX-512, its bf16 and its VNNI dot products
 * (Zen 4 and later, Cooper Lake, Sapphire Rapids and later). 24 of the 32 registers accumulate; a
 * step of k costs 4 loads of the panel and 6 broadcasts for 24 multiply-adds. */
/* SPDX-License-Identifier: MIT */
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma,avx2")
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "cpu/gemm_kernel.h"

#define INLINE static inline __attribute__((always_inline))
/* An unrolled loop over a tile's rows or vectors: the bounds are constants after inlining. */
#define EACH(i, n) _Pragma("GCC unroll 6") for (int i = 0; i < (n); i++)

INLINE void fetch(const struct t5_gemm_ahead *ahead, int64_t step)
{
    for (int i = 0; i < ahead->lines; i++)
        _mm_prefetch(ahead->next + step * 256 + 64 * (ahead->first + i), _MM_HINT_T1);
}

INLINE __mmask16 last_mask(int n, int nv)
{
    return (__mmask16)(0xffffu >> (16 * nv - n));
}

INLINE void load_tile(__m512 acc[6][4], const float *y, int64_t ldy, int mr, int nv, __mmask16 last,
                      int accumulate)
{
    EACH(i, mr)
        EACH(j, nv)
            acc[i][j] = !accumulate   ? _mm512_setzero_ps()
                        : j == nv - 1 ? _mm512_maskz_loadu_ps(last, y + i * ldy + 16 * j)
                                      : _mm512_loadu_ps(y + i * ldy + 16 * j);
}

INLINE void store_tile(float *y, int64_t ldy, __m512 acc[6][4], int mr, int nv, __mmask16 last)
{
    EACH(i, mr)
        EACH(j, nv)
            if (j == nv - 1)
                _mm512_mask_storeu_ps(y + i * ldy + 16 * j, last, acc[i][j]);
            else
                _mm512_storeu_ps(y + i * ldy + 16 * j, acc[i][j]);
}

INLINE void f32_tile(int mr, int nv, float *y, int64_t ldy, const float *a, int64_t rs, int64_t cs,
                     const float *b, int64_t ldb, int64_t k, int n, int accumulate,
                     const struct t5_gemm_ahead *ahead)
{
    __m512 acc[6][4];
    __mmask16 last = last_mask(n, nv);
    load_tile(acc, y, ldy, mr, nv, last, accumulate);
    for (int64_t p = 0; p < k; p++, a += cs, b += ldb) {
        __m512 bv[4];
        fetch(ahead, p);
        EACH(j, nv)
            bv[j] =
                j == nv - 1 ? _mm512_maskz_loadu_ps(last, b + 16 * j) : _mm512_loadu_ps(b + 16 * j);
        EACH(i, mr) {
            __m512 av = _mm512_set1_ps(a[i * rs]);
            EACH(j, nv)
                acc[i][j] = _mm512_fmadd_ps(av, bv[j], acc[i][j]);
        }
    }
    store_tile(y, ldy, acc, mr, nv, last);
}

INLINE __m512i broadcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

INLINE void bf16_tile(int mr, int nv, float *y, int64_t ldy, const uint16_t *a, int64_t lda,
                      const uint16_t *b, int64_t k, int n, int accumulate,
                      const struct t5_gemm_ahead *ahead)
{
    __m512 acc[6][4];
    __mmask16 last = last_mask(n, nv);
    load_tile(acc, y, ldy, mr, nv, last, accumulate);
    for (int64_t p = 0; p < k / 2; p++, a += 2, b += 2 * T5_GEMM_NR) {
        __m512bh bv[4];
        fetch(ahead, p);
        EACH(j, nv)
            bv[j] = (__m512bh)_mm512_load_si512(b + 32 * j);
        EACH(i, mr) {
            __m512bh av = (__m512bh)broadcast4(a + i * lda);
            EACH(j, nv)
                acc[i][j] = _mm512_dpbf16_ps(acc[i][j], av, bv[j]);
        }
    }
    store_tile(y, ldy, acc, mr, nv, last);
}

/* The intrinsic makes GCC 12 copy every accumulator at every step, which halves the speed. */
INLINE __m512i dot_u8s8(__m512i sum, __m512i a, __m512i b)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

INLINE void int8_tile(int mr, int nv, float *y, int64_t ldy, const uint8_t *a, int64_t lda,
                      const float *a_scale, const int8_t *b, const float *b_scale,
                      const int32_t *shift, int64_t k, int n, int accumulate,
                      const struct t5_gemm_ahead *ahead)
{
    __m512i sum[6][4];
    __m512 acc[6][4];
    __mmask16 last = last_mask(n, nv);
    EACH(i, mr)
        EACH(j, nv)
            sum[i][j] = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_load_si512(shift + 16 * j));
    for (int64_t p = 0; p < k / 4; p++, a += 4, b += 4 * T5_GEMM_NR) {
        __m512i bv[4];
        fetch(ahead, p);
        EACH(j, nv)
            bv[j] = _mm512_load_si512(b + 64 * j);
        EACH(i, mr) {
            __m512i av = broadcast4(a + i * lda);
            EACH(j, nv)
                sum[i][j] = dot_u8s8(sum[i][j], av, bv[j]);
        }
    }
    load_tile(acc, y, ldy, mr, nv, last, accumulate);
    EACH(i, mr)
        EACH(j, nv) {
            __m512 s =
                _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][j]), _mm512_load_ps(b_scale + 16 * j));
            s = _mm512_mul_ps(s, _mm512_set1_ps(a_scale[i]));
            acc[i][j] = accumulate ? _mm512_add_ps(acc[i][j], s) : s;
        }
    store_tile(y, ldy, acc, mr, nv, last);
}

/* One function a tile shape, so that rows and vectors are constants in it. */
#define BY_ROWS(CALL, nv)                                                                          \
    switch (m) {                                                                                   \
    case 1:                                                                                        \
        CALL(1, nv);                                                                               \
        break;                                                                                     \
    case 2:                                                                                        \
        CALL(2, nv);                                                                               \
        break;                                                                                     \
    case 3:                                                                                        \
        CALL(3, nv);                                                                               \
        break;                                                                                     \
    case 4:                                                                                        \
        CALL(4, nv);                                                                               \
        break;                                                                                     \
    case 5:                                                                                        \
        CALL(5, nv);                                                                               \
        break;                                                                                     \
    default:                                                                                       \
        CALL(6, nv);                                                                               \
    }
#define BY_SHAPE(CALL)                                                                             \
    switch ((n + 15) / 16) {                                                                       \
    case 1:                                                                                        \
        BY_ROWS(CALL, 1);                                                                          \
        break;                                                                                     \
    case 2:                                                                                        \
        BY_ROWS(CALL, 2);                                                                          \
        break;                                                                                     \
    case 3:                                                                                        \
        BY_ROWS(CALL, 3);                                                                          \
        break;                                                                                     \
    default:                                                                                       \
        BY_ROWS(CALL, 4);                                                                          \
    }

static void f32(float *y, int64_t ldy, const float *a, int64_t rs, int64_t cs, const float *b,
                int64_t ldb, int64_t k, int m, int n, int accumulate,
                const struct t5_gemm_ahead *ahead)
{
#define CALL(mr, nv) f32_tile(mr, nv, y, ldy, a, rs, cs, b, ldb, k, n, accumulate, ahead)
    BY_SHAPE(CALL)
#undef CALL
}

static void bf16(float *y, int64_t ldy, const uint16_t *a, int64_t lda, const uint16_t *b,
                 int64_t k, int m, int n, int accumulate, const struct t5_gemm_ahead *ahead)
{
#define CALL(mr, nv) bf16_tile(mr, nv, y, ldy, a, lda, b, k, n, accumulate, ahead)
    BY_SHAPE(CALL)
#undef CALL
}

static void int8(float *y, int64_t ldy, const uint8_t *a, int64_t lda, const float *a_scale,
                 const int8_t *b, const float *b_scale, const int32_t *shift, int64_t k, int m,
                 int n, int accumulate, const struct t5_gemm_ahead *ahead)
{
#define CALL(mr, nv)                                                                               \
    int8_tile(mr, nv, y, ldy, a, lda, a_scale, b, b_scale, shift, k, n, accumulate, ahead)
    BY_SHAPE(CALL)
#undef CALL
}

static void round_row(uint16_t *out, const float *x, int64_t k, int64_t padded)
{
    for (int64_t i = 0; i < padded; i += 16) {
        __mmask16 in = k - i >= 16 ? 0xffff : k > i ? last_mask((int)(k - i), 1) : 0;
        __mmask16 to = padded - i >= 16 ? 0xffff : last_mask((int)(padded - i), 1);
        __m256i h = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(in, x + i));
        _mm256_mask_storeu_epi16(out + i, to, h);
    }
}

static void quantise_row(uint8_t *out, float *scale, const float *x, int64_t k, int64_t padded)
{
    __m512 top = _mm512_setzero_ps();
    __mmask16 nan = 0;
    for (int64_t i = 0; i < k; i += 16) {
        __mmask16 in = k - i >= 16 ? 0xffff : last_mask((int)(k - i), 1);
        __m512 v = _mm512_maskz_loadu_ps(in, x + i);
        nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        top = _mm512_max_ps(top, _mm512_abs_ps(v));
    }
    float absmax = nan ? NAN : _mm512_reduce_max_ps(top);
    __m512 by = _mm512_set1_ps(absmax > 0 ? 127 / absmax : 0);
    *scale = absmax / 127;
    for (int64_t i = 0; i < padded; i += 16) {
        __mmask16 in = k - i >= 16 ? 0xffff : k > i ? last_mask((int)(k - i), 1) : 0;
        __mmask16 to = padded - i >= 16 ? 0xffff : last_mask((int)(padded - i), 1);
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(in, x + i), by));
        q = _mm512_add_epi32(q, _mm512_set1_epi32(128));
        _mm_mask_storeu_epi8(out + i, to, _mm512_cvtepi32_epi8(q));
    }
}

/* 16 rows of 16 become 16 columns: two rounds of pair and quad interleaving inside 128-bit lanes,
 * two that move lanes. */
INLINE void transpose16(__m512 r[16])
{
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 2; j++) {
            __m512d x = _mm512_castps_pd(t[i + j]), y = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

static void transpose(float *out, const float *in, int64_t ld, int n, int64_t depth)
{
    for (int j = 0; j < n; j += 16)
        for (int64_t p = 0; p < depth; p += 16) {
            __m512 r[16];
            __mmask16 have = depth - p >= 16 ? 0xffff : last_mask((int)(depth - p), 1);
            for (int i = 0; i < 16; i++)
                r[i] = j + i < n ? _mm512_maskz_loadu_ps(have, in + (j + i) * ld + p)
                                 : _mm512_setzero_ps();
            transpose16(r);
            for (int i = 0; i < 16 && p + i < depth; i++)
                _mm512_store_ps(out + (p + i) * T5_GEMM_NR + j, r[i]);
        }
}

const struct t5_gemm_isa t5_gemm_avx512 = {"avx512",  f32,          bf16,     int8,
                                           round_row, quantise_row, transpose};
