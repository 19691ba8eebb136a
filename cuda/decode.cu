/* decode.cu - attention of one decode step over caches: a block a (row, head). Bound by memory:
 * every key and value of the row's positions is read once. Heads that are a multiple of 8 wide read
 * 16 (8) bytes a lane. */
/* SPDX-License-Identifier: MIT */
#include "device.h"

#define THREADS 128
#define WIDE 8 /* elements a lane takes of a head */

/* Eight neighbouring elements as floats. */
template <typename T> __device__ inline void load8(float *to, const T *p)
{
    quad a = load_quad(p, 0, 8, true), b = load_quad(p, 4, 8, true);
    for (int i = 0; i < 4; i++)
        to[i] = a.v[i], to[4 + i] = b.v[i];
}

/* out (d_kv) = softmax(q k_j + bias_j) v_j over n keys; row(j) gives key j's element offset, the
 * same in k and v. lanes: threads that share a key, d_kv / 8. scores (n) and part (THREADS * 8) in
 * shared memory. */
template <typename T, typename Row, typename Bias>
__device__ void attend(T *out, const T *q, const T *k, const T *v, int n, int d_kv, Row row,
                       Bias bias, float *scores, float *part)
{
    int lanes = d_kv / WIDE, lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    int groups = THREADS / lanes;
    float qv[WIDE], kv[WIDE], acc[WIDE] = {0};
    load8(qv, q + lane * WIDE);
    int rounds = (n + groups - 1) / groups;
    for (int r = 0; r < rounds; r++) { /* all lanes take part in every shuffle */
        int j = r * groups + group;
        float s = 0;
        if (j < n) {
            load8(kv, k + row(j) + lane * WIDE);
            for (int c = 0; c < WIDE; c++)
                s += qv[c] * kv[c];
        }
        for (int m = lanes / 2; m; m /= 2)
            s += __shfl_xor_sync(~0u, s, m);
        if (j < n && lane == 0)
            scores[j] = s + bias(j);
    }
    __syncthreads();
    float top = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < n; j += THREADS)
        top = fmaxf(top, scores[j]);
    top = block_max(top);
    for (int j = threadIdx.x; j < n; j += THREADS) {
        float p = expf(scores[j] - top);
        scores[j] = p;
        sum += p;
    }
    sum = block_sum(sum); /* also orders the writes of scores */
    for (int j = group; j < n; j += groups) {
        load8(kv, v + row(j) + lane * WIDE);
        for (int c = 0; c < WIDE; c++)
            acc[c] += scores[j] * kv[c];
    }
    for (int c = 0; c < WIDE; c++)
        part[threadIdx.x * WIDE + c] = acc[c];
    __syncthreads();
    for (int c = threadIdx.x; c < d_kv; c += THREADS) {
        float o = 0;
        for (int g = 0; g < groups; g++)
            o += part[(g * lanes + c / WIDE) * WIDE + c % WIDE];
        from_float(out + c, o / sum);
    }
}

/* The same for heads of any width: a thread a key. */
template <typename T, typename Row, typename Bias>
__device__ void attend_any(T *out, const T *q, const T *k, const T *v, int n, int d_kv, Row row,
                           Bias bias, float *scores)
{
    float top = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < n; j += THREADS) {
        float s = bias(j);
        for (int c = 0; c < d_kv; c++)
            s += to_float(q[c]) * to_float(k[row(j) + c]);
        scores[j] = s;
        top = fmaxf(top, s);
    }
    top = block_max(top);
    for (int j = threadIdx.x; j < n; j += THREADS)
        sum += scores[j] = expf(scores[j] - top);
    sum = block_sum(sum);
    __syncthreads();
    for (int c = threadIdx.x; c < d_kv; c += THREADS) {
        float o = 0;
        for (int j = 0; j < n; j++)
            o += scores[j] * to_float(v[row(j) + c]);
        from_float(out + c, o / sum);
    }
}

struct self_view {
    int length, heads, d_kv, max_distance;
    const int32_t *slot, *position, *history, *bucket;
    const float *bias;
};

template <typename T, bool WHOLE>
__global__ void self_attention(T *out, T *k_cache, T *v_cache, const T *qkv, self_view s)
{
    extern __shared__ float shared[]; /* scores (length), part */
    int r = blockIdx.x, h = blockIdx.y, width = s.heads * s.d_kv, t = s.position[r];
    const T *q = qkv + (int64_t)r * 3 * width + h * s.d_kv;
    int64_t mine = ((int64_t)s.slot[r] * s.length + t) * width + h * s.d_kv;
    for (int c = threadIdx.x; c < s.d_kv; c += THREADS) {
        k_cache[mine + c] = q[width + c];
        v_cache[mine + c] = q[2 * width + c];
    }
    __syncthreads(); /* only this block reads what it wrote: a row's own last position */
    auto row = [&](int j) {
        int slot = j < t ? s.history[(int64_t)r * s.length + j] : s.slot[r];
        return ((int64_t)slot * s.length + j) * width + h * s.d_kv;
    };
    auto bias = [&](int j) {
        int far = s.max_distance;
        return s.bias[s.bucket[far + max(-far, j - t)] * s.heads + h];
    };
    T *o = out + (int64_t)r * width + h * s.d_kv;
    if (WHOLE)
        attend(o, q, (const T *)k_cache, (const T *)v_cache, t + 1, s.d_kv, row, bias, shared,
               shared + s.length);
    else
        attend_any(o, q, (const T *)k_cache, (const T *)v_cache, t + 1, s.d_kv, row, bias, shared);
}

static bool whole_head(const t5_attention *s)
{
    int64_t lanes = s->d_kv / WIDE;
    return s->d_kv % WIDE == 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0;
}

/* More shared memory than a kernel gets by itself must be asked for once. */
template <typename K> static bool room(t5_device *dev, K kernel, size_t bytes)
{
    return bytes <= 48 << 10 ||
           !t5_cuda_failed(dev,
                           cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                (int)bytes),
                           "shared memory");
}

template <typename T, bool WHOLE>
static void launch_self(t5_device *dev, T *out, T *kc, T *vc, const T *qkv, int64_t n, self_view v)
{
    size_t bytes = ((size_t)v.length + THREADS * WIDE) * sizeof(float);
    if (room(dev, self_attention<T, WHOLE>, bytes))
        self_attention<T, WHOLE>
            <<<dim3((unsigned)n, (unsigned)v.heads), THREADS, bytes, dev->stream>>>(out, kc, vc,
                                                                                    qkv, v);
}

OP t5_cuda_decode_self(t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                       const t5_decode_rows *rows, const t5_attention *s)
{
    self_view v = {(int)rows->length,    (int)s->heads, (int)s->d_kv,
                   (int)s->max_distance, rows->slot,    rows->position,
                   rows->history,        s->bucket,     s->bias};
    if (rows->n_rows == 0)
        return;
    T5_WITH_ACT(dev, {
        if (whole_head(s))
            launch_self<T, true>(dev, (T *)out, (T *)k_cache, (T *)v_cache, (const T *)qkv,
                                 rows->n_rows, v);
        else
            launch_self<T, false>(dev, (T *)out, (T *)k_cache, (T *)v_cache, (const T *)qkv,
                                  rows->n_rows, v);
    });
    T5_LAUNCHED(dev);
}

template <typename T, bool WHOLE>
__global__ void cross_attention(T *out, const T *q, const T *kv, const int32_t *begin,
                                const int32_t *count, int heads, int d_kv, int most)
{
    extern __shared__ float shared[]; /* scores (most), part */
    int r = blockIdx.x, h = blockIdx.y, width = heads * d_kv, n = count[r];
    int64_t first = (int64_t)begin[r] * 2 * width + h * d_kv, at = (int64_t)r * width + h * d_kv;
    auto row = [&](int j) { return first + (int64_t)j * 2 * width; };
    auto bias = [](int) { return 0.0f; };
    if (WHOLE)
        attend(out + at, q + at, kv, kv + width, n, d_kv, row, bias, shared, shared + most);
    else
        attend_any(out + at, q + at, kv, kv + width, n, d_kv, row, bias, shared);
}

template <typename T, bool WHOLE>
static void launch_cross(t5_device *dev, T *out, const T *q, const T *kv,
                         const t5_decode_rows *rows, const t5_attention *s)
{
    int most = (int)rows->longest_source;
    size_t bytes = ((size_t)most + THREADS * WIDE) * sizeof(float);
    if (room(dev, cross_attention<T, WHOLE>, bytes))
        cross_attention<T, WHOLE>
            <<<dim3((unsigned)rows->n_rows, (unsigned)s->heads), THREADS, bytes, dev->stream>>>(
                out, q, kv, rows->source_begin, rows->source_count, (int)s->heads, (int)s->d_kv,
                most);
}

OP t5_cuda_decode_cross(t5_device *dev, act *out, const act *q, const act *kv,
                        const t5_decode_rows *rows, const t5_attention *s)
{
    if (rows->n_rows == 0)
        return;
    T5_WITH_ACT(dev, {
        if (whole_head(s))
            launch_cross<T, true>(dev, (T *)out, (const T *)q, (const T *)kv, rows, s);
        else
            launch_cross<T, false>(dev, (T *)out, (const T *)q, (const T *)kv, rows, s);
    });
    T5_LAUNCHED(dev);
}
