/* fp8.h - 8-bit arithmetic on both sides of a product: e4m3 values with one F32 scale a row.
 *   x[i][c] ~ q[i][c] scale[i],  scale[i] = max |x[i]| / 448,  q rounded to nearest, saturating.
 * Needs sm_89; cuda_open refuses older cards. Storage is fp8_q, 8 raw bits. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_FP8_H
#define T5_CUDA_FP8_H

#include <cuda_fp8.h>

#include "device.h"

typedef uint8_t fp8_q;

#define FP8_LARGEST 448.0f
/* Rows of zeros get this scale, and what is smaller than it becomes 0. */
#define FP8_SMALLEST 0x1p-100f

__device__ inline float fp8_scale(float largest)
{
    return fmaxf(largest / FP8_LARGEST, FP8_SMALLEST);
}

/* Two values, the first in the low byte. Not finite becomes NaN where the row's scale is not finite
 * either, else it saturates: the product of such a row is not finite. */
__device__ inline uint16_t fp8_pair(float a, float b)
{
    return __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
}

__device__ inline uint32_t fp8_quad(const float v[4])
{
    return fp8_pair(v[0], v[1]) | (uint32_t)fp8_pair(v[2], v[3]) << 16;
}

/* Eight bf16 as they are loaded, and their value. */
__device__ inline void unpack8(float out[8], const uint4 &raw)
{
    const __nv_bfloat162 *pair = reinterpret_cast<const __nv_bfloat162 *>(&raw);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = __bfloat1622float2(pair[i]);
        out[2 * i] = f.x, out[2 * i + 1] = f.y;
    }
}

/* ---- activations ---- */

struct t5_fp8_rows { /* (n, cols), rows one behind the other; the device's own memory */
    const fp8_q *q;
    const float *scale; /* (n) */
};

/* x bf16 (n, cols) at distance ldx, times fold[c] where fold is not NULL. cols is a multiple of 16.
 * Valid until the next call; q NULL after a failure. */
t5_fp8_rows t5_cuda_fp8_rows(t5_device *dev, const bf16 *x, int64_t ldx, const float *fold,
                             int64_t n, int64_t cols);

/* ---- weights ---- */

/* Whether a frozen weight of this shape and use is kept in 8 bits. */
bool t5_cuda_fp8_keeps(const t5_device *dev, int64_t rows, int64_t cols, unsigned use);
int t5_cuda_fp8_load(t5_device *dev, t5_weight *w, const t5_matrix *parts, int n_parts,
                     unsigned use, t5_err *err);

/* ---- products ---- */

/* C (m, n) bf16, or float, [+]= scale x A (m, k) B (n, k)^T, A's and B's rows times their scales */
void t5_cuda_matmul_fp8(t5_device *dev, void *c, int64_t ldc, int c_float, t5_fp8_rows a,
                        t5_fp8_rows b, int64_t m, int64_t n, int64_t k, float scale,
                        int accumulate);

#endif
