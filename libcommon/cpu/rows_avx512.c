/* rows_avx512.c - rows.h with vectors of 16. */
/* SPDX-License-Identifier: MIT */
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx2")
#include <immintrin.h>

#define VL 16
#define MULTIPLY_EVEN(a, b) ((vl)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#define SQUARE_ROOT(x) ((vf)_mm512_sqrt_ps((__m512)(x)))
#define ANY(mask) (_mm512_test_epi32_mask((__m512i)(mask), (__m512i)(mask)) != 0)
#define ZIP_LOW(a, b)                                                                              \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b)                                                                             \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define TABLE t5_rows_avx512
#include "cpu/rows_body.h"
