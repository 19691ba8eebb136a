/* lora_fwd.cu - the LoRA side path forward on tensor cores, for bf16 activations.
 *   u = drop(x) a^T for every module of the group in one pass over x;  y += scale u b^T
 * Two kernels: lora_down cuts K into slices of 512 and writes a partial u of each; lora_up adds the
 * slices in their order, rounds u, and updates y. Both depend on K and the rank alone, so a row's
 * result does not depend on the rows beside it. Bound by memory (x once, y read and written) and,
 * with dropout, by the draws: a Philox draw for 8 columns of a row and module. */
/* SPDX-License-Identifier: MIT */
#include "lora_mma.h"

#define SLICE 512     /* columns of x a block: 64 a warp */
#define DOWN_TILES 32 /* tiles of 16 rows a block of lora_down, at most */
#define UP_TILES 18

/* Columns c .. c+7 of rows `row` and `row + 8`, twice: at c and at c + 32. */
struct down_tile {
    uint4 v[2][2];
};
__device__ inline down_tile load_down_tile(const bf16 *x, uint32_t ldx, int row, int n, int c,
                                           int cols)
{
    down_tile t;
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int i = row + 8 * h, col = c + 32 * j;
            t.v[j][h] = load_eight(x + (uint32_t)i * ldx + col, i < n && col < cols);
        }
    return t;
}

/* Eight columns of one row, octet `at`, dropped for module m. */
__device__ inline uint4 drop_eight(uint4 v, const lora_group &g, int m, lora_place place,
                                   uint32_t at)
{
    struct t5_philox d = lora_draw(g, m, place, at);
    v.x = drop_pair(v.x, d.v[0], g.threshold);
    v.y = drop_pair(v.y, d.v[1], g.threshold);
    v.z = drop_pair(v.z, d.v[2], g.threshold);
    v.w = drop_pair(v.w, d.v[3], g.threshold);
    return v;
}

/* partial f32 (slices, n, M R): u of a slice without 1 / (1 - p), R = 16 RT >= rank.
 * A = x, its rows p and p+8, contracted columns 8q .. 8q+7 of 32 for two products; B = a^T the
 * same. */
template <int M, int RT, bool DROP>
__global__ void __launch_bounds__(LORA_THREADS, M *RT <= 2 ? 2 : 1)
    lora_down(float *partial, const bf16 *x, uint32_t ldx, int cols,
              const __grid_constant__ lora_group g, const __grid_constant__ lora_pass pass,
              int tiles)
{
    constexpr int W = 16 * RT * M, PARTS = W <= 32 ? 2 : 1; /* one barrier a tile instead of two */
    __shared__ float parts[PARTS][LORA_WARPS][16][W + 8]; /* + 8: rows p to p+3, different banks */
    __shared__ lora_place place[DROP ? DOWN_TILES * 16 : 1];
    int warp = (int)threadIdx.x / 32, p = (int)threadIdx.x % 32 / 4, q = (int)threadIdx.x % 4;
    int c = (int)blockIdx.x * SLICE + warp * 64 + 8 * q;
    int first = (int)blockIdx.y * tiles * 16, end = min(pass.n, first + tiles * 16);
    partial += (int64_t)blockIdx.x * pass.n * W;
    dependency_release();
    uint32_t a[2][M][2 * RT][4];
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int t = 0; t < 2 * RT; t++) {
                int rank = 8 * t + p, col = c + 32 * j;
                const float *from = g.side[m].a + (int64_t)rank * cols + col;
                float4 lo = load_four(from, rank < g.rank && col < cols);
                float4 hi = load_four(from + 4, rank < g.rank && col < cols);
                a[j][m][t][0] = pack_pair(lo.x, lo.y);
                a[j][m][t][1] = pack_pair(lo.z, lo.w);
                a[j][m][t][2] = pack_pair(hi.x, hi.y);
                a[j][m][t][3] = pack_pair(hi.z, hi.w);
            }
    if (DROP) {
        lora_find_places(place, pass, first, tiles * 16);
        __syncthreads();
    }
    dependency_wait();
    down_tile next = load_down_tile(x, ldx, first + p, pass.n, c, cols);
    for (int row = first; row < end; row += 16) {
        down_tile now = next;
        if (row + 16 < end)
            next = load_down_tile(x, ldx, row + 16 + p, pass.n, c, cols);
        lora_place at0, at8;
        if (DROP)
            at0 = place[row - first + p], at8 = place[row - first + p + 8];
        float u[M][2 * RT][4] = {};
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int m = 0; m < M; m++) {
                uint4 x0 = now.v[j][0], x8 = now.v[j][1];
                if (DROP) {
                    uint32_t at = (uint32_t)(c + 32 * j) / 8;
                    x0 = drop_eight(x0, g, m, at0, at);
                    x8 = drop_eight(x8, g, m, at8, at);
                }
#pragma unroll
                for (int t = 0; t < 2 * RT; t++) {
                    mma(u[m][t], {x0.x, x8.x, x0.y, x8.y}, a[j][m][t][0], a[j][m][t][1]);
                    mma(u[m][t], {x0.z, x8.z, x0.w, x8.w}, a[j][m][t][2], a[j][m][t][3]);
                }
            }
        auto sums = parts[(row - first) / 16 % PARTS];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int t = 0; t < 2 * RT; t++) {
                float *to = &sums[warp][p][16 * RT * m + 8 * t + 2 * q];
                *reinterpret_cast<float2 *>(to) = make_float2(u[m][t][0], u[m][t][1]);
                *reinterpret_cast<float2 *>(to + 8 * (W + 8)) = make_float2(u[m][t][2], u[m][t][3]);
            }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < M * RT; k++) {
            int e = k * LORA_THREADS + (int)threadIdx.x, r = e / W, col = e % W;
            float sum = 0;
#pragma unroll
            for (int w = 0; w < LORA_WARPS; w++)
                sum += sums[w][r][col];
            if (row + r < end)
                partial[(uint32_t)row * W + e] = sum;
        }
        if (PARTS == 1)
            __syncthreads();
    }
}

/* y (n, ldy) and u (n, ldu) of module blockIdx.z. A = u, its rows p and p+8, contracted ranks
 * 4q .. 4q+3 of 16; B = b^T, column 8 (p / 2) + 2j + p % 2 of 32 is column p of product j, so that
 * D's columns 2q and 2q+1 of four products are the eight neighbours 8q .. 8q+7. */
template <int RT, int STRIPS>
__global__ void __launch_bounds__(LORA_THREADS, 2)
    lora_up(bf16 *y, uint32_t ldy, bf16 *u, const float *partial, int slices,
            const __grid_constant__ lora_group g, const __grid_constant__ lora_pass pass, int tiles)
{
    constexpr int R = 16 * RT;
    /* rows p to p+3 in different banks: 32 bytes more than a multiple of 64 */
    __shared__ __align__(16) bf16 us[UP_TILES * 16][RT % 2 ? R : R + 16];
    int warp = (int)threadIdx.x / 32, p = (int)threadIdx.x % 32 / 4, q = (int)threadIdx.x % 4;
    const lora_side &side = g.side[blockIdx.z];
    int first = (int)blockIdx.y * tiles * 16, end = min(pass.n, first + tiles * 16);
    int c = ((int)blockIdx.x * LORA_WARPS + warp) * 32 * STRIPS;
    uint32_t b[STRIPS][4][RT][2];
#pragma unroll
    for (int s = 0; s < STRIPS; s++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int k = 0; k < RT; k++) {
                int col = c + 32 * s + 8 * (p / 2) + 2 * j + p % 2, rank = 16 * k + 4 * q;
                float4 v = load_four(side.b + (int64_t)col * g.rank + rank,
                                     col < side.rows && rank < g.rank);
                b[s][j][k][0] = pack_pair(v.x, v.y);
                b[s][j][k][1] = pack_pair(v.z, v.w);
            }
    dependency_release();
    dependency_wait();
    y += side.column + c + 8 * q;
    uint4 v[STRIPS][2];
    auto load_tile = [&](int row) {
#pragma unroll
        for (int s = 0; s < STRIPS; s++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                v[s][h] = load_eight(y + (uint32_t)(row + 8 * h) * ldy + 32 * s,
                                     row + 8 * h < end && c + 32 * s + 8 * q < side.rows);
    };
    load_tile(first + p); /* the first is on its way while u is added up */
#pragma unroll 1
    for (int e = (int)threadIdx.x; e < tiles * 4 * R; e += LORA_THREADS) {
        int row = e / (R / 4), r = e % (R / 4) * 4, i = first + row;
        int64_t width = (int64_t)g.count * R;
        quad sum = {{0, 0, 0, 0}};
        if (i < end)
            sum = lora_sum_quad(partial + i * width + blockIdx.z * R + r, slices, pass.n * width);
        for (int k = 0; k < 4; k++)
            sum.v[k] *= g.keep;
        store_quad(us[row], r, R, true, sum);
        if (blockIdx.x == 0 && i < end && r < g.rank)
            for (int k = 0; k < 4; k++)
                u[(int64_t)i * g.ldu + g.first + (int)blockIdx.z * g.rank + r + k] = us[row][r + k];
    }
    __syncthreads();
    for (int row = first + p; row < end + p; row += 16) {
        uint2 u0[RT], u8[RT];
#pragma unroll
        for (int k = 0; k < RT; k++) {
            u0[k] = *reinterpret_cast<const uint2 *>(&us[row - first][16 * k + 4 * q]);
            u8[k] = *reinterpret_cast<const uint2 *>(&us[row - first + 8][16 * k + 4 * q]);
        }
#pragma unroll
        for (int s = 0; s < STRIPS; s++) {
            float add[4][4] = {};
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int k = 0; k < RT; k++)
                    mma(add[j], {u0[k].x, u8[k].x, u0[k].y, u8[k].y}, b[s][j][k][0], b[s][j][k][1]);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint32_t *pairs = reinterpret_cast<uint32_t *>(&v[s][h]);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    float2 old = unpack_pair(pairs[j]);
                    pairs[j] = pack_pair(fmaf(side.scale, add[j][2 * h], old.x),
                                         fmaf(side.scale, add[j][2 * h + 1], old.y));
                }
                if (row + 8 * h < end && c + 32 * s + 8 * q < side.rows)
                    *reinterpret_cast<uint4 *>(y + (uint32_t)(row + 8 * h) * ldy + 32 * s) =
                        v[s][h];
            }
        }
        load_tile(row + 16);
    }
}

/* ---- choosing ---- */

typedef void down_kernel(float *, const bf16 *, uint32_t, int, lora_group, lora_pass, int);
typedef void up_kernel(bf16 *, uint32_t, bf16 *, const float *, int, lora_group, lora_pass, int);

template <bool DROP> static down_kernel *choose_down(int count, int steps)
{
    switch (count * 10 + steps) {
    case 11:
        return lora_down<1, 1, DROP>;
    case 12:
        return lora_down<1, 2, DROP>;
    case 13:
        return lora_down<1, 3, DROP>;
    case 14:
        return lora_down<1, 4, DROP>;
    case 21:
        return lora_down<2, 1, DROP>;
    case 22:
        return lora_down<2, 2, DROP>;
    default:
        return lora_down<3, 1, DROP>;
    }
}

/* Few rows: narrow blocks, so that more of them share the work. */
static up_kernel *choose_up(int steps, bool few, int *columns)
{
    *columns = LORA_WARPS * 32 * (few || steps > 2 ? 1 : steps == 2 ? 2 : 4);
    switch (steps) {
    case 1:
        return few ? lora_up<1, 1> : lora_up<1, 4>;
    case 2:
        return few ? lora_up<2, 1> : lora_up<2, 2>;
    case 3:
        return lora_up<3, 1>;
    default:
        return lora_up<4, 1>;
    }
}

void t5_cuda_lora_mma_fwd(t5_device *dev, bf16 *y, int64_t ldy, bf16 *u, const bf16 *x, int64_t ldx,
                          int cols, const lora_group &g, const lora_pass &pass)
{
    int steps = (g.rank + 15) / 16, slices = (cols + SLICE - 1) / SLICE, columns;
    int tiles = (pass.n + 15) / 16, rows = 0;
    for (int m = 0; m < g.count; m++)
        rows = g.side[m].rows > rows ? g.side[m].rows : rows;
    size_t elements = (size_t)slices * (size_t)pass.n * (size_t)(g.count * steps) * 16;
    float *partial = t5_cuda_scratch(dev, elements * sizeof *partial);
    if (!partial)
        return;
    int blocks = g.count * steps <= 2 ? LORA_BLOCKS : LORA_BLOCKS / 2;
    int each = lora_cut(tiles, slices, blocks, 1, DOWN_TILES);
    launch_dependent(
        dev, g.drop ? choose_down<true>(g.count, steps) : choose_down<false>(g.count, steps),
        dim3((unsigned)slices, blocks_for(tiles, each)), LORA_THREADS, 0, partial, x, ldx, cols, g,
        pass, each);
    up_kernel *up = choose_up(steps, pass.n <= 512, &columns);
    int across = (int)blocks_for(rows, columns) * g.count;
    each = lora_cut(tiles, across, LORA_BLOCKS, 1, UP_TILES);
    launch_dependent(dev, up,
                     dim3(blocks_for(rows, columns), blocks_for(tiles, each), (unsigned)g.count),
                     LORA_THREADS, 0, y, ldy, u, (const float *)partial, slices, g, pass, each);
}
