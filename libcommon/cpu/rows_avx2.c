/* rows_avx2.c - rows.h with vectors of 8. */
/* SPDX-License-Identifier: MIT */
#pragma GCC target("avx2,fma")
#include <immintrin.h>

#define VL 8
#define MULTIPLY_EVEN(a, b) ((vl)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define SQUARE_ROOT(x) ((vf)_mm256_sqrt_ps((__m256)(x)))
#define ANY(mask) (_mm256_movemask_ps((__m256)(mask)) != 0)
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define TABLE t5_rows_avx2
#include "cpu/rows_body.h"
