/* attention_mma_bwd.cu - packed attention on the tensor cores, backward: one kernel for dq, where
 * strips are queries, then one for dk and dv, where strips are keys. Weights are computed again in
 * both from the log-sum-exp, so that each output row has one warp that adds it up. The form of the
 * kernels: attention_mma.h. */
/* SPDX-License-Identifier: MIT */
#include "attention_mma.h"

/* ---- backward: dq, and what dk and dv need of each query ---- */

/* Statistics of the queries of a head: (lse in base 2 less log2(keep), so that weights come out
 * times keep; delta = dout . out / keep), each sequence from a multiple of 16 */
__host__ __device__ inline int64_t statistics_row(int64_t q0, int64_t b)
{
    return (q0 + STRIP - 1) / STRIP * STRIP + b * STRIP; /* >= where the last one's strips end */
}

struct query_rows { /* a lane's two rows */
    float lse[2];
    float less[4]; /* -delta of each twice: where a product begins */
};

/* Both to `to` (STRIP rows), too, if store. o: the strip of out; lse: its first row's. Rows beyond
 * n: no weight at all */
__device__ inline query_rows query_statistics(float2 *to, const uint32_t (&dout)[4][4],
                                              const uint32_t (&o)[4][4], const float (&lse)[2],
                                              const shape64 &s, int n, bool store,
                                              const lane_map &m)
{
    query_rows rows;
    float product[2];
    row_products(product, dout, o, m);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        rows.lse[r] = 2 * m.g + r < n ? fmaf(lse[r], LOG2E, -s.log_keep) : INFINITY;
        rows.less[2 * r] = rows.less[2 * r + 1] = -product[r] * s.kept;
    }
    if (store && m.t == 0)
        *reinterpret_cast<float4 *>(to + 2 * m.g) =
            make_float4(rows.lse[0], -rows.less[0], rows.lse[1], -rows.less[2]);
    return rows;
}

/* One pair of keys into dq: ds = keep p (dp or, where dropped, 0, less delta / keep). EDGE: it may
 * hold keys beyond the sequence. */
template <bool DROP, bool EDGE>
__device__ inline void backward_keys_pair(float (&dq)[8][4], const uint32_t (&q)[4][4],
                                          const uint32_t (&dout)[4][4], const query_rows &rows,
                                          uint32_t keys, int strip, int pair, const float *bias,
                                          const place &at, const shape64 &s, const lane_map &m)
{
    float x[2][4], dp[2][4]; /* dp - delta / keep */
    begin_scores(x, bias, strip, pair, s);
    if (EDGE)
        hide_keys(x, pair, at.nk, m);
    multiply<0>(x, x[0], x[1], q, keys, m);
    multiply<1>(dp, rows.less, rows.less, dout, keys, m);
    uint32_t words[2][2];
    if (DROP)
        draw_rows(words, s, at.record, STRIP * strip + 2 * m.g, at.head, STRIP * pair, m);
    EACH_ELEMENT(r, c) {
        float p = exp2_fast(fmaf(AT(x, r, c), LOG2E, -rows.lse[r]));
        AT(x, r, c) =
            p * (DROP && dropped(words[r][c / 2], c, s) ? rows.less[2 * r] : AT(dp, r, c));
    }
    uint32_t ds[4];
    pack_left(ds, x);
#pragma unroll
    for (int i = 0; i < 4; i++)
        multiply_add<0>(dq, ds, i, keys, m);
}

/* A block: as in the forward kernel */
template <bool DROP>
__global__ void __launch_bounds__(THREADS, 3)
    attention_backward_queries(bf16 *dq, int lddq, float2 *statistics, int64_t statistics_rows,
                               const bf16 *dout, const bf16 *out, const float *lse, const bf16 *q,
                               int ldq, const bf16 *k, int ldk, const bf16 *v, int ldv, shape64 s)
{
    place at = find_place(s);
    int strips = parts(at.nq, STRIP), pairs = parts(at.nk, STRIP);
    int warps = blockDim.x / 32;
    if (without_work(at, strips))
        return;
    lane_map m = map_lanes();
    int width = s.heads * HEAD;
    float *table = dynamic_shared<float>();
    const float *bias = table + s.reach + STRIP - 1 + 4 * m.t - 2 * m.g;
    statistics += at.head * statistics_rows + statistics_row(at.q0, at.b);
    tiles keys = tiles_of_keys(k, ldk, v, ldv, at, s);
    bool resident = keys.count <= s.slots;
    for (int group = blockIdx.z; group * warps < strips; group += gridDim.z) {
        bool first = group == (int)blockIdx.z, load = first || !resident;
        int end =
            s.causal && !resident ? min(keys.count, parts((group + 1) * warps, 4)) : keys.count;
        if (load)
            fetch_first(keys, end, !first);
        int strip = group * warps + first_warp();
        bool mine = strip < strips; /* or this warp looks on */
        strip = min(strip, strips - 1);
        int end_pair = !mine ? 0 : s.causal ? min(pairs, strip + 1) : pairs;
        int whole = min(end_pair, at.nk / STRIP);
        int row = at.q0 + STRIP * strip, n = at.nq - STRIP * strip;
        int64_t place = (int64_t)row * width + at.head * HEAD;
        strip_rows wanted_q = request_strip(q + (int64_t)row * ldq + at.head * HEAD, ldq, n, m);
        strip_rows wanted_dout = request_strip(dout + place, width, n, m);
        strip_rows wanted_out = request_strip(out + place, width, n, m);
        float wanted_lse[2];
#pragma unroll
        for (int r = 0; r < 2; r++)
            wanted_lse[r] = lse[(int64_t)(row + min(2 * m.g + r, n - 1)) * s.heads + at.head];
        if (first)
            fill_table(table, s, at.head, 1);
        uint32_t rows_q[4][4], rows_dout[4][4], rows_out[4][4];
        take_strip(rows_q, wanted_q, n, m);
        take_strip(rows_dout, wanted_dout, n, m);
        take_strip(rows_out, wanted_out, n, m);
        query_rows rows = query_statistics(statistics + STRIP * strip, rows_dout, rows_out,
                                           wanted_lse, s, n, mine, m);
        float sum[8][4];
        clear(sum);
        for (int tile = 0; tile < end; tile++) {
            if (load)
                await_tile(keys, tile, end);
            uint32_t address = slot_address(keys, tile);
#pragma unroll 1
            for (int pair = 4 * tile; pair < min(4 * tile + 4, whole); pair++) {
                backward_keys_pair<DROP, false>(sum, rows_q, rows_dout, rows, address, strip, pair,
                                                bias, at, s, m);
                address += PAIR_BYTES;
            }
            if (whole < end_pair && whole / 4 == tile)
                backward_keys_pair<DROP, true>(sum, rows_q, rows_dout, rows, address, strip, whole,
                                               bias, at, s, m);
        }
        if (mine)
            store_strip(dq + (int64_t)row * lddq + at.head * HEAD, lddq, n, sum, m);
    }
}

/* ---- backward: dk and dv; strips are keys, pairs are queries ---- */

/* x[r] of lane t to lane r's x[t], within four lanes that are four apart */
__device__ inline void transpose_words(uint32_t (&x)[4], int t)
{
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        bool high = t & step;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (!(i & step)) {
                uint32_t got = __shfl_xor_sync(~0u, high ? x[i] : x[i + step], 4 * step);
                x[i] = high ? got : x[i];
                x[i + step] = high ? x[i + step] : got;
            }
    }
}

/* The draws of a lane's two keys for queries .. + 3. The four lanes whose keys make up an octet
 * draw for one of the queries each and deal out the words. (Through shared memory it is ten
 * instructions less, but that is what bounds this kernel.) */
__device__ inline void share_draws(uint32_t (&words)[4], uint32_t record, int query, int key,
                                   int head, const shape64 &s, const lane_map &m)
{
    int mine = m.g % 4;
    struct t5_philox d = draw(s, record, query + mine, head, key);
#pragma unroll
    for (int i = 0; i < 4; i++)
        words[i] = d.v[i];
    transpose_words(words, mine);
}

/* One pair of queries into dk and dv */
template <bool DROP>
__device__ inline void
backward_queries_pair(float (&dk)[8][4], float (&dv)[8][4], const uint32_t (&k)[4][4],
                      const uint32_t (&v)[4][4], uint32_t queries, int strip, int pair,
                      const float *bias, const place &at, const shape64 &s, const lane_map &m)
{
    float x[2][4], dp[2][4];
    begin_scores(x, bias, strip, pair, s);
    clear(dp);
    multiply<1>(dp, dp[0], dp[1], v, queries, m);
    multiply<0>(x, x[0], x[1], k, queries, m);
    float lse[4], delta[4];
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        uint32_t w[4];
        load_words(w, queries + 2 * MATRIX_BYTES + (4 * m.t + i) * 8);
        lse[i] = __uint_as_float(w[0]), delta[i] = __uint_as_float(w[1]);
        lse[i + 1] = __uint_as_float(w[2]), delta[i + 1] = __uint_as_float(w[3]);
    }
    EACH_ELEMENT(r, c)
        AT(x, r, c) = exp2_fast(fmaf(AT(x, r, c), LOG2E, -lse[c]));
    uint32_t words[4]; /* of each query, for the lane's two keys */
    if (DROP)
        share_draws(words, at.record, STRIP * pair + 4 * m.t, STRIP * strip + 2 * m.g, at.head, s,
                    m);
    EACH_ELEMENT(r, c) {
        float p = AT(x, r, c), kept = DROP && dropped(words[c], r, s) ? 0 : p;
        AT(dp, r, c) = fmaf(kept, AT(dp, r, c), -p * delta[c]);
        AT(x, r, c) = kept;
    }
    uint32_t p[4], ds[4];
    pack_left(p, x);
    pack_left(ds, dp);
#pragma unroll
    for (int i = 0; i < 4; i++)
        multiply_add<1>(dv, p, i, queries, m);
#pragma unroll
    for (int i = 0; i < 4; i++)
        multiply_add<0>(dk, ds, i, queries, m);
}

/* The statistics that go with a tile of queries, n in all: behind each pair of them */
__device__ inline void fetch_statistics(const tiles &x, const float2 *from, int tile, int n)
{
    int row = TILE * tile + 2 * threadIdx.x, pair = threadIdx.x / 8;
    if (threadIdx.x < TILE / 2 && row < n)
        copy_async(slot_address(x, tile) + pair * PAIR_BYTES + 2 * MATRIX_BYTES +
                       threadIdx.x % 8 * 16,
                   from + row, false);
}

/* A block: one (sequence, head), every gridDim.z-th group of four strips of its keys */
template <bool DROP>
__global__ void __launch_bounds__(THREADS, 3)
    attention_backward_keys(bf16 *dk, int lddk, bf16 *dv, int lddv, const float2 *statistics,
                            int64_t statistics_rows, const bf16 *dout, const bf16 *q, int ldq,
                            const bf16 *k, int ldk, const bf16 *v, int ldv, shape64 s)
{
    place at = find_place(s);
    int strips = parts(at.nk, STRIP), pairs = parts(at.nq, STRIP);
    int warps = blockDim.x / 32;
    if (without_work(at, strips))
        return;
    lane_map m = map_lanes();
    int width = s.heads * HEAD;
    float *table = dynamic_shared<float>();
    const float *bias = table + s.reach + STRIP - 1 + 4 * m.t - 2 * m.g;
    int statistic = (int)statistics_row(at.q0, at.b);
    statistics += at.head * statistics_rows;
    tiles queries = {q + (int64_t)at.q0 * ldq + at.head * HEAD,
                     dout + (int64_t)at.q0 * width + at.head * HEAD,
                     ldq,
                     width,
                     at.nq,
                     parts(at.nq, TILE),
                     s.slots,
                     shared_address(table) + s.table_bytes};
    bool resident = queries.count <= s.slots;
    for (int group = blockIdx.z; group * warps < strips; group += gridDim.z) {
        bool first = group == (int)blockIdx.z, load = first || !resident;
        int begin = s.causal && !resident ? group * warps / 4 : 0;
        auto fetch = [&](int tile) {
            if (tile < queries.count) {
                fetch_tile(queries, tile);
                fetch_statistics(queries, statistics + statistic, tile, pairs * STRIP);
            }
            copy_commit();
        };
        if (load) {
            if (!first)
                __syncthreads(); /* the last group's tiles are still read */
#pragma unroll 1
            for (int i = 0; i < s.slots - 1; i++)
                fetch(begin + i);
        }
        int strip = group * warps + first_warp();
        bool mine = strip < strips;
        strip = min(strip, strips - 1);
        int first_pair = !mine ? pairs : s.causal ? strip : 0;
        int row = at.k0 + STRIP * strip, n = at.nk - STRIP * strip;
        strip_rows wanted_k = request_strip(k + (int64_t)row * ldk + at.head * HEAD, ldk, n, m);
        strip_rows wanted_v = request_strip(v + (int64_t)row * ldv + at.head * HEAD, ldv, n, m);
        if (first)
            fill_table(table, s, at.head, -1);
        uint32_t rows_k[4][4], rows_v[4][4];
        take_strip(rows_k, wanted_k, n, m);
        take_strip(rows_v, wanted_v, n, m);
        float sum_k[8][4], sum_v[8][4];
        clear(sum_k);
        clear(sum_v);
        for (int tile = begin; tile < queries.count; tile++) {
            if (load) {
                await_copies(queries);
                fetch(tile + s.slots - 1);
            }
            int pair = max(4 * tile, first_pair);
            uint32_t address = slot_address(queries, tile) + (pair & 3) * PAIR_BYTES;
#pragma unroll 1
            for (; pair < min(4 * tile + 4, pairs); pair++) {
                backward_queries_pair<DROP>(sum_k, sum_v, rows_k, rows_v, address, strip, pair,
                                            bias, at, s, m);
                address += PAIR_BYTES;
            }
        }
        if (mine) {
            store_strip(dk + (int64_t)row * lddk + at.head * HEAD, lddk, n, sum_k, m);
            store_strip(dv + (int64_t)row * lddv + at.head * HEAD, lddv, n, sum_v, m);
        }
    }
}

/* ---- launcher ---- */

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
    bool drop = shape->dropout.p > 0;
    auto queries = drop ? attention_backward_queries<true> : attention_backward_queries<false>;
    auto keys = drop ? attention_backward_keys<true> : attention_backward_keys<false>;
    launch_shape l = launch_for(s, shape, qp->longest, kp->longest);
    if (qp->n_tokens && allow(dev, queries, l.bytes))
        launch_kernel(dev, queries, l.grid, l.threads, l.bytes, (bf16 *)dq, (int)lddq, statistics,
                      rows, (const bf16 *)dout, (const bf16 *)out, lse, (const bf16 *)q, (int)ldq,
                      (const bf16 *)k, (int)ldk, (const bf16 *)v, (int)ldv, s);
    l = launch_for(s, shape, kp->longest, qp->longest);
    if (kp->n_tokens && allow(dev, keys, l.bytes))
        launch_kernel(dev, keys, l.grid, l.threads, l.bytes, (bf16 *)dk, (int)lddk, (bf16 *)dv,
                      (int)lddv, statistics, rows, (const bf16 *)dout, (const bf16 *)q, (int)ldq,
                      (const bf16 *)k, (int)ldk, (const bf16 *)v, (int)ldv, s);
    T5_LAUNCHED(dev);
    return true;
}
