/* lora_mma.h - pieces of the tensor-core LoRA kernels: dropout on packed pairs, sums of partial
 * results, and launches that overlap with the end of the kernel before.
 *
 * In these kernels a lane has p = lane / 4 and q = lane % 4, and mma's D (16, 8) += A (16, 16) B
 * (16, 8) is spread over the lanes as
 *   A: a[0] = A[p][2q, 2q+1], a[1] = A[p+8][2q ..], a[2] = A[p][2q+8 ..], a[3] = A[p+8][2q+8 ..]
 *   B: b0 = B[2q, 2q+1][p], b1 = B[2q+8, 2q+9][p]
 *   D: c[0], c[1] = D[p][2q, 2q+1];  c[2], c[3] = D[p+8][2q, 2q+1]
 * The order of the contracted index is free as long as A and B agree, and so are the rows of A and
 * the columns of B as long as D is read back the same way: the kernels use that to load 8 or 16
 * neighbouring bytes a lane straight from memory. The index maps stand beside each kernel. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_LORA_MMA_H
#define T5_CUDA_LORA_MMA_H

#include "dependent.h"
#include "instructions.h"
#include "lora.h"

#define LORA_THREADS 256
#define LORA_WARPS 8
/* Blocks that an H100 or H200 holds at once when two share a multiprocessor. A constant, so that
 * the order of sums does not depend on the card. */
#define LORA_BLOCKS 264

__device__ inline uint32_t low_halves(uint32_t a, uint32_t b)
{
    return __byte_perm(a, b, 0x5410);
}
__device__ inline uint32_t high_halves(uint32_t a, uint32_t b)
{
    return __byte_perm(a, b, 0x7632);
}

/* One, four or eight neighbours, or zeros. Offsets within a pass fit 32 bits. */
__device__ inline float load_one(const float *from, bool inside)
{
    return inside ? *from : 0;
}
__device__ inline float4 load_four(const float *from, bool inside)
{
    return inside ? *reinterpret_cast<const float4 *>(from) : make_float4(0, 0, 0, 0);
}
__device__ inline uint2 load_four(const bf16 *from, bool inside)
{
    return inside ? *reinterpret_cast<const uint2 *>(from) : make_uint2(0, 0);
}
__device__ inline uint4 load_eight(const bf16 *from, bool inside)
{
    return inside ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
}

/* The pair with what a word of draws drops of it set to 0; 1 / (1 - p) is left to the f32 result.
 */
__device__ inline uint32_t drop_pair(uint32_t pair, uint32_t word, uint32_t threshold)
{
    if (word << 16 < threshold << 16)
        pair &= 0xffff0000u;
    if (word < threshold << 16)
        pair &= 0xffffu;
    return pair;
}

struct lora_place { /* where a row stands, for its draws */
    uint32_t record, position;
};

__device__ inline struct t5_philox lora_draw(const lora_group &g, int m, lora_place at,
                                             uint32_t octet)
{
    return draw_words(g.keys, at.record, at.position, octet, g.side[m].site);
}

/* place[k] of the pass's row first + k, k < count, by the whole block; the caller synchronises */
__device__ inline void lora_find_places(lora_place *place, const lora_pass &pass, int first,
                                        int count)
{
    for (int k = (int)threadIdx.x; k < count; k += LORA_THREADS) {
        lora_place at = {0, 0};
        if (first + k < pass.n) {
            int32_t b = pass.pack.seq[first + k];
            at.record = pass.pack.record[b];
            at.position = (uint32_t)(pass.begin + first + k - pass.pack.offsets[b]);
        }
        place[k] = at;
    }
}

/* Four sums of `count` partial results, `stride` elements apart, in their order. */
__device__ inline quad lora_sum_quad(const float *part, int count, int64_t stride)
{
    quad sum = {{0, 0, 0, 0}};
#pragma unroll 8
    for (int k = 0; k < count; k++) {
        quad add = load_quad(part + k * stride, 0, 4, true);
        for (int i = 0; i < 4; i++)
            sum.v[i] += add.v[i];
    }
    return sum;
}

/* ---- launches ---- */

/* Cuts `tiles` tiles of 16 rows for `across` blocks side by side: tiles a block, at least `least`
 * and at most `limit`, and as near to one full wave of `blocks` as that allows. */
static inline int lora_cut(int tiles, int across, int blocks, int least, int limit)
{
    int waves =
        (int)(((int64_t)tiles * across + (int64_t)blocks * limit - 1) / ((int64_t)blocks * limit));
    int groups = blocks * waves / across;
    int each = (tiles + (groups > 0 ? groups : 1) - 1) / (groups > 0 ? groups : 1);
    return each < least ? least : each > limit ? limit : each;
}

#endif
