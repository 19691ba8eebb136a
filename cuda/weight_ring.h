/* weight_ring.h - a warp's rows of one matrix after the other through a ring in shared memory: what
 * the copy engine is asked for, and the products of what has come. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_WEIGHT_RING_H
#define T5_CUDA_WEIGHT_RING_H

#include "decode_stack.h"
#include "piece.h"

/* What a warp reads of the weights, and what it has asked for: the same in all lanes but for row,
 * which is a lane's of the first STACK_QUAD. */
struct stack_ring {
    char *slots;
    uint64_t *full;
    int slot;
    uint32_t parity;
    int product, kind, quad, at, row_bytes; /* asked for next, if product is one */
    const char *row;
};

template <int ROWS> __device__ inline bool has_row(const stack_args &a, int i)
{
    return ROWS == 1 || i < a.n;
}
__device__ inline int first_quad()
{
    return (int)(threadIdx.x / 32 * gridDim.x + blockIdx.x);
}
__device__ inline int quad_step()
{
    return STACK_WARPS * (int)gridDim.x;
}
__device__ inline int row_of(const stack_shape &s, int quad, int i)
{
    return quad * s.stride + i % 2 + i / 2 * s.apart;
}
__device__ inline int kind_after(int kind, bool last)
{
    return last ? HEAD : kind == WO ? QKV : kind + 1;
}

/* From r.quad on, the next one that there is. */
__device__ inline void find_quad(stack_ring &r, const stack_args &a, const stack_product *products)
{
    while (r.product < a.n_products && r.quad >= a.shape[r.kind].quads) {
        r.product++;
        r.kind = kind_after(r.kind, r.product == a.n_products - 1);
        r.quad = first_quad();
    }
    if (r.product >= a.n_products)
        return;
    const stack_shape &s = a.shape[r.kind];
    const stack_product &p = products[r.product];
    r.at = 0;
    r.row_bytes = s.cols * (p.type == STACK_BF16 ? (int)sizeof(bf16) : 1);
    r.row = p.w + (int64_t)row_of(s, r.quad, (int)threadIdx.x % STACK_QUAD) * r.row_bytes;
}

/* Fills a slot that nobody reads any more. */
__device__ inline void ask(stack_ring &r, const stack_args &a, const stack_product *products,
                           int slot)
{
    int lane = (int)threadIdx.x % 32, bytes = min(STACK_SEGMENT, r.row_bytes - r.at);
    if (r.product >= a.n_products)
        return;
    if (lane == 0)
        barrier_expect(r.full + slot, (uint32_t)(STACK_QUAD * bytes));
    __syncwarp();
    if (lane < STACK_QUAD)
        copy_bulk(r.slots + slot * STACK_SLOT + lane * STACK_SEGMENT, r.row + r.at, (uint32_t)bytes,
                  r.full + slot);
    r.at += bytes;
    if (r.at == r.row_bytes) {
        r.quad += quad_step();
        find_quad(r, a, products);
    }
}

/* Behind the sums of a slot, which are all that its contents are for: the next one. */
template <int ROWS>
__device__ inline void refill(stack_ring &r, const stack_args &a, const stack_product *products)
{
    __syncwarp();
    ask(r, a, products, r.slot);
    r.slot++;
    if (r.slot == stack_slots<ROWS>)
        r.slot = 0, r.parity ^= 1;
}

/* sum: of rows 0, 1 and of rows 2, 3 of the next quad in the ring, each lane's part of the
 * diagonals. x: staged, its second halves of pieces `half` bytes on. Behind the columns x is zero:
 * what 8-bit weights find there in the slot is finite. The last slot is left to be refilled: others
 * wait for the sums. */
template <typename W, int ROWS>
__device__ inline void quad_sums(float (&sum)[2][ROWS][4], stack_ring &r, const stack_args &a,
                                 const stack_product *products, const char *x, int half,
                                 int row_bytes)
{
    int lane = (int)threadIdx.x % 32;
    for (int at = 0; at < row_bytes; at += STACK_SEGMENT) {
        const char *w = r.slots + r.slot * STACK_SLOT + lane * 16;
        barrier_wait(r.full + r.slot, r.parity);
#pragma unroll
        for (int u = 0; u < STACK_SEGMENT; u += STACK_STEP) {
            if (at + u >= row_bytes)
                break;
            uint4 v[STACK_QUAD];
#pragma unroll
            for (int i = 0; i < STACK_QUAD; i++)
                v[i] = *reinterpret_cast<const uint4 *>(w + i * STACK_SEGMENT + u);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                if (!has_row<ROWS>(a, i))
                    break;
                const char *from = x + i * a.pitch + at + u + lane * 16;
                add_piece<W>(sum[0][i], v[0], v[1], from, half);
                add_piece<W>(sum[1][i], v[2], v[3], from, half);
            }
        }
        if (at + STACK_SEGMENT >= row_bytes)
            return;
        refill<ROWS>(r, a, products);
    }
}

/* The sum over the warp of the diagonals, of row i % STACK_QUAD in lane i. */
__device__ inline float reduced(const float (&upper)[4], const float (&lower)[4])
{
    int lane = (int)threadIdx.x % 32, g = lane / 4;
    bool mine = lane % 4 == g / 2, odd = g % 2, one = lane & 1, two = lane & 2;
    float v[4] = {odd ? upper[1] : upper[0], odd ? upper[3] : upper[2], odd ? lower[1] : lower[0],
                  odd ? lower[3] : lower[2]};
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = mine ? v[i] : 0;
    float a = (one ? v[1] : v[0]) + __shfl_xor_sync(~0u, one ? v[0] : v[1], 1);
    float b = (one ? v[3] : v[2]) + __shfl_xor_sync(~0u, one ? v[2] : v[3], 1);
    float c = (two ? b : a) + __shfl_xor_sync(~0u, two ? a : b, 2);
    for (int m = 4; m < 32; m *= 2)
        c += __shfl_xor_sync(~0u, c, m);
    return c;
}

#endif
