/* decode_attention.h - attention of one query over cached keys and values by a block of
 * ATTEND_THREADS: the definition that the step's kernels share. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_DECODE_ATTENTION_H
#define T5_CUDA_DECODE_ATTENTION_H

#include "device.h"
#include "instructions.h"

#define ATTEND_THREADS 256
#define ATTEND_AHEAD 4 /* keys a lane asks for at a time */
#define ATTEND_WARPS (ATTEND_THREADS / 32)
#define ATTEND_WIDE 8 /* elements a lane takes of a head */

/* Whether attend takes such heads. */
static inline bool whole_head(const t5_attention *s)
{
    int64_t lanes = s->d_kv / ATTEND_WIDE;
    return s->d_kv % ATTEND_WIDE == 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0;
}

/* Eight neighbouring elements as floats. */
template <typename T> __device__ inline void load8(float *to, const T *p)
{
    quad a = load_quad(p, 0, 8, true), b = load_quad(p, 4, 8, true);
    for (int i = 0; i < 4; i++)
        to[i] = a.v[i], to[4 + i] = b.v[i];
}

/* A lane's part of the first keys and values, fetched before there is a query. */
template <int AHEAD> struct first_keys {
    uint4 k[AHEAD], v[AHEAD]; /* bf16 */
};
template <int AHEAD, typename Row>
__device__ inline void fetch_first(first_keys<AHEAD> &f, const bf16 *k, const bf16 *v, int n,
                                   int d_kv, Row row)
{
    int lanes = d_kv / ATTEND_WIDE, lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
        int64_t at = row(min(a * (ATTEND_THREADS / lanes) + group, n - 1)) + lane * ATTEND_WIDE;
        f.k[a] = *reinterpret_cast<const uint4 *>(k + at);
        f.v[a] = *reinterpret_cast<const uint4 *>(v + at);
    }
}
__device__ inline void widen(float *to, const uint4 &raw)
{
    octet q = unpack(raw);
    for (int i = 0; i < ATTEND_WIDE; i++)
        to[i] = q.v[i];
}

/* For ROWS queries of the same keys, rows `stride` apart in q and out, of which `live` are there:
 * out (d_kv) = softmax(q k_j + bias_j) v_j over n keys; row(j) gives key j's element offset, the
 * same in k and v. lanes: threads that share a key, d_kv / 8. In shared memory: scores (ROWS,
 * room), room at least n, and part (ROWS, warps, d_kv). early: the first keys, or NULL. A query's
 * result does not depend on the others. */
template <int ROWS, int AHEAD = ATTEND_AHEAD, typename T, typename Row, typename Bias>
__device__ inline void attend(T *out, const T *q, int64_t stride, int live, const T *k, const T *v,
                              int n, int d_kv, Row row, Bias bias, float *scores, int room,
                              float *part, const first_keys<AHEAD> *early = nullptr)
{
    int lanes = d_kv / ATTEND_WIDE, lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    int groups = ATTEND_THREADS / lanes, warp = threadIdx.x / 32;
    float qv[ROWS][ATTEND_WIDE], kv[AHEAD][ATTEND_WIDE], acc[ROWS][ATTEND_WIDE] = {}, sum[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        load8(qv[i], q + min(i, live - 1) * stride + lane * ATTEND_WIDE);
    for (int first = 0; first < n; first += AHEAD * groups) {
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (early && first == 0)
                widen(kv[a], early->k[a]);
            else
                load8(kv[a], k + row(min(first + a * groups + group, n - 1)) + lane * ATTEND_WIDE);
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
#pragma unroll
            for (int i = 0; i < ROWS; i++) { /* all lanes take part in every shuffle */
                int j = first + a * groups + group;
                float s = 0;
                for (int c = 0; c < ATTEND_WIDE; c++)
                    s += qv[i][c] * kv[a][c];
                for (int m = lanes / 2; m; m /= 2)
                    s += __shfl_xor_sync(~0u, s, m);
                if (j < n && lane == 0)
                    scores[i * room + j] = s + bias(j);
            }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        float top = -INFINITY, *mine = scores + i * room;
        sum[i] = 0;
        for (int j = threadIdx.x; j < n; j += ATTEND_THREADS)
            top = fmaxf(top, mine[j]);
        top = block_max(top);
        for (int j = threadIdx.x; j < n; j += ATTEND_THREADS)
            sum[i] += mine[j] = expf(mine[j] - top);
        sum[i] = block_sum(sum[i]); /* also orders the writes of scores */
    }
    for (int first = 0; first < n; first += AHEAD * groups) {
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (early && first == 0)
                widen(kv[a], early->v[a]);
            else
                load8(kv[a], v + row(min(first + a * groups + group, n - 1)) + lane * ATTEND_WIDE);
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                int j = first + a * groups + group;
                float p = j < n ? scores[i * room + j] : 0;
                for (int c = 0; c < ATTEND_WIDE; c++)
                    acc[i][c] += p * kv[a][c];
            }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        for (int c = 0; c < ATTEND_WIDE; c++) {
            for (int m = lanes; m < 32; m *= 2)
                acc[i][c] += __shfl_xor_sync(~0u, acc[i][c], m);
            if (threadIdx.x % 32 < lanes)
                part[(i * ATTEND_WARPS + warp) * d_kv + lane * ATTEND_WIDE + c] = acc[i][c];
        }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        for (int c = threadIdx.x; c < d_kv && i < live; c += ATTEND_THREADS) {
            float o = 0;
            for (int w = 0; w < ATTEND_WARPS; w++)
                o += part[(i * ATTEND_WARPS + w) * d_kv + c];
            from_float(out + i * stride + c, o / sum[i]);
        }
}

/* A hint: nothing is read yet, so it may come before the kernel that writes there has ended. */
__device__ inline void prefetch(const void *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 128)
        prefetch_line((const char *)p + at);
}

/* The rows of a step as self-attention sees them. */
struct self_view {
    int length, heads, d_kv, max_distance;
    const int32_t *slot, *position, *history, *bucket;
    const float *bias;
    /* Where head h's key and value of row r, which stands at t, for its position j lie. */
    __device__ int64_t place(int r, int h, int j, int t) const
    {
        int of = j < t ? history[(int64_t)r * length + j] : slot[r];
        return ((int64_t)of * length + j) * (heads * d_kv) + h * d_kv;
    }
    __device__ float bias_at(int h, int distance) const /* of a key's position: 0 or below */
    {
        return bias[bucket[max_distance + max(-max_distance, distance)] * heads + h];
    }
};
static inline self_view view(const t5_decode_rows *rows, const t5_attention *s)
{
    return {(int)rows->length,    (int)s->heads, (int)s->d_kv,
            (int)s->max_distance, rows->slot,    rows->position,
            rows->history,        s->bucket,     s->bias};
}

#endif
