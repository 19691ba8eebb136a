/* attention_mma.cu - packed attention on the tensor cores, forward and backward, for bf16 and heads of 64.
 *   s = q k^T + bias,  p = softmax(s),  out = drop(p) v                (arXiv:1706.03762 without 1/sqrt(K))
 *   dp = dout v^T x mask,  ds = p (dp - dout . out),  dq = ds k,  dk = ds^T q,  dv = drop(p)^T dout
 * Tiled as in arXiv:2205.14135: nothing of size (T, S) leaves the registers, memory is linear in the sequence.
 * Other shapes, float and the bias table's gradient: attention.cu.
 *
 * All three kernels have one form. A warp keeps a strip (16 rows of one side: queries, or keys for dk and dv) in
 * registers, and walks over the other side, which lies in shared memory in tiles of 64 rows, 16 rows (a pair of
 * 8-column MMA tiles) at a time. Up to 256 rows stay there, and the warps of a block take strips of their (sequence, head)
 * without waiting for each other; longer sides pass through a ring of four tiles. Each output row is
 * the work of one warp in one order: no atomics, and nothing depends on what else is in the batch.
 *
 * Rows of a strip and of a pair are dealt to the lanes so that lane 4g + t holds strip rows 2g, 2g + 1 against pair rows
 * 4t .. 4t + 3. Four neighbouring keys are then one lane's, as one Philox draw wants it (in the
 * dk and dv kernel two lanes share the draw), and eight scores need five entries of the bias table.
 * What bounds it: with dropout the draws (40 instructions for 4 weights) weigh as much as the products. */
/* SPDX-License-Identifier: MIT */
#include <cmath>

#include "device.h"
#include "instructions.h"

#define HEAD 64 /* d_kv */
#define STRIP 16
#define TILE 64
#define SLOTS 4
#define AHEAD (SLOTS - 1) /* tiles in flight */
#define WARPS 4
#define THREADS (32 * WARPS)
#define PAIR_BYTES (STRIP * HEAD * 2)
#define TILE_BYTES (TILE * HEAD * 2)
#define SLOT_BYTES (2 * TILE_BYTES)
#define ENOUGH_BLOCKS 1024 /* more only reload what others hold */
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

struct shape64 { /* what the kernels take of a t5_attention */
    const int32_t *q_offsets, *k_offsets;
    const uint32_t *record;
    const float *bias;
    const int32_t *bucket;
    int heads, max_distance, causal;
    int reach; /* key - query, in sixteens, from where on a whole pair lies beyond max_distance */
    int table_bytes;
    t5_dropout dropout;
    uint32_t threshold; /* a draw below it drops */
    float keep;         /* 1 / (1 - p) */
};

struct place { /* a block's work */
    int b, head, q0, nq, k0, nk;
};

__device__ inline place find_place(const shape64 &s)
{
    place x;
    x.b = blockIdx.x / s.heads;
    x.head = blockIdx.x % s.heads;
    x.q0 = s.q_offsets[x.b];
    x.nq = s.q_offsets[x.b + 1] - x.q0;
    x.k0 = s.k_offsets[x.b];
    x.nk = s.k_offsets[x.b + 1] - x.k0;
    return x;
}

__host__ __device__ inline int parts(int n, int each) { return (n + each - 1) / each; }

/* ---- shared memory: the bias table, then the tiles ---- */

extern __shared__ uint4 shared_bytes[];

/* Bias x log2(e) at key - query = -(reach + 15) .. reach + 15 */
__device__ inline void fill_table(float *table, const shape64 &s, int head)
{
    int middle = s.reach + STRIP - 1, far = s.max_distance;
    for (int i = threadIdx.x; i <= 2 * middle; i += THREADS) {
        int relative = min(max(i - middle, -far), far);
        table[i] = s.bias ? s.bias[(int64_t)s.bucket[far + relative] * s.heads + head] * LOG2E : 0;
    }
}

/* 16 (strip - pair) or the reverse as a place in the table: where it is cut short, the whole pair has one bias. */
__device__ inline int table_shift(const shape64 &s, int strips_apart)
{
    return min(max(STRIP * strips_apart, -s.reach), s.reach);
}

struct tiles { /* two matrices of n rows that pass through shared memory side by side */
    const bf16 *a, *b;
    int64_t lda, ldb;
    int n, count;
    uint32_t address;
};

__device__ inline uint32_t slot_address(const tiles &x, int tile)
{
    return x.address + tile % SLOTS * SLOT_BYTES;
}

/* Row r's 16-byte chunks are XORed with bits 0, 2, 3 of r, so that the rows that one ldmatrix takes (see lane_map) lie in
 * different banks. Rows beyond n up to the next pair are zeros: a weight of 0 times what is left there may be NaN. */
__device__ inline void fetch_matrix(uint32_t to, const bf16 *from, int64_t ld, int first, int n)
{
    int row = threadIdx.x / 8, chunk = threadIdx.x % 8;
    int place = chunk ^ ((row & 1) | (row >> 1 & 6));
#pragma unroll 1
    for (int i = 0; i < TILE / STRIP; i++) {
        int at = first + i * STRIP + row;
        if (first + i * STRIP < n)
            copy_async(to + (i * STRIP + row) * HEAD * 2 + place * 16,
                       from + (at < n ? at : 0) * ld + chunk * 8, at >= n);
    }
}

__device__ inline void fetch_tile(const tiles &x, int tile)
{
    uint32_t to = slot_address(x, tile);
    fetch_matrix(to, x.a, x.lda, tile * TILE, x.n);
    fetch_matrix(to + TILE_BYTES, x.b, x.ldb, tile * TILE, x.n);
}

/* ---- fragments ---- */

struct lane_map {
    int g, t;
    uint32_t as_columns[4], as_rows[4]; /* ldmatrix offsets inside a pair for each 16 elements of HEAD */
};

__device__ inline lane_map map_lanes()
{
    lane_map m;
    int lane = threadIdx.x % 32, i = lane % 8, matrix = lane / 8;
    int row = 4 * (i / 2) + i % 2; /* and 2 more in the second MMA tile, or the second half of k */
    m.g = lane / 4;
    m.t = lane % 4;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        m.as_columns[c] = (row + 2 * (matrix >> 1)) * HEAD * 2 + ((2 * c + (matrix & 1)) ^ i) * 16;
        m.as_rows[c] = (row + 2 * (matrix & 1)) * HEAD * 2 + ((2 * c + (matrix >> 1)) ^ i) * 16;
    }
    return m;
}

/* Which strip a warp begins with: rotated, or warp 0 of every block, on the same quarter of the processor, gets the odd
 * strip. */
__device__ inline int first_warp() { return (threadIdx.x / 32 + blockIdx.x) % WARPS; }

/* x[r] of lane t to lane r's x[t], within four lanes */
__device__ inline void transpose_quad(uint32_t (&x)[4], int t)
{
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        bool high = t & step;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (!(i & step)) {
                uint32_t got = __shfl_xor_sync(~0u, high ? x[i] : x[i + step], step);
                x[i] = high ? got : x[i];
                x[i + step] = high ? x[i + step] : got;
            }
    }
}

/* Rows 2g, 2g + 1 of a strip as A fragments for each 16 elements of HEAD; zeros beyond n. from: the strip's first row */
__device__ inline void load_strip(uint32_t (&a)[4][4], const bf16 *from, int64_t ld, int n,
                                  const lane_map &m)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = 2 * m.g + r;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint4 w = make_uint4(0, 0, 0, 0);
            if (row < n)
                w = *reinterpret_cast<const uint4 *>(from + row * ld + (4 * half + m.t) * 8);
            uint32_t x[4] = {w.x, w.y, w.z, w.w};
            transpose_quad(x, m.t);
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[2 * half + i / 2][2 * (i % 2) + r] = x[i];
        }
    }
}

__device__ inline uint32_t pack(float low, float high)
{
    __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&x);
}

/* The way back: 16 rows x HEAD of sums, times scale of each row */
__device__ inline void store_strip(bf16 *to, int64_t ld, int n, const float (&sum)[8][4],
                                   const float (&scale)[2], const lane_map &m)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = 2 * m.g + r;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t x[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[i] = pack(sum[4 * half + i][2 * r] * scale[r],
                            sum[4 * half + i][2 * r + 1] * scale[r]);
            transpose_quad(x, m.t);
            if (row < n)
                *reinterpret_cast<uint4 *>(to + row * ld + (4 * half + m.t) * 8) =
                    make_uint4(x[0], x[1], x[2], x[3]);
        }
    }
}

/* A lane's eight elements of strip x pair: strip row 2g + r against pair row 4t + c is x[c / 2][2r + c % 2], */
#define EACH_ELEMENT(r, c)                                                                         \
    _Pragma("unroll") for (int r = 0; r < 2; r++) _Pragma("unroll") for (int c = 0; c < 4; c++)
#define AT(x, r, c) x[(c) / 2][2 * (r) + (c) % 2]

/* x (16, 16) = strip (16, HEAD) pair (16, HEAD)^T */
__device__ inline void multiply(float (&x)[2][4], const uint32_t (&strip)[4][4], uint32_t pair,
                                const lane_map &m)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i / 4][i % 4] = 0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        uint32_t b[4];
        load_matrices(b, pair + m.as_columns[c]);
        mma(x[0], strip[c], b[0], b[1]);
        mma(x[1], strip[c], b[2], b[3]);
    }
}

/* sum (16, HEAD) += x (16, 16), rounded, times pair (16, HEAD) */
__device__ inline void multiply_add(float (&sum)[8][4], const float (&x)[2][4], uint32_t pair,
                                    const lane_map &m)
{
    uint32_t a[4] = {pack(x[0][0], x[0][1]), pack(x[0][2], x[0][3]), pack(x[1][0], x[1][1]),
                     pack(x[1][2], x[1][3])};
#pragma unroll
    for (int c = 0; c < 4; c++) {
        uint32_t b[4];
        load_transposed(b, pair + m.as_rows[c]);
        mma(sum[2 * c], a, b[0], b[1]);
        mma(sum[2 * c + 1], a, b[2], b[3]);
    }
}

__device__ inline void clear(float (&sum)[8][4])
{
#pragma unroll
    for (int i = 0; i < 32; i++)
        sum[i / 4][i % 4] = 0;
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

/* ---- scores and draws where strips are queries and pairs are keys ---- */

/* Products to scores x log2(e); hidden keys to -inf. bias: the table at key 4t against query 2g of the same sixteen */
__device__ inline void finish_scores(float (&x)[2][4], const float *bias, int strip, int pair,
                                     int nk, const shape64 &s, const lane_map &m)
{
    bias += table_shift(s, pair - strip);
    float near[5];
#pragma unroll
    for (int i = 0; i < 5; i++)
        near[i] = bias[i - 1];
    EACH_ELEMENT(r, c)
        AT(x, r, c) = fmaf(AT(x, r, c), LOG2E, near[c - r + 1]);
    bool diagonal = s.causal && pair == strip;
    if (diagonal || STRIP * (pair + 1) > nk) {
        EACH_ELEMENT(r, c)
            if (STRIP * pair + 4 * m.t + c >= nk || (diagonal && 4 * m.t + c > 2 * m.g + r))
                AT(x, r, c) = -INFINITY;
    }
}

__device__ inline struct t5_philox draw(const shape64 &s, uint32_t record, int query, int head, int key)
{
    return t5_dropout_draw(&s.dropout, record, (uint32_t)query, (uint32_t)(head * 16384 + key / 4));
}

/* ---- forward ---- */

struct softmax_rows { /* a lane's two rows so far, in units of log2 */
    float top[2], sum[2];
};

/* One tile of keys into out and the running softmax: pairs from 4 tile, those below `end` */
template <bool DROP>
__device__ inline void forward_tile(float (&out)[8][4], softmax_rows &rows,
                                    const uint32_t (&q)[4][4], uint32_t k, uint32_t v, int strip,
                                    int tile, int end, const float *bias, uint32_t record,
                                    const place &at, const shape64 &s, const lane_map &m)
{
    float x[4][2][4], top[2] = {rows.top[0], rows.top[1]};
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (4 * tile + j < end) {
            multiply(x[j], q, k + j * PAIR_BYTES, m);
            finish_scores(x[j], bias, strip, 4 * tile + j, at.nk, s, m);
            EACH_ELEMENT(r, c)
                top[r] = fmaxf(top[r], AT(x[j], r, c));
        }
    top[0] = quad_max(top[0]);
    top[1] = quad_max(top[1]);
    if (__any_sync(~0u, top[0] > rows.top[0] || top[1] > rows.top[1])) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float less = exp2_fast(rows.top[r] - top[r]);
            rows.top[r] = top[r];
            rows.sum[r] *= less;
#pragma unroll
            for (int i = 0; i < 16; i++)
                out[i / 2][2 * r + i % 2] *= less;
        }
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (4 * tile + j < end) {
            EACH_ELEMENT(r, c) {
                AT(x[j], r, c) = exp2_fast(AT(x[j], r, c) - top[r]);
                rows.sum[r] += AT(x[j], r, c);
            }
            if (DROP) {
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    struct t5_philox d = draw(s, record, STRIP * strip + 2 * m.g + r, at.head,
                                       TILE * tile + STRIP * j + 4 * m.t);
#pragma unroll
                    for (int c = 0; c < 4; c++)
                        if (d.v[c] < s.threshold)
                            AT(x[j], r, c) = 0;
                }
            }
            multiply_add(out, x[j], v + j * PAIR_BYTES, m);
        }
}

__device__ inline void forward_store(bf16 *out, float *lse, const float (&sum)[8][4],
                                     const softmax_rows &rows, int strip, const place &at,
                                     const shape64 &s, const lane_map &m)
{
    int64_t first = at.q0 + STRIP * strip, width = (int64_t)s.heads * HEAD;
    int n = at.nq - STRIP * strip;
    float scale[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = quad_sum(rows.sum[r]);
        scale[r] = total > 0 ? s.keep / total : at.nk ? total : 0; /* NaN stays, no keys give 0 */
        if (lse && m.t == 0 && 2 * m.g + r < n)
            lse[(first + 2 * m.g + r) * s.heads + at.head] = (rows.top[r] + log2f(total)) * LN2;
    }
    store_strip(out + first * width + at.head * HEAD, width, n, sum, scale, m);
}

/* A block: one (sequence, head), every gridDim.z-th group of four strips of its queries */
template <bool DROP>
__global__ void __launch_bounds__(THREADS, 3)
    attention_forward(bf16 *out, float *lse, const bf16 *q, int64_t ldq, const bf16 *k, int64_t ldk,
                      const bf16 *v, int64_t ldv, shape64 s)
{
    place at = find_place(s);
    int strips = parts(at.nq, STRIP), pairs = parts(at.nk, STRIP);
    if ((int)blockIdx.z * WARPS >= strips)
        return;
    lane_map m = map_lanes();
    float *table = reinterpret_cast<float *>(shared_bytes);
    const float *bias = table + s.reach + STRIP - 1 + 4 * m.t - 2 * m.g;
    tiles keys = {k + at.k0 * ldk + at.head * HEAD, v + at.k0 * ldv + at.head * HEAD, ldk, ldv,
                  at.nk, parts(at.nk, TILE), shared_address(table) + s.table_bytes};
    bool resident = keys.count <= SLOTS;
    uint32_t record = DROP ? s.record[at.b] : 0;
    for (int group = blockIdx.z; group * WARPS < strips; group += gridDim.z) {
        bool first = group == (int)blockIdx.z, load = first || !resident;
        int end = s.causal && !resident ? min(keys.count, group + 1) : keys.count;
        if (load) {
            if (!first)
                __syncthreads(); /* the last group's tiles are still read */
#pragma unroll 1
            for (int i = 0; i < AHEAD; i++) {
                if (i < end)
                    fetch_tile(keys, i);
                copy_commit();
            }
            if (first)
                fill_table(table, s, at.head);
        }
        int strip = group * WARPS + first_warp();
        int end_pair = strip >= strips ? 0 : s.causal ? min(pairs, strip + 1) : pairs;
        uint32_t rows_q[4][4];
        load_strip(rows_q, q + (at.q0 + STRIP * strip) * ldq + at.head * HEAD, ldq,
                   at.nq - STRIP * strip, m);
        float sum[8][4];
        softmax_rows rows = {{-INFINITY, -INFINITY}, {0, 0}};
        clear(sum);
        for (int tile = 0; tile < end; tile++) {
            if (load) {
                copy_wait<AHEAD - 1>();
                __syncthreads();
                if (tile + AHEAD < end)
                    fetch_tile(keys, tile + AHEAD);
                copy_commit();
            }
            uint32_t slot = slot_address(keys, tile);
            if (4 * tile < end_pair)
                forward_tile<DROP>(sum, rows, rows_q, slot, slot + TILE_BYTES, strip, tile,
                                   end_pair, bias, record, at, s, m);
        }
        if (strip < strips)
            forward_store(out, lse, sum, rows, strip, at, s, m);
    }
}

/* ---- backward: dq, and what dk and dv need of each query ---- */

/* Statistics of the queries of a head, (log2 of the softmax's sum, dout . out), each sequence from a multiple of 16 */
__host__ __device__ inline int64_t statistics_row(int64_t q0, int64_t b)
{
    return (q0 + STRIP - 1) / STRIP * STRIP + b * STRIP; /* >= where the last one's strips end */
}

struct query_rows { /* a lane's two rows */
    float lse[2], delta[2];
};

/* delta = dout . out; both to `to` (STRIP rows). Rows beyond n: no weight at all */
__device__ inline query_rows query_statistics(float2 *to, const uint32_t (&dout)[4][4],
                                              const bf16 *out, int64_t width, const float *lse,
                                              int heads, int n, const lane_map &m)
{
    uint32_t o[4][4];
    query_rows rows;
    load_strip(o, out, width, n, m);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t x = o[i / 2][2 * (i % 2) + r], y = dout[i / 2][2 * (i % 2) + r];
            float2 a = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162 *>(&x));
            float2 b = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162 *>(&y));
            sum += a.x * b.x + a.y * b.y;
        }
        rows.delta[r] = quad_sum(sum);
        rows.lse[r] = 2 * m.g + r < n ? lse[(int64_t)(2 * m.g + r) * heads] * LOG2E : INFINITY;
    }
    if (m.t == 0)
        *reinterpret_cast<float4 *>(to + 2 * m.g) =
            make_float4(rows.lse[0], rows.delta[0], rows.lse[1], rows.delta[1]);
    return rows;
}

/* One pair of keys into dq */
template <bool DROP>
__device__ inline void backward_keys_pair(float (&dq)[8][4], const uint32_t (&q)[4][4],
                                          const uint32_t (&dout)[4][4], const query_rows &rows,
                                          uint32_t k, uint32_t v, int strip, int pair,
                                          const float *bias, uint32_t record, const place &at,
                                          const shape64 &s, const lane_map &m)
{
    float x[2][4], dp[2][4];
    multiply(x, q, k, m);
    multiply(dp, dout, v, m);
    finish_scores(x, bias, strip, pair, at.nk, s, m);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        struct t5_philox d;
        if (DROP)
            d = draw(s, record, STRIP * strip + 2 * m.g + r, at.head, STRIP * pair + 4 * m.t);
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float p = exp2_fast(AT(x, r, c) - rows.lse[r]);
            float change = DROP ? fmaf(AT(dp, r, c), s.keep, -rows.delta[r])
                                : AT(dp, r, c) - rows.delta[r];
            if (DROP && d.v[c] < s.threshold)
                change = -rows.delta[r];
            AT(x, r, c) = p * change;
        }
    }
    multiply_add(dq, x, k, m);
}

/* A block: as in the forward kernel */
template <bool DROP>
__global__ void __launch_bounds__(THREADS, 3)
    attention_backward_queries(bf16 *dq, int64_t lddq, float2 *statistics, int64_t statistics_rows,
                               const bf16 *dout, const bf16 *out, const float *lse, const bf16 *q,
                               int64_t ldq, const bf16 *k, int64_t ldk, const bf16 *v, int64_t ldv,
                               shape64 s)
{
    place at = find_place(s);
    int strips = parts(at.nq, STRIP), pairs = parts(at.nk, STRIP);
    if ((int)blockIdx.z * WARPS >= strips)
        return;
    lane_map m = map_lanes();
    int64_t width = (int64_t)s.heads * HEAD;
    float *table = reinterpret_cast<float *>(shared_bytes);
    const float *bias = table + s.reach + STRIP - 1 + 4 * m.t - 2 * m.g;
    statistics += at.head * statistics_rows + statistics_row(at.q0, at.b);
    tiles keys = {k + at.k0 * ldk + at.head * HEAD, v + at.k0 * ldv + at.head * HEAD, ldk, ldv,
                  at.nk, parts(at.nk, TILE), shared_address(table) + s.table_bytes};
    bool resident = keys.count <= SLOTS;
    uint32_t record = DROP ? s.record[at.b] : 0;
    for (int group = blockIdx.z; group * WARPS < strips; group += gridDim.z) {
        bool first = group == (int)blockIdx.z, load = first || !resident;
        int end = s.causal && !resident ? min(keys.count, group + 1) : keys.count;
        if (load) {
            if (!first)
                __syncthreads(); /* the last group's tiles are still read */
#pragma unroll 1
            for (int i = 0; i < AHEAD; i++) {
                if (i < end)
                    fetch_tile(keys, i);
                copy_commit();
            }
            if (first)
                fill_table(table, s, at.head);
        }
        int strip = group * WARPS + first_warp(), n = at.nq - STRIP * strip;
        int end_pair = strip >= strips ? 0 : s.causal ? min(pairs, strip + 1) : pairs;
        int64_t row = at.q0 + STRIP * strip;
        uint32_t rows_q[4][4], rows_dout[4][4];
        query_rows rows = {};
        if (strip < strips) {
            load_strip(rows_q, q + row * ldq + at.head * HEAD, ldq, n, m);
            load_strip(rows_dout, dout + row * width + at.head * HEAD, width, n, m);
            rows = query_statistics(statistics + STRIP * strip, rows_dout,
                                    out + row * width + at.head * HEAD, width,
                                    lse + row * s.heads + at.head, s.heads, n, m);
        }
        float sum[8][4];
        clear(sum);
        for (int tile = 0; tile < end; tile++) {
            if (load) {
                copy_wait<AHEAD - 1>();
                __syncthreads();
                if (tile + AHEAD < end)
                    fetch_tile(keys, tile + AHEAD);
                copy_commit();
            }
            uint32_t slot = slot_address(keys, tile);
#pragma unroll 1
            for (int pair = 4 * tile; pair < min(4 * tile + 4, end_pair); pair++) {
                uint32_t here = slot + pair % 4 * PAIR_BYTES;
                backward_keys_pair<DROP>(sum, rows_q, rows_dout, rows, here, here + TILE_BYTES,
                                         strip, pair, bias, record, at, s, m);
            }
        }
        const float scale[2] = {1, 1};
        if (strip < strips)
            store_strip(dq + row * lddq + at.head * HEAD, lddq, n, sum, scale, m);
    }
}

/* ---- backward: dk and dv; strips are keys, pairs are queries ---- */

/* Which of a lane's eight weights are dropped. Lanes 4g + t and 4(g ^ 1) + t hold the four keys of a draw between them:
 * each draws for two of the four queries and hands over the half that is not its own. */
__device__ inline void share_draws(uint32_t (&draws)[2][4], uint32_t record, int query, int key,
                                   int head, const shape64 &s, const lane_map &m)
{
    bool odd = m.g & 1;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        struct t5_philox d = draw(s, record, query + (odd ? 2 : 0) + i, head, key);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint32_t mine = odd ? d.v[2 + r] : d.v[r];
            uint32_t got = __shfl_xor_sync(~0u, odd ? d.v[r] : d.v[2 + r], 4);
            AT(draws, r, i) = odd ? got : mine;
            AT(draws, r, 2 + i) = odd ? mine : got;
        }
    }
}

/* One pair of queries into dk and dv. bias: the table at key 2g against query 4t of the same sixteen; statistics: of
 * the pair's queries, in shared memory */
template <bool DROP>
__device__ inline void backward_queries_pair(float (&dk)[8][4], float (&dv)[8][4],
                                             const uint32_t (&k)[4][4], const uint32_t (&v)[4][4],
                                             uint32_t q, uint32_t dout, const float4 *statistics,
                                             int strip, int pair, const float *bias,
                                             uint32_t record, const place &at, const shape64 &s,
                                             const lane_map &m)
{
    float x[2][4], dp[2][4], near[5];
    multiply(x, k, q, m);
    multiply(dp, v, dout, m);
    float4 first = statistics[2 * m.t], second = statistics[2 * m.t + 1];
    float lse[4] = {first.x, first.z, second.x, second.z};
    float delta[4] = {first.y, first.w, second.y, second.w};
    bias += table_shift(s, strip - pair);
#pragma unroll
    for (int i = 0; i < 5; i++)
        near[i] = bias[i - 3];
    EACH_ELEMENT(r, c)
        AT(x, r, c) = exp2_fast(fmaf(AT(x, r, c), LOG2E, near[r - c + 3] - lse[c]));
    if (s.causal && pair == strip) {
        EACH_ELEMENT(r, c)
            if (2 * m.g + r > 4 * m.t + c)
                AT(x, r, c) = 0;
    }
    if (DROP) {
        uint32_t draws[2][4];
        share_draws(draws, record, STRIP * pair + 4 * m.t, STRIP * strip + 2 * (m.g & ~1), at.head,
                    s, m);
        EACH_ELEMENT(r, c) {
            bool dropped = AT(draws, r, c) < s.threshold;
            float change = dropped ? -delta[c] : fmaf(AT(dp, r, c), s.keep, -delta[c]);
            AT(dp, r, c) = AT(x, r, c) * change;
            AT(x, r, c) = dropped ? 0 : AT(x, r, c);
        }
    } else {
        EACH_ELEMENT(r, c)
            AT(dp, r, c) = AT(x, r, c) * (AT(dp, r, c) - delta[c]);
    }
    multiply_add(dv, x, dout, m);
    multiply_add(dk, dp, q, m);
}

/* The statistics that go with a tile of queries */
__device__ inline void fetch_statistics(uint32_t to, const float2 *from, int tile, int n)
{
    int row = TILE * tile + 2 * threadIdx.x;
    if (threadIdx.x < TILE / 2 && row < n)
        copy_async(to + tile % SLOTS * TILE * 8 + threadIdx.x * 16, from + row, false);
}

/* A block: one (sequence, head), every gridDim.z-th group of four strips of its keys */
template <bool DROP>
__global__ void __launch_bounds__(THREADS, 3)
    attention_backward_keys(bf16 *dk, int64_t lddk, bf16 *dv, int64_t lddv,
                            const float2 *statistics, int64_t statistics_rows, const bf16 *dout,
                            const bf16 *q, int64_t ldq, const bf16 *k, int64_t ldk, const bf16 *v,
                            int64_t ldv, shape64 s)
{
    place at = find_place(s);
    int strips = parts(at.nk, STRIP), pairs = parts(at.nq, STRIP);
    if ((int)blockIdx.z * WARPS >= strips)
        return;
    lane_map m = map_lanes();
    int64_t width = (int64_t)s.heads * HEAD;
    float *table = reinterpret_cast<float *>(shared_bytes);
    const float *bias = table + s.reach + STRIP - 1 + 2 * m.g - 4 * m.t;
    float4 *held = reinterpret_cast<float4 *>(shared_bytes) + s.table_bytes / 16;
    statistics += at.head * statistics_rows + statistics_row(at.q0, at.b);
    tiles queries = {q + at.q0 * ldq + at.head * HEAD,
                     dout + at.q0 * width + at.head * HEAD,
                     ldq,
                     width,
                     at.nq,
                     parts(at.nq, TILE),
                     shared_address(held) + SLOTS * TILE * 8};
    bool resident = queries.count <= SLOTS;
    uint32_t record = DROP ? s.record[at.b] : 0;
    for (int group = blockIdx.z; group * WARPS < strips; group += gridDim.z) {
        bool first = group == (int)blockIdx.z, load = first || !resident;
        int begin = s.causal && !resident ? group : 0;
        auto fetch = [&](int tile) {
            if (tile < queries.count) {
                fetch_tile(queries, tile);
                fetch_statistics(shared_address(held), statistics, tile, pairs * STRIP);
            }
            copy_commit();
        };
        if (load) {
            if (!first)
                __syncthreads(); /* the last group's tiles are still read */
#pragma unroll 1
            for (int i = 0; i < AHEAD; i++)
                fetch(begin + i);
            if (first)
                fill_table(table, s, at.head);
        }
        int strip = group * WARPS + first_warp(), n = at.nk - STRIP * strip;
        int first_pair = strip >= strips ? pairs : s.causal ? strip : 0;
        int64_t row = at.k0 + STRIP * strip;
        uint32_t rows_k[4][4], rows_v[4][4];
        if (strip < strips) {
            load_strip(rows_k, k + row * ldk + at.head * HEAD, ldk, n, m);
            load_strip(rows_v, v + row * ldv + at.head * HEAD, ldv, n, m);
        }
        float sum_k[8][4], sum_v[8][4];
        clear(sum_k);
        clear(sum_v);
        for (int tile = begin; tile < queries.count; tile++) {
            if (load) {
                copy_wait<AHEAD - 1>();
                __syncthreads();
                fetch(tile + AHEAD);
            }
            uint32_t slot = slot_address(queries, tile);
#pragma unroll 1
            for (int pair = max(4 * tile, first_pair); pair < min(4 * tile + 4, pairs); pair++) {
                uint32_t here = slot + pair % 4 * PAIR_BYTES;
                const float4 *rows = held + (tile % SLOTS * TILE + pair % 4 * STRIP) / 2;
                backward_queries_pair<DROP>(sum_k, sum_v, rows_k, rows_v, here, here + TILE_BYTES,
                                            rows, strip, pair, bias, record, at, s, m);
            }
        }
        const float scale_k[2] = {1, 1}, scale_v[2] = {s.keep, s.keep};
        if (strip < strips) {
            store_strip(dk + row * lddk + at.head * HEAD, lddk, n, sum_k, scale_k, m);
            store_strip(dv + row * lddv + at.head * HEAD, lddv, n, sum_v, scale_v, m);
        }
    }
}

/* ---- launchers ---- */

static bool aligned8(const void *p, int64_t ld) { return ld % 8 == 0 && (uintptr_t)p % 16 == 0; }

static bool ours(const t5_device *dev, const t5_attention *shape)
{
    return dev->bf16 && shape->d_kv == HEAD && shape->k_pack->longest <= 65536 &&
           shape->max_distance <= 1024 && shape->dropout.p < 1;
}

static shape64 shape_of(const t5_attention *shape)
{
    shape64 s = {};
    s.q_offsets = shape->q_pack->offsets;
    s.k_offsets = shape->k_pack->offsets;
    s.record = shape->q_pack->record;
    s.bias = shape->bias;
    s.bucket = shape->bucket;
    s.heads = (int)shape->heads;
    s.max_distance = shape->bias ? (int)shape->max_distance : 0;
    s.causal = shape->causal;
    s.reach = parts(s.max_distance + STRIP, STRIP) * STRIP;
    s.table_bytes = parts((2 * (s.reach + STRIP) - 1) * 4, 128) * 128;
    s.dropout = shape->dropout;
    s.threshold = (uint32_t)ceil((double)shape->dropout.p * 0x1p24) << 8;
    s.keep = shape->dropout.p > 0 ? 1.0f / (1.0f - shape->dropout.p) : 1;
    return s;
}

/* Blocks where `held` rows at most are dealt to warps, and `passing` ones go through shared memory */
static dim3 grid_for(const t5_attention *shape, int64_t held, int64_t passing)
{
    int64_t blocks = shape->q_pack->n_seqs * shape->heads;
    int64_t groups = (held + TILE - 1) / TILE, z = groups;
    if (passing <= SLOTS * TILE && z * blocks > ENOUGH_BLOCKS)
        z = (ENOUGH_BLOCKS + blocks - 1) / blocks;
    return dim3((unsigned)blocks, 1, (unsigned)z);
}

static size_t tile_bytes(int64_t passing)
{
    int64_t n = (passing + TILE - 1) / TILE;
    return (size_t)(n < SLOTS ? n : SLOTS) * SLOT_BYTES;
}

/* Shared memory beyond 48 KiB has to be asked for. */
template <typename Kernel> static bool allow(t5_device *dev, Kernel kernel, size_t bytes)
{
    return !t5_cuda_failed(dev,
                           cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                (int)bytes),
                           "attention");
}

bool t5_cuda_attention_fwd_64(t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                              const act *k, int64_t ldk, const act *v, int64_t ldv,
                              const t5_attention *shape)
{
    if (!ours(dev, shape) || !aligned8(q, ldq) || !aligned8(k, ldk) || !aligned8(v, ldv) ||
        !aligned8(out, 0))
        return false;
    int64_t nq = shape->q_pack->longest, nk = shape->k_pack->longest;
    if (shape->q_pack->n_tokens == 0)
        return true;
    shape64 s = shape_of(shape);
    size_t bytes = s.table_bytes + tile_bytes(nk);
    auto kernel = s.dropout.p > 0 ? attention_forward<true> : attention_forward<false>;
    if (!allow(dev, kernel, bytes))
        return true;
    kernel<<<grid_for(shape, nq, nk), THREADS, bytes, dev->stream>>>(
        (bf16 *)out, lse, (const bf16 *)q, ldq, (const bf16 *)k, ldk, (const bf16 *)v, ldv, s);
    T5_LAUNCHED(dev);
    return true;
}

bool t5_cuda_attention_bwd_64(t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk, act *dv,
                              int64_t lddv, float *dbias, const act *dout, const act *out,
                              const float *lse, const act *q, int64_t ldq, const act *k,
                              int64_t ldk, const act *v, int64_t ldv, const t5_attention *shape)
{
    if (dbias || !ours(dev, shape) || !aligned8(q, ldq) || !aligned8(k, ldk) || !aligned8(v, ldv) ||
        !aligned8(dq, lddq) || !aligned8(dk, lddk) || !aligned8(dv, lddv) || !aligned8(out, 0) ||
        !aligned8(dout, 0))
        return false;
    const t5_pack *qp = shape->q_pack, *kp = shape->k_pack;
    int64_t rows = statistics_row(qp->n_tokens, qp->n_seqs);
    float2 *statistics =
        (float2 *)t5_cuda_scratch(dev, (size_t)(rows * shape->heads) * sizeof *statistics);
    if (!statistics)
        return true;
    shape64 s = shape_of(shape);
    bool drop = s.dropout.p > 0;
    size_t bytes_q = s.table_bytes + tile_bytes(kp->longest);
    size_t bytes_k = s.table_bytes + SLOTS * TILE * 8 + tile_bytes(qp->longest);
    auto queries = drop ? attention_backward_queries<true> : attention_backward_queries<false>;
    auto keys = drop ? attention_backward_keys<true> : attention_backward_keys<false>;
    if (!allow(dev, queries, bytes_q) || !allow(dev, keys, bytes_k))
        return true;
    if (qp->n_tokens)
        queries<<<grid_for(shape, qp->longest, kp->longest), THREADS, bytes_q, dev->stream>>>(
            (bf16 *)dq, lddq, statistics, rows, (const bf16 *)dout, (const bf16 *)out, lse,
            (const bf16 *)q, ldq, (const bf16 *)k, ldk, (const bf16 *)v, ldv, s);
    if (kp->n_tokens)
        keys<<<grid_for(shape, kp->longest, qp->longest), THREADS, bytes_k, dev->stream>>>(
            (bf16 *)dk, lddk, (bf16 *)dv, lddv, statistics, rows, (const bf16 *)dout,
            (const bf16 *)q, ldq, (const bf16 *)k, ldk, (const bf16 *)v, ldv, s);
    T5_LAUNCHED(dev);
    return true;
}
