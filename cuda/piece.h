/* piece.h - pieces of 16 bytes of int8, e4m3 and bf16 rows as operands of tensor cores, with the
 * activations they are multiplied by: what the products of few rows share. 8 bits become bf16 in
 * registers, where they are exact. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_PIECE_H
#define T5_CUDA_PIECE_H

#include "device.h"
#include "instructions.h"

__device__ inline uint32_t word(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Bytes 0 and 2 of q, two's complement, as a pair of bf16. 0x4300 | (q & 127) is 128 + (q & 127),
 * and 0x4300 | (q & 128) is 128, or 256 where q is negative: their difference is q, exactly. */
__device__ inline uint32_t even(uint32_t q, int8_t)
{
    uint32_t low = and_or(q, 0x007f007fu, 0x43004300u), sign = and_or(q, 0x00800080u, 0x43004300u);
    __nv_bfloat162 d = __hsub2(*reinterpret_cast<__nv_bfloat162 *>(&low),
                               *reinterpret_cast<__nv_bfloat162 *>(&sign));
    return *reinterpret_cast<uint32_t *>(&d);
}

/* The same of e4m3. Its exponent and mantissa, moved to where bf16 has them, read as 2^-120 of the
 * value, subnormal or not: the biases are 7 and 127. There are no infinities; NaN reads as 480. */
struct e4m3 {
    uint8_t bits;
};
__device__ inline uint32_t even(uint32_t q, e4m3)
{
    uint32_t small = (q & 0x00800080u) << 8 | (q & 0x007f007fu) << 4, up = 0x7b807b80u; /* 2^120 */
    __nv_bfloat162 v = __hmul2(*reinterpret_cast<__nv_bfloat162 *>(&small),
                               *reinterpret_cast<__nv_bfloat162 *>(&up));
    return *reinterpret_cast<uint32_t *>(&v);
}

/* Eight elements in the order in which an mma takes them: that is free as long as both sides agree.
 * With 8-bit weights, elements 0, 2 of a word of w stand where columns 2t, 2t + 1 are expected, 1,
 * 3 where 2t + 8, 2t + 9 are. */
template <typename W> __device__ inline uint4 in_order(const uint4 &v)
{
    if (sizeof(W) > 1)
        return v;
    return make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632),
                      __byte_perm(v.z, v.w, 0x5410), __byte_perm(v.z, v.w, 0x7632));
}

/* Adds a piece of two rows of w (lo, and hi eight rows of the tile on) times x, whose piece is at
 * `from`, its second half, of 8-bit weights', `half` bytes on. */
template <typename W>
__device__ inline void add_piece(float (&sum)[4], const uint4 &lo, const uint4 &hi,
                                 const char *from, int half)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint4 x = *reinterpret_cast<const uint4 *>(from + h * half);
        uint32_t a = word(lo, 2 * h), b = word(hi, 2 * h), c = word(lo, 2 * h + 1),
                 d = word(hi, 2 * h + 1);
        mma(sum, {even(a, W()), even(b, W()), even(a >> 8, W()), even(b >> 8, W())}, x.x, x.y);
        mma(sum, {even(c, W()), even(d, W()), even(c >> 8, W()), even(d >> 8, W())}, x.z, x.w);
    }
}
template <>
__device__ inline void add_piece<bf16>(float (&sum)[4], const uint4 &lo, const uint4 &hi,
                                       const char *from, int)
{
    uint4 x = *reinterpret_cast<const uint4 *>(from);
    mma(sum, {lo.x, hi.x, lo.y, hi.y}, x.x, x.y);
    mma(sum, {lo.z, hi.z, lo.w, hi.w}, x.z, x.w);
}

#endif
