/* attention_tiles.h - what attention_mma.h's kernels do with rows of bf16 heads of 64 whoever they
 * belong to: tiles of one side pass through shared memory, strips of the other stay in registers,
 * and the tensor cores multiply them. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_ATTENTION_TILES_H
#define T5_CUDA_ATTENTION_TILES_H

#include "device.h"
#include "instructions.h"

#define HEAD 64 /* d_kv */
#define STRIP 16
#define TILE 64
#define SLOTS 4 /* of the ring at most */
#define WARPS 4 /* of a block at most */
#define THREADS (32 * WARPS)
#define ROW_BYTES (HEAD * 2)
#define MATRIX_BYTES (STRIP * ROW_BYTES)
#define PAIR_BYTES (2 * MATRIX_BYTES + STRIP * 8) /* of both matrices that pass, and statistics */
#define TILE_BYTES (TILE / STRIP * PAIR_BYTES)

__host__ __device__ inline int parts(int n, int each)
{
    return (n + each - 1) / each;
}

/* ---- shared memory ---- */

struct tiles { /* two matrices of n rows that pass through shared memory side by side */
    const bf16 *a, *b;
    int lda, ldb;
    int n, count, slots;
    uint32_t address;
};

__device__ inline uint32_t slot_address(const tiles &x, int tile)
{
    return x.address + (tile & (x.slots - 1)) * TILE_BYTES;
}

/* Row r's 16-byte chunks are XORed with bits 2, 3 and 0 of r, so that the rows that one ldmatrix
 * takes and the two that a quarter of a warp reads at once (see lane_map) lie in different banks.
 */
__device__ inline uint32_t swizzle(int row)
{
    return (row & 1) << 2 | (row >> 2 & 3);
}

/* Rows beyond n up to the next pair are zeros: a weight of 0 times what is left there may be NaN.
 */
__device__ inline void fetch_tile(const tiles &x, int tile)
{
    int chunk = threadIdx.x % 8, end = min(x.n, (tile + 1) * TILE);
#pragma unroll 1
    for (int row = threadIdx.x / 8; row < STRIP; row += blockDim.x / 8) {
        uint32_t to = slot_address(x, tile) + row * ROW_BYTES + (chunk ^ swizzle(row)) * 16;
        int at = tile * TILE + row;
        const bf16 *a = x.a + (int64_t)at * x.lda + chunk * 8;
        const bf16 *b = x.b + (int64_t)at * x.ldb + chunk * 8;
#pragma unroll 1
        for (; at - row < end; at += STRIP) {
            bool beyond = at >= x.n;
            copy_async(to, a, beyond);
            copy_async(to + MATRIX_BYTES, b, beyond);
            to += PAIR_BYTES;
            a += STRIP * x.lda;
            b += STRIP * x.ldb;
        }
    }
}

/* A tile is asked for when it is one less than the slots away. */
__device__ inline void await_copies(const tiles &x)
{
    if (x.slots == SLOTS)
        copy_wait<SLOTS - 2>();
    else
        copy_wait<0>();
    __syncthreads();
}

/* Requests the first tiles of `end`. again: the block has read others that may still be in use. */
__device__ inline void fetch_first(const tiles &x, int end, bool again)
{
    if (again)
        __syncthreads();
#pragma unroll 1
    for (int i = 0; i < x.slots - 1; i++) {
        if (i < end)
            fetch_tile(x, i);
        copy_commit();
    }
}

/* Waits for a tile and requests the one that takes the place of the tile before it. */
__device__ inline void await_tile(const tiles &x, int tile, int end)
{
    await_copies(x);
    if (tile + x.slots - 1 < end)
        fetch_tile(x, tile + x.slots - 1);
    copy_commit();
}

/* ---- fragments ---- */

/* Where a lane finds its share of a pair. The contraction over HEAD is dealt to the lanes as 16
 * bytes of a row lie in memory: lane 4g + t has elements 8t .. 8t + 7 of each half of HEAD, on both
 * sides of the product, and so neither side needs an exchange. */
struct lane_map {
    int g, t;
    uint32_t column; /* row 4 (g / 2) + g % 2, chunk t. ^ 64: chunk t + 4, + 2 rows: second tile */
    uint32_t row;    /* of ldmatrix, for HEAD's first 16 elements. ^ 32 c: for the cth */
};

__device__ inline lane_map map_lanes()
{
    lane_map m;
    int lane = threadIdx.x % 32, i = lane % 8, matrix = lane / 8;
    m.g = lane / 4;
    m.t = lane % 4;
    int column = 4 * (m.g / 2) + m.g % 2, row = 4 * (i / 2) + i % 2 + 2 * (matrix & 1);
    m.column = column * ROW_BYTES + (m.t ^ swizzle(column)) * 16;
    m.row = row * ROW_BYTES + ((matrix >> 1) ^ swizzle(row)) * 16;
    return m;
}

/* Rows 2g, 2g + 1 of a strip as they lie in memory, chunks t and t + 4 */
struct strip_rows {
    uint4 row[2][2];
};

/* from: the strip's first row, n: at least 1; beyond it there is something of the last row. In two
 * steps, so that other work has its place between the request and the answer. */
__device__ inline strip_rows request_strip(const bf16 *from, int ld, int n, const lane_map &m)
{
    strip_rows x;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const bf16 *row = from + min(2 * m.g + r, n - 1) * ld;
#pragma unroll
        for (int half = 0; half < 2; half++)
            x.row[r][half] = reinterpret_cast<const uint4 *>(row)[4 * half + m.t];
    }
    return x;
}

/* As left operands for each 16 elements of HEAD; zeros beyond n */
__device__ inline void take_strip(uint32_t (&a)[4][4], const strip_rows &x, int n,
                                  const lane_map &m)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t there = 2 * m.g + r < n ? ~0u : 0;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 &w = x.row[r][half];
            a[2 * half][r] = w.x & there, a[2 * half][2 + r] = w.y & there;
            a[2 * half + 1][r] = w.z & there, a[2 * half + 1][2 + r] = w.w & there;
        }
    }
}

/* Rows 2g, 2g + 1 of 16 rows x HEAD of sums, to row 0 of `to` on. Neighbouring lanes exchange
 * words, so that four lanes write 32 bytes of a row at once. */
__device__ inline void store_strip(bf16 *to, int ld, int n, const float (&sum)[8][4],
                                   const lane_map &m)
{
    bool odd = m.t & 1;
    uint32_t place = 16 * (m.t & 1) + 8 * (m.t / 2);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = 2 * m.g + r;
        char *bytes = reinterpret_cast<char *>(to + row * ld) + place;
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            uint32_t x = pack_pair(sum[i][2 * r], sum[i][2 * r + 1]);
            uint32_t y = pack_pair(sum[i + 1][2 * r], sum[i + 1][2 * r + 1]);
            uint32_t got = __shfl_xor_sync(~0u, odd ? x : y, 1);
            uint2 two = odd ? make_uint2(got, y) : make_uint2(x, got);
            if (row < n)
                *reinterpret_cast<uint2 *>(bytes + 16 * i) = two;
        }
    }
}

/* A lane's eight elements of strip x pair: strip row 2g + r against pair row 4t + c */
#define EACH_ELEMENT(r, c)                                                                         \
    _Pragma("unroll") for (int r = 0; r < 2; r++) _Pragma("unroll") for (int c = 0; c < 4; c++)
#define AT(x, r, c) x[(c) / 2][2 * (r) + (c) % 2]

/* MATRIX: 0 or 1, which of the two that pass; pair: the address of its rows in the first.
 * x (16, 16) = begin (16, 16) + strip (16, HEAD) pair (16, HEAD)^T, begin in two halves */
template <int MATRIX>
__device__ inline void multiply(float (&x)[2][4], const float (&begin0)[4],
                                const float (&begin1)[4], const uint32_t (&strip)[4][4],
                                uint32_t pair, const lane_map &m)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t b[4];
            load_words(b,
                       ((pair + m.column) ^ 64 * half) + MATRIX * MATRIX_BYTES + 2 * i * ROW_BYTES);
            const float(&begin)[4] = i ? begin1 : begin0;
            if (half)
                mma(x[i], strip[2], b[0], b[1]);
            else
                mma(x[i], begin, strip[0], b[0], b[1]);
            mma(x[i], strip[2 * half + 1], b[2], b[3]);
        }
    }
}

/* x (16, 16), rounded, as a left operand */
__device__ inline void pack_left(uint32_t (&a)[4], const float (&x)[2][4])
{
    a[0] = pack_pair(x[0][0], x[0][1]), a[1] = pack_pair(x[0][2], x[0][3]);
    a[2] = pack_pair(x[1][0], x[1][1]), a[3] = pack_pair(x[1][2], x[1][3]);
}

/* sum (16, HEAD) += x (16, 16) pair (16, HEAD), for the part'th 16 elements of HEAD */
template <int MATRIX>
__device__ inline void multiply_add(float (&sum)[8][4], const uint32_t (&x)[4], int part,
                                    uint32_t pair, const lane_map &m)
{
    uint32_t b[4];
    load_transposed(b, ((pair + m.row) ^ 32 * part) + MATRIX * MATRIX_BYTES);
    mma(sum[2 * part], x, b[0], b[1]);
    mma(sum[2 * part + 1], x, b[2], b[3]);
}

template <int N> __device__ inline void clear(float (&sum)[N][4])
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        sum[i / 4][i % 4] = 0;
}

/* out of a lane's four elements of (16, 16) = a b^T, rows 2g + r of both sides, those of the
 * diagonal */
__device__ inline void row_products(float (&product)[2], const uint32_t (&a)[4][4],
                                    const uint32_t (&b)[4][4], const lane_map &m)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float x[4] = {0, 0, 0, 0};
#pragma unroll
        for (int c = 0; c < 4; c++)
            mma(x, a[c], b[c][r], b[c][2 + r]);
        product[r] = __shfl_xor_sync(~0u, m.g % 2 ? x[2 * r + 1] : x[2 * r], m.t ^ m.g / 2);
    }
}

__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

#endif
