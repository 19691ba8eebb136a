/* attention_mma.h - what attention_mma_fwd.cu and attention_mma_bwd.cu share: packed attention on
 * the tensor cores, for bf16 and heads of 64.
 *   s = q k^T + bias,  p = softmax(s),  out = drop(p) v     (arXiv:1706.03762 without 1/sqrt(K))
 *   dp = dout v^T x mask,  ds = p (dp - dout . out)
 *   dq = ds k,  dk = ds^T q,  dv = drop(p)^T dout
 * Tiled as in arXiv:2205.14135: nothing of size (T, S) leaves the registers, memory is linear in
 * the sequence. Other shapes, float and the bias table's gradient: attention.cu.
 *
 * All three kernels have one form. A warp keeps a strip (16 rows of one side: queries, or keys for
 * dk and dv) in registers, and walks over the other side, which lies in shared memory in tiles of
 * 64 rows, 16 rows (a pair of 8-column MMA tiles) at a time. Up to four tiles stay there, and the
 * warps of a block take strips of their (sequence, head) without waiting for each other; longer
 * sides pass through a ring of as many. Each output row is the work of one warp in one order: no
 * atomics, and nothing depends on what else is in the batch.
 *
 * Rows of a strip and of a pair are dealt to the lanes so that lane 4g + t holds strip rows 2g and
 * 2g + 1 against pair rows 4t .. 4t + 3. Eight neighbouring keys, a Philox draw, are then two
 * lanes' (four lanes' in the dk and dv kernel), which draw for one query each and exchange words;
 * and eight scores need five entries of the bias table.
 *
 * What bounds it: three blocks of four warps find room on a processor (registers, shared memory),
 * so there are three warps to hide each other's waiting. Hence whatever a pair needs that waits for
 * no product, the draws above all, stands where no branch keeps it from being done meanwhile, and
 * what a strip needs is asked for at once. By count of cycles the tensor cores, the reads of shared
 * memory and the instructions are then within a quarter of each other; for dk and dv shared memory
 * leads. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_ATTENTION_MMA_H
#define T5_CUDA_ATTENTION_MMA_H

#include <cmath>

#include "attention_tiles.h"

#define ENOUGH_BLOCKS 1024 /* more only reload what others hold */
#define LOG2E 1.4426950408889634f

struct shape64 { /* what the kernels take of a t5_attention */
    const int32_t *q_offsets, *k_offsets;
    const uint32_t *record;
    const float *bias;
    const int32_t *bucket;
    int heads, max_distance, causal;
    int reach; /* a multiple of 16: pairs so far from a strip lie beyond max_distance whole, or none
                  does */
    int table_bytes;
    int slots;                           /* of the ring: 2 or 4 */
    uint32_t site, threshold; /* 16 bits below the upper 16 of threshold drop */
    round_keys keys;
    float keep, kept, log_keep; /* 1 / (1 - p), 1 - p, log2(keep) */
};

struct place { /* a block's work */
    int b, head, q0, nq, k0, nk;
    uint32_t record;
};

__device__ inline place find_place(const shape64 &s)
{
    place x;
    x.b = blockIdx.y;
    x.head = blockIdx.x;
    x.q0 = s.q_offsets[x.b];
    x.nq = s.q_offsets[x.b + 1] - x.q0;
    x.k0 = s.k_offsets[x.b];
    x.nk = s.k_offsets[x.b + 1] - x.k0;
    x.record = s.record ? s.record[x.b] : 0;
    return x;
}

/* Whether a block's first strip is beyond them. It looks at nk, too, so that both sides' offsets
 * are asked for at once. */
__device__ inline bool without_work(const place &at, int strips)
{
    return (int)(blockIdx.z * (blockDim.x / 32)) >= strips | at.nk < 0;
}

/* ---- in shared memory: the bias table, then the tiles ---- */

/* Bias at key - query, or at query - key where sign is -1, = -(reach + 15) .. reach + 15; -inf
 * where a causal mask hides the key. Four entries at once, since each waits twice for memory. */
__device__ inline void fill_table(float *table, const shape64 &s, int head, int sign)
{
    int middle = s.reach + STRIP - 1, far = s.max_distance;
#pragma unroll 1
    for (int first = threadIdx.x; first <= 2 * middle; first += 4 * blockDim.x) {
        int i[4], bucket[4];
        float bias[4] = {0, 0, 0, 0};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            i[j] = min(first + j * (int)blockDim.x, 2 * middle);
            int relative = sign * (i[j] - middle);
            bucket[j] = s.bias ? s.bucket[far + min(max(relative, -far), far)] : 0;
        }
        if (s.bias) {
#pragma unroll
            for (int j = 0; j < 4; j++)
                bias[j] = s.bias[bucket[j] * s.heads + head];
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            table[i[j]] = s.causal && sign * (i[j] - middle) > 0 ? -INFINITY : bias[j];
    }
}

/* 16 (pair - strip) as a place in the table: where it is cut short, the whole pair has one bias. */
__device__ inline int table_shift(const shape64 &s, int strips_apart)
{
    return min(max(STRIP * strips_apart, -s.reach), s.reach);
}

/* The keys and values of a block's (sequence, head), behind the bias table */
__device__ inline tiles tiles_of_keys(const bf16 *k, int ldk, const bf16 *v, int ldv,
                                      const place &at, const shape64 &s)
{
    return {k + (int64_t)at.k0 * ldk + at.head * HEAD,
            v + (int64_t)at.k0 * ldv + at.head * HEAD,
            ldk,
            ldv,
            at.nk,
            parts(at.nk, TILE),
            s.slots,
            shared_address(dynamic_shared<char>()) + s.table_bytes};
}

/* Which strip a warp begins with: rotated, or warp 0 of every block, on the same quarter of the
 * processor, gets the odd strip. */
__device__ inline int first_warp()
{
    return (threadIdx.x / 32 + blockIdx.x) & (blockDim.x / 32 - 1);
}

/* ---- scores and draws ---- */

/* The bias of a lane's eight elements, where the product begins. bias: the table at pair row 4t
 * against strip row 2g of the same sixteen, one entry beyond an aligned pair of them */
__device__ inline void begin_scores(float (&x)[2][4], const float *bias, int strip, int pair,
                                    const shape64 &s)
{
    bias += table_shift(s, pair - strip);
    float2 first = *reinterpret_cast<const float2 *>(bias - 1);
    float2 second = *reinterpret_cast<const float2 *>(bias + 1);
    float near[5] = {first.x, first.y, second.x, second.y, bias[3]};
    EACH_ELEMENT(r, c)
        AT(x, r, c) = near[c - r + 1];
}

/* Pairs are keys: those beyond nk to -inf */
__device__ inline void hide_keys(float (&x)[2][4], int pair, int nk, const lane_map &m)
{
    int left = nk - STRIP * pair - 4 * m.t;
    EACH_ELEMENT(r, c)
        AT(x, r, c) = c < left ? AT(x, r, c) : -INFINITY;
}

/* t5_dropout_draw for keys 8 (key / 8) .. + 7 */
__device__ inline struct t5_philox draw(const shape64 &s, uint32_t record, uint32_t query,
                                        uint32_t head, uint32_t key)
{
    return draw_words(s.keys, record, query, head * 8192 + key / 8, s.site);
}

/* Whether draws[] of two keys, the lower half the first one's, drop key c % 2 of them */
__device__ inline bool dropped(uint32_t word, int c, const shape64 &s)
{
    return (c % 2 ? word : word << 16) < s.threshold;
}

/* words[r][c / 2]: the draws of key 4t + c of the pair (its first key: key) for query + r. The
 * lanes of an octet of keys draw for one of the two queries each. */
__device__ inline void draw_rows(uint32_t (&words)[2][2], const shape64 &s, uint32_t record,
                                 int query, int head, int key, const lane_map &m)
{
    bool odd = m.t & 1;
    struct t5_philox d = draw(s, record, query + odd, head, key + 4 * m.t);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t got = __shfl_xor_sync(~0u, odd ? d.v[i] : d.v[2 + i], 1);
        words[0][i] = odd ? got : d.v[i];
        words[1][i] = odd ? d.v[2 + i] : got;
    }
}

/* ---- launchers ---- */

static inline bool aligned8(const void *p, int64_t ld)
{
    return ld % 8 == 0 && ld < 1 << 24 && (uintptr_t)p % 16 == 0;
}

static inline bool ours(const t5_device *dev, const t5_attention *shape)
{
    return dev->bf16 && shape->d_kv == HEAD && shape->k_pack->longest <= 65536 &&
           shape->max_distance <= 1024 && shape->dropout.p < 1 && shape->q_pack->n_seqs <= 65535;
}

static inline shape64 shape_of(const t5_attention *shape)
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
    int64_t nq = shape->q_pack->longest, nk = shape->k_pack->longest;
    s.reach = parts(s.max_distance + STRIP, STRIP) * STRIP;
    s.reach = min(s.reach, parts((int)(nq > nk ? nq : nk), STRIP) * STRIP);
    s.table_bytes = parts((2 * (s.reach + STRIP) - 1) * 4, 128) * 128;
    s.site = shape->dropout.site;
    s.keys = view(shape->dropout.key);
    uint32_t threshold = t5_dropout_threshold(shape->dropout.p);
    s.threshold = threshold << 16;
    s.keep = t5_dropout_keep(shape->dropout.p);
    s.kept = (float)(65536 - threshold) / 65536;
    s.log_keep = log2f(s.keep);
    return s;
}

struct launch_shape {
    dim3 grid;
    unsigned threads;
    size_t bytes; /* of shared memory */
};

/* held, passing: most rows of a sequence that are dealt to warps, that pass through shared memory.
 * Where few are dealt, blocks of half the warps with half the ring: twice as many find room on a
 * processor, and fewer of their warps have nothing to do. */
static inline launch_shape launch_for(shape64 &s, const t5_attention *shape, int64_t held,
                                      int64_t passing)
{
    bool few = held <= TILE;
    int64_t warps = few ? WARPS / 2 : WARPS, tiles = (passing + TILE - 1) / TILE;
    s.slots = few ? SLOTS / 2 : SLOTS;
    int64_t blocks = shape->q_pack->n_seqs * shape->heads;
    int64_t z = (held + STRIP * warps - 1) / (STRIP * warps);
    if ((few || tiles <= s.slots) && z * blocks > ENOUGH_BLOCKS)
        z = (ENOUGH_BLOCKS + blocks - 1) / blocks;
    launch_shape l;
    l.grid = dim3((unsigned)shape->heads, (unsigned)shape->q_pack->n_seqs, (unsigned)z);
    l.threads = (unsigned)(32 * warps);
    l.bytes = s.table_bytes + (size_t)(tiles < s.slots ? tiles : s.slots) * TILE_BYTES;
    return l;
}

/* Shared memory beyond 48 KiB has to be asked for. */
template <typename Kernel> static inline bool allow(t5_device *dev, Kernel kernel, size_t bytes)
{
    return !t5_cuda_failed(
        dev, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
        "attention");
}

#endif
