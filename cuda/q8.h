/* q8.h - 8-bit arithmetic on both sides of a product: int8 or e4m3 with one F32 scale a row.
 *   x[i][c] ~ q[i][c] scale[i],  scale[i] = max |x[i]| / 127 or / 448,  q rounded to nearest.
 * int8 needs compute capability 9.0 (matmul_int8.cu), e4m3 8.9; cuda_open refuses other cards. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_Q8_H
#define T5_CUDA_Q8_H

#include <cuda_fp8.h>

#include "device.h"
#include "instructions.h"

typedef uint8_t q8; /* 8 raw bits */

/* The scale of rows that are smaller, and of zeros. */
#define Q8_SMALLEST 0x1p-100f

struct q8_scaling {
    float scale, inverse; /* rounded as 1 / scale is, without its care for the smallest numbers */
};
/* NaN and infinity stay in the scale, so that none of such a row's products is finite. */
__device__ inline q8_scaling q8_scale(float largest, bool int8)
{
    const float fits = largest * (int8 ? 1 / 127.0f : 1 / 448.0f);
    const float scale = fits < Q8_SMALLEST ? Q8_SMALLEST : fits;
    const float near = reciprocal_fast(scale);
    return {scale, fmaf(near, fmaf(-scale, near, 1), near)};
}

/* x inverse to the nearest of -127 .. 127, in the low byte: the sum's last bit counts ones. Rounded
 * once, in every kernel. */
__device__ inline uint32_t nearest_int8(float x, float inverse)
{
    return __float_as_uint(fmaf(x, inverse, 0x1.8p23f));
}

/* Two values times `inverse`, the first in the low byte. */
__device__ inline uint16_t q8_pair(float a, float b, float inverse, bool int8)
{
    if (int8)
        return (uint16_t)__byte_perm(nearest_int8(a, inverse), nearest_int8(b, inverse), 0x0040);
    return __nv_cvt_float2_to_fp8x2(make_float2(a * inverse, b * inverse), __NV_SATFINITE,
                                    __NV_E4M3);
}

__device__ inline uint2 q8_octet(const octet &x, float inverse, bool int8)
{
    uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = q8_pair(x.v[2 * i], x.v[2 * i + 1], inverse, int8);
    return make_uint2(__byte_perm(pair[0], pair[1], 0x5410), __byte_perm(pair[2], pair[3], 0x5410));
}

__device__ inline float largest_of(const octet &x, float so_far)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        so_far = max_nan(so_far, fabsf(x.v[i]));
    return so_far;
}

/* The same of packed octets, for even and odd columns apart; then of both. */
__device__ inline __nv_bfloat162 largest_pair(const uint4 &raw, __nv_bfloat162 so_far)
{
    const __nv_bfloat162 *pair = reinterpret_cast<const __nv_bfloat162 *>(&raw);
#pragma unroll
    for (int i = 0; i < 4; i++)
        so_far = __hmax2_nan(so_far, __habs2(pair[i]));
    return so_far;
}
__device__ inline float largest_of(__nv_bfloat162 pair)
{
    const float2 x = __bfloat1622float2(pair);
    return max_nan(x.x, x.y);
}

/* The largest of a block of whole warps, in every thread: of magnitudes, whose bits are in the same
 * order, NaN's behind all. Once a kernel. */
__device__ inline float block_largest(float x)
{
    __shared__ uint32_t part[32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    const uint32_t bits = __reduce_max_sync(~0u, __float_as_uint(x));
    if (lane == 0)
        part[warp] = bits;
    __syncthreads();
    return __uint_as_float(__reduce_max_sync(~0u, lane < warps ? part[lane] : 0));
}

/* ---- activations ---- */

struct t5_q8_rows { /* (n, cols), rows one behind the other; the device's own memory */
    q8 *q;
    float *scale; /* (n) */
    bool int8;    /* or e4m3 */
};

/* x bf16 (n, cols) at distance ldx, times fold[c] where fold is not NULL. cols is a multiple of 16.
 * Valid until the next call; q NULL after a failure. */
t5_q8_rows t5_cuda_q8_rows(t5_device *dev, const bf16 *x, int64_t ldx, const float *fold, int64_t n,
                           int64_t cols);

/* An operator that has a row in registers can leave it in 8 bits, so that the product behind it
 * need not read it again. It asks where to (q NULL: its reader takes none), writes what
 * t5_cuda_q8_rows would make of the bf16, bit for bit, and says so after its launch. alone: the
 * bf16 itself was not written. The next t5_cuda_q8_rows takes them if it is for the same rows and
 * fold and nothing at all was asked of the device in between; otherwise they are forgotten, which
 * is a failure where they were alone. For a lasting reader they lie elsewhere and are taken until
 * they are left anew. Whether rows are taken never shows in a result. */
t5_q8_rows t5_cuda_q8_offer(t5_device *dev, const t5_reader *reader, int64_t n, int64_t cols);
void t5_cuda_q8_left(t5_device *dev, const t5_reader *reader, const act *x, const float *fold,
                     int64_t n, int64_t cols);
void t5_cuda_q8_forget(t5_device *dev);
void t5_cuda_q8_close(t5_device *dev);

/* ---- weights ---- */

/* Whether a frozen weight of this shape and use is kept in 8 bits. */
bool t5_cuda_q8_keeps(const t5_device *dev, int64_t rows, int64_t cols, unsigned use);
static inline q8 *t5_cuda_q8_bits(const t5_weight *w)
{
    return w->q ? (q8 *)w->q : w->e4m3;
}
/* Whether its transpose is kept beside it, for input gradients; else it is made for each product.
 */
bool t5_cuda_q8_transposes(unsigned use);
const q8 *t5_cuda_q8_transposed(t5_device *dev, const t5_weight *w);
int t5_cuda_q8_load(t5_device *dev, t5_weight *w, const t5_matrix *parts, int n_parts, unsigned use,
                    t5_err *err);

/* ---- products ---- */

/* C (m, n) bf16, or float, [+]= scale x A (m, k) B (n, k)^T, A's and B's rows times their scales */
void t5_cuda_matmul_q8(t5_device *dev, void *c, int64_t ldc, int c_float, t5_q8_rows a,
                       t5_q8_rows b, int64_t m, int64_t n, int64_t k, float scale, int accumulate);

#endif
