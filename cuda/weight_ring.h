/* weight_ring.h - a warp's rows of one matrix after the other through a ring in shared memory: what
 * the copy engine is asked for, and the products of what has come. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_WEIGHT_RING_H
#define T5_CUDA_WEIGHT_RING_H

#include "decode_stack.h"
#include "piece.h"

/* What a warp reads of the weights, and what it has asked for: the same in all lanes. */
struct stack_ring {
    char *slots;
    uint64_t *full;
    int slot;
    uint32_t parity;
    int product, kind, quad, at, row_bytes; /* asked for next, if product is one */
    const char *row;                        /* of the quad's first row, where `at` is */
    int64_t apart;                          /* bytes from it to the third one */
};

__device__ inline int first_quad()
{
    return (int)(threadIdx.x / 32 * gridDim.x + blockIdx.x);
}
__device__ inline int quad_step()
{
    return STACK_WARPS * (int)gridDim.x;
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
    r.row = p.w + (int64_t)(r.quad * s.stride) * r.row_bytes;
    r.apart = (int64_t)s.apart * r.row_bytes;
}

/* Fills a slot that nobody reads any more. */
__device__ inline void ask(stack_ring &r, const stack_args &a, const stack_product *products,
                           int slot)
{
    if (r.product >= a.n_products)
        return;
    uint32_t bytes = (uint32_t)min(STACK_SEGMENT, r.row_bytes - r.at);
    if (one_lane()) {
        uint64_t *full = r.full + slot;
        char *to = r.slots + slot * STACK_SLOT;
        barrier_expect(full, STACK_QUAD * bytes);
        copy_bulk(to, r.row, bytes, full);
        copy_bulk(to + STACK_SEGMENT, r.row + r.row_bytes, bytes, full);
        copy_bulk(to + 2 * STACK_SEGMENT, r.row + r.apart, bytes, full);
        copy_bulk(to + 3 * STACK_SEGMENT, r.row + r.apart + r.row_bytes, bytes, full);
    }
    r.at += (int)bytes, r.row += bytes;
    if (r.at == r.row_bytes) {
        r.quad += quad_step();
        find_quad(r, a, products);
    }
}

/* Behind the last read of a slot: its next contents. */
__device__ inline void refill(stack_ring &r, const stack_args &a, const stack_product *products)
{
    __syncwarp();
    ask(r, a, products, r.slot);
    r.slot++;
    if (r.slot == STACK_SLOTS)
        r.slot = 0, r.parity ^= 1;
}

/* sum: of rows 0, 1 and of rows 2, 3 of the next quad in the ring, each lane's part of the
 * diagonals, in two parts so that fewer sums wait for each other. x: staged, its second halves of
 * pieces `half` bytes on. Behind the columns x is zero: what 8-bit weights find there in the slot
 * is finite. The last slot is left to be refilled: others wait for the sums. */
template <typename W>
__device__ inline void quad_sums(float (&sum)[STACK_STEPS][2][4], stack_ring &r,
                                 const stack_args &a, const stack_product *products, const char *x,
                                 int half, int row_bytes)
{
    x += threadIdx.x % 32 * 16;
    for (int at = 0; at < row_bytes; at += STACK_SEGMENT, x += STACK_SEGMENT) {
        const char *w = r.slots + r.slot * STACK_SLOT + threadIdx.x % 32 * 16;
        uint4 v[STACK_STEPS][STACK_QUAD];
        barrier_wait(r.full + r.slot, r.parity);
#pragma unroll
        for (int u = 0; u < STACK_STEPS; u++)
#pragma unroll
            for (int i = 0; i < STACK_QUAD; i++) /* within the slot, if not within the row */
                v[u][i] = *reinterpret_cast<const uint4 *>(w + i * STACK_SEGMENT + u * STACK_STEP);
        if (at + STACK_SEGMENT < row_bytes)
            refill(r, a, products);
        auto step = [&](int u) {
#pragma unroll
            for (int pair = 0; pair < 2; pair++)
                add_piece<W>(sum[u][pair], v[u][2 * pair], v[u][2 * pair + 1], x + u * STACK_STEP,
                             half);
        };
        if (at + STACK_STEP < row_bytes)
            step(0), step(1);
        else
            step(0);
    }
}

/* The sum over the warp of the diagonals, of row i % STACK_QUAD in lane i. */
__device__ inline float reduced(const float (&sum)[STACK_STEPS][2][4])
{
    int lane = (int)threadIdx.x % 32, g = lane / 4;
    bool mine = lane % 4 == g / 2, one = lane & 1, two = lane & 2;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) { /* pair i / 2, its row i % 2 */
        float even = 0, odd = 0;
#pragma unroll
        for (int u = 0; u < STACK_STEPS; u++)
            even += sum[u][i / 2][i % 2 * 2], odd += sum[u][i / 2][i % 2 * 2 + 1];
        v[i] = !mine ? 0 : g % 2 ? odd : even;
    }
    float a = (one ? v[1] : v[0]) + __shfl_xor_sync(~0u, one ? v[0] : v[1], 1);
    float b = (one ? v[3] : v[2]) + __shfl_xor_sync(~0u, one ? v[2] : v[3], 1);
    float c = (two ? b : a) + __shfl_xor_sync(~0u, two ? a : b, 2);
    for (int m = 4; m < 32; m *= 2)
        c += __shfl_xor_sync(~0u, c, m);
    return c;
}

#endif
