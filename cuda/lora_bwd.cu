/* lora_bwd.cu - the LoRA side path backward on tensor cores, for bf16 activations.
 *   du = scale dy b;  db += scale dy^T u;  da += du^T drop(x);  dx += drop'(du a)
 * lora_back_y reads dy once: partial du of a slice of columns, partial db of a chunk of rows.
 * lora_back_finish adds those in their order. lora_back_x reads x once and updates dx, and leaves
 * partial da of a chunk of rows, which lora_back_add adds (for few rows there is one chunk, added
 * at once). Chunks depend on the sizes alone. Bound by memory (dy and x once, dx read and written)
 * and, with dropout, by the draws. */
/* SPDX-License-Identifier: MIT */
#include "lora_mma.h"

#define BACK_TILES 256  /* tiles of 16 rows in a chunk of lora_back_x, at most */
#define DIRECT_TILES 20 /* up to so many tiles, da needs no chunks */
#define BACK_COLUMNS 64 /* of x a block of lora_back_x */

/* Where partial sums lie in scratch. R = 16 RT >= rank. */
struct lora_parts {
    float *du; /* (count, slices, n, R) */
    float *db; /* (chunks, rows of all modules, R) */
    float *da; /* (da_chunks, count, rank, cols), where the other two lay: they are spent by then */
    int slices, chunks, da_chunks;
    int rows;               /* of all modules */
    int before[LORA_GROUP]; /* rows of the modules before */
};

template <int RT> struct back_y_shape {
    static constexpr int blocks_of_32 = RT <= 2 ? 2 : 1; /* columns of dy a warp */
    static constexpr int slice = LORA_WARPS * 32 * blocks_of_32;
};

/* du: A = dy, its rows p and p+8, contracted columns 8q .. 8q+7 of 32 for two products; B = b the
 *     same.
 * db: A = u^T, transposed, rank 2p + h of 16 is its row p + 8h; B = dy, transposed, column
 *     8 (p / 2) + 2i + p % 2 of 32 is column p of product i. D holds columns 8q + 2i + e, ranks 2p
 *     and 2p + 1. */
template <int RT>
__global__ void __launch_bounds__(LORA_THREADS, RT == 1 ? 2 : 1)
    lora_back_y(const __grid_constant__ lora_parts parts, const bf16 *dy, uint32_t lddy,
                const bf16 *u, const __grid_constant__ lora_group g, int n, int tiles)
{
    constexpr int R = 16 * RT, J = back_y_shape<RT>::blocks_of_32;
    constexpr int PARTS = R <= 32 ? 2 : 1; /* one barrier a tile instead of two */
    __shared__ float room[PARTS][LORA_WARPS][16][R + 8];
    int warp = (int)threadIdx.x / 32, p = (int)threadIdx.x % 32 / 4, q = (int)threadIdx.x % 4;
    int m = (int)blockIdx.z;
    const lora_side &side = g.side[m];
    int c = ((int)blockIdx.x * LORA_WARPS + warp) * 32 * J + 8 * q;
    int first = (int)blockIdx.y * tiles * 16, end = min(n, first + tiles * 16);
    dependency_release();
    dependency_wait();
    if ((int)blockIdx.x * back_y_shape<RT>::slice >= side.rows)
        return;
    uint32_t b[J][2][2 * RT][2];
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
        for (int t = 0; t < 2 * RT; t++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                int rank = 8 * t + p, col = c + 32 * j + 2 * k;
                const float *from = side.b + (int64_t)col * g.rank + rank;
                bool inside = rank < g.rank && col < side.rows;
                float lo = load_one(from, inside), hi = load_one(from + g.rank, inside);
                b[j][k / 2][t][k % 2] = pack_pair(lo, hi);
            }
    float *du_part = parts.du + ((int64_t)m * parts.slices + blockIdx.x) * n * R;
    dy += side.column + c;
    u += g.first + m * g.rank + 4 * q;
    auto load_dy = [&](int i, int j) {
        return load_eight(dy + (uint32_t)i * lddy + 32 * j, i < end && c + 32 * j < side.rows);
    };
    auto load_u = [&](int i, int k) {
        return load_four(u + (uint32_t)i * (uint32_t)g.ldu + 16 * k,
                         i < end && 16 * k + 4 * q < g.rank);
    };
    uint4 next[J][2];
    uint2 u_next[RT][2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int j = 0; j < J; j++)
            next[j][h] = load_dy(first + p + 8 * h, j);
#pragma unroll
        for (int k = 0; k < RT; k++)
            u_next[k][h] = load_u(first + p + 8 * h, k);
    }
    float db[J][4][RT][4] = {};
    for (int row = first; row < end; row += 16) {
        uint4 v[J][2];
        uint32_t ut[RT][4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int j = 0; j < J; j++) {
                v[j][h] = next[j][h];
                next[j][h] = load_dy(row + 16 + p + 8 * h, j);
            }
#pragma unroll
            for (int k = 0; k < RT; k++) {
                ut[k][2 * h] = transpose_matrix(low_halves(u_next[k][h].x, u_next[k][h].y));
                ut[k][2 * h + 1] = transpose_matrix(high_halves(u_next[k][h].x, u_next[k][h].y));
                u_next[k][h] = load_u(row + 16 + p + 8 * h, k);
            }
        }
        auto sums = room[(row - first) / 16 % PARTS];
        float du[2 * RT][4] = {};
#pragma unroll
        for (int j = 0; j < J; j++)
#pragma unroll
            for (int t = 0; t < 2 * RT; t++) {
                mma(du[t], {v[j][0].x, v[j][1].x, v[j][0].y, v[j][1].y}, b[j][0][t][0],
                    b[j][0][t][1]);
                mma(du[t], {v[j][0].z, v[j][1].z, v[j][0].w, v[j][1].w}, b[j][1][t][0],
                    b[j][1][t][1]);
            }
#pragma unroll
        for (int t = 0; t < 2 * RT; t++) {
            float *to = &sums[warp][p][8 * t + 2 * q];
            *reinterpret_cast<float2 *>(to) = make_float2(du[t][0], du[t][1]);
            *reinterpret_cast<float2 *>(to + 8 * (R + 8)) = make_float2(du[t][2], du[t][3]);
        }
#pragma unroll
        for (int j = 0; j < J; j++) {
            const uint32_t *low = reinterpret_cast<const uint32_t *>(&v[j][0]);
            const uint32_t *high = reinterpret_cast<const uint32_t *>(&v[j][1]);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t b0 = transpose_matrix(low[i]), b1 = transpose_matrix(high[i]);
#pragma unroll
                for (int k = 0; k < RT; k++)
                    mma(db[j][i][k], ut[k], b0, b1);
            }
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < RT; k++) {
            int e = k * LORA_THREADS + (int)threadIdx.x, r = e / R, col = e % R;
            float sum = 0;
#pragma unroll
            for (int w = 0; w < LORA_WARPS; w++)
                sum += sums[w][r][col];
            if (row + r < end)
                du_part[(uint32_t)row * R + e] = sum;
        }
        if (PARTS == 1)
            __syncthreads();
    }
    float *out = parts.db + ((int64_t)blockIdx.y * parts.rows + parts.before[m]) * R;
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int k = 0; k < RT; k++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int col = c + 32 * j + 2 * i + e;
                    if (col < side.rows)
                        *reinterpret_cast<float2 *>(out + (int64_t)col * R + 16 * k + 2 * p) =
                            make_float2(db[j][i][k][e], db[j][i][k][2 + e]);
                }
}

/* du rounded, for all modules, and db added to. A thread four ranks of one row; 32 bits count them,
 * as rows of y are no longer than 131072. */
__global__ void lora_back_finish(bf16 *du, const __grid_constant__ lora_parts parts,
                                 const __grid_constant__ lora_group g, int n, int r4, int slice)
{
    int at = (int)(blockIdx.x * LORA_THREADS + threadIdx.x);
    int du_quads = n * g.count * r4, i = at / r4;
    int r = at % r4 * 4, width = 4 * r4;
    dependency_release();
    dependency_wait();
    if (r >= g.rank)
        return;
    if (at < du_quads) {
        int m = i / n;
        i %= n;
        quad sum = lora_sum_quad(parts.du + ((int64_t)m * parts.slices * n + i) * width + r,
                                 (g.side[m].rows + slice - 1) / slice, (int64_t)n * width);
        for (int k = 0; k < 4; k++)
            sum.v[k] *= g.side[m].scale;
        store_quad(du + (int64_t)i * g.ldu + g.first + m * g.rank, r, g.rank, true, sum);
        return;
    }
    i -= n * g.count;
    if (i >= parts.rows)
        return;
    int m = 0;
    while (m + 1 < g.count && i >= parts.before[m + 1])
        m++;
    quad sum =
        lora_sum_quad(parts.db + (int64_t)i * width + r, parts.chunks, (int64_t)parts.rows * width);
    float *row = g.side[m].db + (int64_t)(i - parts.before[m]) * g.rank;
    quad db = load_quad(row, r, g.rank, true);
    for (int k = 0; k < 4; k++)
        db.v[k] += g.side[m].scale * sum.v[k];
    store_quad(row, r, g.rank, true, db);
}

/* words[e]: the draws of a lane's four columns in row e of two. Lanes p and p ^ 1, whose columns make
 * up the octet, draw for one of the rows each. */
__device__ inline void draw_two_rows(uint32_t (&words)[2][2], const lora_group &g, int m,
                                     const lora_place *place, uint32_t octet, int p)
{
    bool odd = p & 1;
    struct t5_philox d = lora_draw(g, m, place[odd], octet);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t got = __shfl_xor_sync(~0u, odd ? d.v[i] : d.v[2 + i], 4);
        words[0][i] = odd ? got : d.v[i];
        words[1][i] = odd ? d.v[2 + i] : got;
    }
}

/* A lane owns rows 4q .. 4q+3 and columns 4p .. 4p+3 of 16 x 32: one draw a row and module.
 * dx: D = a^T du^T. A = a^T, its rows p and p+8 are columns 4p + 2t and 4p + 2t + 1 in product t,
 *     contracted ranks 4q .. 4q+3 of 16; B = du^T, its column p is row 4 (p / 2) + 2s + p % 2 in
 *     product s. D holds rows 4q + 2s and 4q + 2s + 1, columns 4p + 2t and 4p + 2t + 1.
 * da: A = du^T, transposed, rank 4 (p / 2) + 2h + p % 2 of 16 is its row p + 8h, contracted rows
 *     4q .. 4q+3; B = drop(x) the same, its column p is column 4p + k in product k. D holds columns
 *     8q + 4e + k.
 * Warps: two strips of 32 columns, four ways through the tiles of a chunk. */
template <int M, int RT, bool DROP>
__global__ void __launch_bounds__(LORA_THREADS, M *RT <= 2 ? 2 : 1)
    lora_back_x(bf16 *dx, uint32_t lddx, const __grid_constant__ lora_parts parts, const bf16 *x,
                uint32_t ldx, int cols, const bf16 *du, const __grid_constant__ lora_group g,
                const __grid_constant__ lora_pass pass, int tiles)
{
    constexpr int STEPS = M * RT;
    __shared__ uint4 a[STEPS][2][2][32]; /* step, strip, t, lane */
    /* places of the chunk's rows; at the end sums */
    lora_place *place = dynamic_shared<lora_place>();
    int lane = (int)threadIdx.x % 32, p = lane / 4, q = lane % 4;
    int strip = (int)threadIdx.x / 32 % 2, way = (int)threadIdx.x / 64;
    int c = (int)blockIdx.x * BACK_COLUMNS + strip * 32 + 4 * p;
    int first = (int)blockIdx.y * tiles * 16, end = min(pass.n, first + tiles * 16);
    bool inside = c < cols, update = inside && dx;
    dependency_release();
    for (int k = way; k < STEPS; k += 4) {
        float4 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int rank = 16 * (k % RT) + 4 * q + i;
            v[i] = load_four(g.side[k / RT].a + (int64_t)rank * cols + c, inside && rank < g.rank);
        }
        a[k][strip][0][lane] = make_uint4(pack_pair(v[0].x, v[1].x), pack_pair(v[0].y, v[1].y),
                                          pack_pair(v[2].x, v[3].x), pack_pair(v[2].y, v[3].y));
        a[k][strip][1][lane] = make_uint4(pack_pair(v[0].z, v[1].z), pack_pair(v[0].w, v[1].w),
                                          pack_pair(v[2].z, v[3].z), pack_pair(v[2].w, v[3].w));
    }
    if (DROP)
        lora_find_places(place, pass, first, tiles * 16);
    int row = first + 16 * way, here = row + 4 * q, du_row = row + 4 * (p / 2) + p % 2;
    uint32_t x_at = (uint32_t)here * ldx + (uint32_t)c, dx_at = (uint32_t)here * lddx + (uint32_t)c;
    uint32_t ldu = (uint32_t)g.ldu, du_at = (uint32_t)du_row * ldu + (uint32_t)(g.first + 4 * q);
    auto load_du = [&](int k, int s) {
        return load_four(du + du_at + (uint32_t)(2 * s) * ldu +
                             (uint32_t)(k / RT * g.rank + 16 * (k % RT)),
                         du_row + 2 * s < end && 16 * (k % RT) + 4 * q < g.rank);
    };
    uint2 next[4], du_next[STEPS][2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        next[i] = load_four(x + x_at + (uint32_t)i * ldx, inside && here + i < end);
    dependency_wait();
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int s = 0; s < 2; s++)
            du_next[k][s] = load_du(k, s);
    __syncthreads();
    float da[STEPS][4][4] = {};
    for (; row < end; row += 64) {
        uint2 now[4], old[4], d[STEPS][2];
        float sum[4][4] = {};
        x_at += 64 * ldx;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            now[i] = next[i];
            next[i] = load_four(x + x_at + (uint32_t)i * ldx, inside && here + 64 + i < end);
        }
        du_at += 64 * ldu;
        du_row += 64;
#pragma unroll
        for (int k = 0; k < STEPS; k++)
#pragma unroll
            for (int s = 0; s < 2; s++) {
                d[k][s] = du_next[k][s];
                du_next[k][s] = load_du(k, s);
            }
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (m == M - 1) /* not before: registers are short */
#pragma unroll
                for (int i = 0; i < 4; i++)
                    old[i] = load_four(dx + dx_at + (uint32_t)i * lddx, update && here + i < end);
            uint32_t xs[4][2]; /* column k, rows 4q + 2s and 4q + 2s + 1 */
#pragma unroll
            for (int s = 0; s < 2; s++) {
                float back[2][4] = {};
#pragma unroll
                for (int k = m * RT; k < (m + 1) * RT; k++)
#pragma unroll
                    for (int t = 0; t < 2; t++) {
                        uint4 at = a[k][strip][t][lane];
                        mma(back[t], {at.x, at.y, at.z, at.w}, d[k][s].x, d[k][s].y);
                    }
                uint2 pair[2];
                uint32_t words[2][2];
                if (DROP)
                    draw_two_rows(words, g, m, place + (here - first + 2 * s), (uint32_t)c / 8, p);
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int i = 2 * s + e;
                    pair[e] = now[i];
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        uint32_t &at = k < 2 ? pair[e].x : pair[e].y, word = words[e][k / 2];
                        float add = back[k / 2][k % 2 * 2 + e];
                        if (!DROP || (k % 2 ? word : word << 16) >= g.threshold << 16)
                            sum[i][k] = m ? sum[i][k] + add : add;
                        else
                            at &= k % 2 ? 0xffffu : 0xffff0000u;
                    }
                }
                xs[0][s] = low_halves(pair[0].x, pair[1].x);
                xs[1][s] = high_halves(pair[0].x, pair[1].x);
                xs[2][s] = low_halves(pair[0].y, pair[1].y);
                xs[3][s] = high_halves(pair[0].y, pair[1].y);
            }
#pragma unroll
            for (int k = m * RT; k < (m + 1) * RT; k++) {
                uint32_t d0 = transpose_matrix(d[k][0].x), d1 = transpose_matrix(d[k][0].y);
                uint32_t d2 = transpose_matrix(d[k][1].x), d3 = transpose_matrix(d[k][1].y);
#pragma unroll
                for (int j = 0; j < 4; j++)
                    mma(da[k][j], {d0, d1, d2, d3}, xs[j][0], xs[j][1]);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 left = unpack_pair(old[i].x), right = unpack_pair(old[i].y);
            uint2 out = make_uint2(
                pack_pair(fmaf(g.keep, sum[i][0], left.x), fmaf(g.keep, sum[i][1], left.y)),
                pack_pair(fmaf(g.keep, sum[i][2], right.x), fmaf(g.keep, sum[i][3], right.y)));
            if (update && here + i < end)
                *reinterpret_cast<uint2 *>(dx + dx_at + (uint32_t)i * lddx) = out;
        }
        here += 64;
        dx_at += 64 * lddx;
    }
    /* the ways' sums, one after the other */
    float *pool = dynamic_shared<float>() + strip * STEPS * 512;
    for (int w = 1; w < 4; w++) {
        __syncthreads();
        if (way == w)
#pragma unroll
            for (int k = 0; k < STEPS * 16; k++)
                pool[k * 32 + lane] = da[k / 16][k / 4 % 4][k % 4];
        __syncthreads();
        if (way == 0)
#pragma unroll
            for (int k = 0; k < STEPS * 16; k++)
                da[k / 16][k / 4 % 4][k % 4] += pool[k * 32 + lane];
    }
    if (way != 0)
        return;
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int rank = 16 * (k % RT) + 4 * (p / 2) + 2 * h + p % 2;
                int col = (int)blockIdx.x * BACK_COLUMNS + strip * 32 + 8 * q + 4 * e;
                if (col >= cols || rank >= g.rank)
                    continue;
                bool direct = parts.da_chunks == 1;
                float *to =
                    direct ? g.side[k / RT].da + (int64_t)rank * cols
                           : parts.da + (((int64_t)blockIdx.y * M + k / RT) * g.rank + rank) * cols;
                quad v = {{0, 0, 0, 0}};
                if (direct)
                    v = load_quad(to, col, cols, true);
#pragma unroll
                for (int j = 0; j < 4; j++)
                    v.v[j] = fmaf(g.keep, da[k][j][2 * h + e], v.v[j]);
                store_quad(to, col, cols, true, v);
            }
}

/* da added to: a thread four columns of a rank of a module */
__global__ void lora_back_add(const __grid_constant__ lora_parts parts,
                              const __grid_constant__ lora_group g, int cols)
{
    int at = (int)(blockIdx.x * LORA_THREADS + threadIdx.x) * 4, size = g.rank * cols;
    dependency_wait();
    if (at >= size * g.count)
        return;
    quad sum = lora_sum_quad(parts.da + at, parts.da_chunks, (int64_t)size * g.count);
    float *to = g.side[at / size].da + at % size;
    quad da = load_quad(to, 0, 4, true);
    for (int k = 0; k < 4; k++)
        da.v[k] += sum.v[k];
    store_quad(to, 0, 4, true, da);
}

/* ---- choosing ---- */

typedef void back_y_kernel(lora_parts, const bf16 *, uint32_t, const bf16 *, lora_group, int, int);
typedef void back_x_kernel(bf16 *, uint32_t, lora_parts, const bf16 *, uint32_t, int, const bf16 *,
                           lora_group, lora_pass, int);

static back_y_kernel *choose_back_y(int steps, int *slice)
{
    *slice = steps <= 2 ? back_y_shape<1>::slice : back_y_shape<4>::slice;
    switch (steps) {
    case 1:
        return lora_back_y<1>;
    case 2:
        return lora_back_y<2>;
    case 3:
        return lora_back_y<3>;
    default:
        return lora_back_y<4>;
    }
}

template <bool DROP> static back_x_kernel *choose_back_x(int count, int steps)
{
    switch (count * 10 + steps) {
    case 11:
        return lora_back_x<1, 1, DROP>;
    case 12:
        return lora_back_x<1, 2, DROP>;
    case 13:
        return lora_back_x<1, 3, DROP>;
    case 14:
        return lora_back_x<1, 4, DROP>;
    case 21:
        return lora_back_x<2, 1, DROP>;
    case 22:
        return lora_back_x<2, 2, DROP>;
    default:
        return lora_back_x<3, 1, DROP>;
    }
}

void t5_cuda_lora_mma_bwd(t5_device *dev, bf16 *dx, int64_t lddx, bf16 *du, const bf16 *dy,
                          int64_t lddy, const bf16 *u, const bf16 *x, int64_t ldx, int cols,
                          const lora_group &g, const lora_pass &pass)
{
    int n = pass.n, tiles = (n + 15) / 16, steps = (g.rank + 15) / 16, r = 16 * steps, slice;
    back_y_kernel *back_y = choose_back_y(steps, &slice);
    lora_parts parts = {};
    int across = 0;
    for (int m = 0; m < g.count; m++) {
        int slices = (g.side[m].rows + slice - 1) / slice;
        parts.before[m] = parts.rows;
        parts.rows += g.side[m].rows;
        parts.slices = slices > parts.slices ? slices : parts.slices;
        across += slices;
    }
    int y_blocks = steps == 1 ? LORA_BLOCKS : LORA_BLOCKS / 2;
    int x_blocks = g.count * steps <= 2 ? LORA_BLOCKS : LORA_BLOCKS / 2;
    int x_across = (cols + BACK_COLUMNS - 1) / BACK_COLUMNS;
    int y_each = lora_cut(tiles, across, y_blocks, 4, tiles > 4 ? tiles : 4), x_each = tiles;
    if (tiles > DIRECT_TILES)
        x_each = lora_cut(tiles, x_across, x_blocks, 4, BACK_TILES);
    parts.chunks = (int)blocks_for(tiles, y_each);
    parts.da_chunks = (int)blocks_for(tiles, x_each);
    size_t du_floats = (size_t)g.count * (size_t)parts.slices * (size_t)n * (size_t)r;
    size_t db_floats = (size_t)parts.chunks * (size_t)parts.rows * (size_t)r;
    size_t da_floats = (size_t)parts.da_chunks * (size_t)g.count * (size_t)g.rank * (size_t)cols;
    size_t most = du_floats + db_floats > da_floats ? du_floats + db_floats : da_floats;
    float *scratch = t5_cuda_scratch(dev, most * sizeof *scratch);
    if (!scratch)
        return;
    parts.du = parts.da = scratch;
    parts.db = scratch + du_floats;

    launch_dependent(dev, back_y,
                dim3((unsigned)parts.slices, (unsigned)parts.chunks, (unsigned)g.count),
                LORA_THREADS, 0, parts,
                dy, lddy, u, g, n, y_each);
    int64_t quads = ((int64_t)n * g.count + parts.rows) * (r / 4);
    launch_dependent(dev, lora_back_finish, dim3(blocks_for(quads, LORA_THREADS)), LORA_THREADS, 0, du,
                parts, g, n, r / 4, slice);
    size_t places = (size_t)x_each * 16 * sizeof(lora_place);
    size_t pool = (size_t)(g.count * steps) * 1024 * sizeof(float);
    launch_dependent(dev, g.drop ? choose_back_x<true>(g.count, steps) : choose_back_x<false>(g.count, steps),
                dim3((unsigned)x_across, (unsigned)parts.da_chunks), LORA_THREADS,
                places > pool ? places : pool, dx, lddx, parts, x, ldx, cols, (const bf16 *)du, g, pass, x_each);
    if (parts.da_chunks > 1)
        launch_dependent(dev, lora_back_add,
                    dim3(blocks_for((int64_t)g.count * g.rank * cols, 4 * LORA_THREADS)),
                    LORA_THREADS, 0, parts, g, cols);
}
