/* rows_portable.c - rows.h with vectors of 4: SSE2, which every x86-64 has. */
/* SPDX-License-Identifier: MIT */
#include <emmintrin.h>

#define VL 4
#define MULTIPLY_EVEN(a, b) ((vl)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#define SQUARE_ROOT(x) ((vf)_mm_sqrt_ps((__m128)(x)))
#define ANY(mask) (_mm_movemask_ps((__m128)(mask)) != 0)
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define TABLE t5_rows_portable
#include "cpu/rows_body.h"
