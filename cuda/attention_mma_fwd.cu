/* attention_mma_fwd.cu - packed attention on the tensor cores, forward: a strip of queries meets
 * the keys tile by tile, with the running maximum and sum of arXiv:1805.02867. The form of the
 * kernel: attention_mma.h. */
/* SPDX-License-Identifier: MIT */
#include "attention_mma.h"

struct softmax_rows { /* a lane's two rows so far: the largest score, the sum of exp(score - top) */
    float top[2], sum[2];
};

/* One tile of keys into out and the running softmax: pairs from 4 tile, those below `end`. WHOLE:
 * all are, and no key is beyond the sequence; then nothing branches, and the pairs overlap. */
template <bool DROP, bool WHOLE>
__device__ inline void forward_tile(float (&out)[8][4], softmax_rows &rows,
                                    const uint32_t (&q)[4][4], uint32_t slot, int strip, int tile,
                                    int end, const float *bias, const place &at, const shape64 &s,
                                    const lane_map &m)
{
    float x[4][2][4], top[2] = {rows.top[0], rows.top[1]};
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (WHOLE || 4 * tile + j < end) {
            begin_scores(x[j], bias, strip, 4 * tile + j, s);
            if (!WHOLE)
                hide_keys(x[j], 4 * tile + j, at.nk, m);
            multiply<0>(x[j], x[j][0], x[j][1], q, slot + j * PAIR_BYTES, m);
            EACH_ELEMENT(r, c)
                top[r] = fmaxf(top[r], AT(x[j], r, c));
        }
    top[0] = quad_max(top[0]);
    top[1] = quad_max(top[1]);
    if (__any_sync(~0u, top[0] > rows.top[0] || top[1] > rows.top[1])) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float less = exp2_fast((rows.top[r] - top[r]) * LOG2E);
            rows.top[r] = top[r];
            rows.sum[r] *= less;
#pragma unroll
            for (int i = 0; i < 16; i++)
                out[i / 2][2 * r + i % 2] *= less;
        }
    }
    float shift[2] = {-top[0] * LOG2E, -top[1] * LOG2E};
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (WHOLE || 4 * tile + j < end) {
            EACH_ELEMENT(r, c) {
                AT(x[j], r, c) = exp2_fast(fmaf(AT(x[j], r, c), LOG2E, shift[r]));
                rows.sum[r] += AT(x[j], r, c);
            }
            if (DROP) {
                uint32_t words[2][2];
                draw_rows(words, s, at.record, STRIP * strip + 2 * m.g, at.head,
                          TILE * tile + STRIP * j, m);
                EACH_ELEMENT(r, c)
                    AT(x[j], r, c) = dropped(words[r][c / 2], c, s) ? 0 : AT(x[j], r, c);
            }
            uint32_t p[4];
            pack_left(p, x[j]);
#pragma unroll
            for (int i = 0; i < 4; i++)
                multiply_add<1>(out, p, i, slot + j * PAIR_BYTES, m);
        }
}

__device__ inline void forward_store(bf16 *out, float *lse, float (&sum)[8][4],
                                     const softmax_rows &rows, int strip, const place &at,
                                     const shape64 &s, const lane_map &m)
{
    int first = at.q0 + STRIP * strip, width = s.heads * HEAD, n = at.nq - STRIP * strip;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = quad_sum(rows.sum[r]);
        float scale = total > 0 ? __fdividef(s.keep, total)
                      : at.nk   ? total
                                : 0; /* NaN stays, no keys give 0 */
        if (lse && m.t == 0 && 2 * m.g + r < n)
            lse[(int64_t)(first + 2 * m.g + r) * s.heads + at.head] =
                fmaf(log2_fast(total), 1 / LOG2E, rows.top[r]);
#pragma unroll
        for (int i = 0; i < 16; i++)
            sum[i / 2][2 * r + i % 2] *= scale;
    }
    store_strip(out + (int64_t)first * width + at.head * HEAD, width, n, sum, m);
}

/* A block: one (sequence, head), every gridDim.z-th group of four strips of its queries */
template <bool DROP>
__global__ void __launch_bounds__(THREADS, 3)
    attention_forward(bf16 *out, float *lse, const bf16 *q, int ldq, const bf16 *k, int ldk,
                      const bf16 *v, int ldv, shape64 s)
{
    place at = find_place(s);
    int strips = parts(at.nq, STRIP), pairs = parts(at.nk, STRIP);
    int warps = blockDim.x / 32;
    if (without_work(at, strips))
        return;
    lane_map m = map_lanes();
    float *table = dynamic_shared<float>();
    const float *bias = table + s.reach + STRIP - 1 + 4 * m.t - 2 * m.g;
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
        int n = at.nq - STRIP * strip;
        strip_rows wanted =
            request_strip(q + (int64_t)(at.q0 + STRIP * strip) * ldq + at.head * HEAD, ldq, n, m);
        if (first)
            fill_table(table, s, at.head, 1);
        uint32_t rows_q[4][4];
        take_strip(rows_q, wanted, n, m);
        float sum[8][4];
        softmax_rows rows = {{-INFINITY, -INFINITY}, {0, 0}};
        clear(sum);
        for (int tile = 0; tile < end; tile++) {
            if (load)
                await_tile(keys, tile, end);
            uint32_t slot = slot_address(keys, tile);
            if (4 * tile + 4 <= end_pair && TILE * (tile + 1) <= at.nk)
                forward_tile<DROP, true>(sum, rows, rows_q, slot, strip, tile, end_pair, bias, at,
                                         s, m);
            else if (4 * tile < end_pair)
                forward_tile<DROP, false>(sum, rows, rows_q, slot, strip, tile, end_pair, bias, at,
                                          s, m);
        }
        if (mine)
            forward_store(out, lse, sum, rows, strip, at, s, m);
    }
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
    launch_shape l = launch_for(s, shape, nq, nk);
    auto kernel = shape->dropout.p > 0 ? attention_forward<true> : attention_forward<false>;
    if (!allow(dev, kernel, l.bytes))
        return true;
    launch_kernel(dev, kernel, l.grid, l.threads, l.bytes, (bf16 *)out, lse, (const bf16 *)q,
                  (int)ldq, (const bf16 *)k, (int)ldk, (const bf16 *)v, (int)ldv, s);
    T5_LAUNCHED(dev);
    return true;
}
