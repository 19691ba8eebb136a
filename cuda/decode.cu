/* decode.cu - attention of one decode step over caches: a block a (row, head). Bound by memory:
 * every key and value of the row's positions is read once. Heads that are a multiple of 8 wide read
 * 16 (8) bytes a lane, several keys ahead. */
/* SPDX-License-Identifier: MIT */
#include "decode_attention.h"
#include "dependent.h"
#include "instructions.h"

/* As attend, for heads of any width: a thread a key. */
template <typename T, typename Row, typename Bias>
__device__ void attend_any(T *out, const T *q, const T *k, const T *v, int n, int d_kv, Row row,
                           Bias bias, float *scores)
{
    float top = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < n; j += ATTEND_THREADS) {
        float s = bias(j);
        for (int c = 0; c < d_kv; c++)
            s += to_float(q[c]) * to_float(k[row(j) + c]);
        scores[j] = s;
        top = fmaxf(top, s);
    }
    top = block_max(top);
    for (int j = threadIdx.x; j < n; j += ATTEND_THREADS)
        sum += scores[j] = expf(scores[j] - top);
    sum = block_sum(sum);
    __syncthreads();
    for (int c = threadIdx.x; c < d_kv; c += ATTEND_THREADS) {
        float o = 0;
        for (int j = 0; j < n; j++)
            o += scores[j] * to_float(v[row(j) + c]);
        from_float(out + c, o / sum);
    }
}

template <typename T, bool WHOLE>
__global__ void self_attention(T *out, T *k_cache, T *v_cache, const T *qkv, self_view s)
{
    float *shared = dynamic_shared<float>(); /* scores (length), part */
    dependency_release();
    int r = blockIdx.x, h = blockIdx.y, width = s.heads * s.d_kv, t = s.position[r];
    auto row = [&](int j) { return s.place(r, h, j, t); };
    for (int j = threadIdx.x; j < 2 * t; j += ATTEND_THREADS)
        prefetch((j % 2 ? v_cache : k_cache) + row(j / 2), s.d_kv * sizeof(T));
    dependency_wait();
    const T *q = qkv + (int64_t)r * 3 * width + h * s.d_kv;
    int64_t mine = row(t);
    for (int c = threadIdx.x; c < s.d_kv; c += ATTEND_THREADS) {
        k_cache[mine + c] = q[width + c];
        v_cache[mine + c] = q[2 * width + c];
    }
    __syncthreads(); /* only this block reads what it wrote: a row's own last position */
    auto bias = [&](int j) { return s.bias_at(h, j - t); };
    T *o = out + (int64_t)r * width + h * s.d_kv;
    if (WHOLE)
        attend<1>(o, q, 0, 1, (const T *)k_cache, (const T *)v_cache, t + 1, s.d_kv, row, bias,
                  shared, s.length, shared + s.length);
    else
        attend_any(o, q, (const T *)k_cache, (const T *)v_cache, t + 1, s.d_kv, row, bias, shared);
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
    size_t bytes = ((size_t)v.length + ATTEND_WARPS * (size_t)v.d_kv) * sizeof(float);
    if (room(dev, self_attention<T, WHOLE>, bytes))
        launch_dependent(dev, self_attention<T, WHOLE>, dim3((unsigned)n, (unsigned)v.heads),
                         ATTEND_THREADS, bytes, out, kc, vc, qkv, v);
}

OP t5_cuda_decode_self(t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                       const t5_decode_rows *rows, const t5_attention *s)
{
    self_view v = view(rows, s);
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

struct cross_view {
    int n_rows, heads, d_kv, most;
    const int32_t *begin, *count;
};

/* Rows of one source stand side by side: a block takes up to ROWS of them, the first of such a
 * group for the others. */
template <typename T, bool WHOLE, int ROWS>
__global__ void cross_attention(T *out, const T *q, const T *kv, cross_view s)
{
    float *shared = dynamic_shared<float>(); /* scores (ROWS, most), part */
    int r = blockIdx.x, h = blockIdx.y, width = s.heads * s.d_kv, n = s.count[r], live = 1;
    int64_t begin = s.begin[r], first = begin * 2 * width + h * s.d_kv;
    int64_t at = (int64_t)r * width + h * s.d_kv;
    auto row = [&](int j) { return first + (int64_t)j * 2 * width; };
    auto bias = [](int) { return 0.0f; };
    dependency_release();
    if (ROWS > 1) {
        int before = 0;
        while (before < r && s.begin[r - before - 1] == begin)
            before++;
        if (before % ROWS)
            return;
        while (live < ROWS && r + live < s.n_rows && s.begin[r + live] == begin)
            live++;
    }
    for (int j = threadIdx.x; j < 2 * n; j += ATTEND_THREADS) /* keys and values into L2 */
        prefetch(kv + row(j / 2) + j % 2 * width, s.d_kv * sizeof(T));
    dependency_wait();
    if (WHOLE)
        attend<ROWS>(out + at, q + at, width, live, kv, kv + width, n, s.d_kv, row, bias, shared,
                     s.most, shared + ROWS * s.most);
    else
        attend_any(out + at, q + at, kv, kv + width, n, s.d_kv, row, bias, shared);
}

template <typename T, bool WHOLE, int ROWS>
static void launch_cross(t5_device *dev, T *out, const T *q, const T *kv, cross_view v)
{
    size_t bytes = ROWS * ((size_t)v.most + ATTEND_WARPS * (size_t)v.d_kv) * sizeof(float);
    if (room(dev, cross_attention<T, WHOLE, ROWS>, bytes))
        launch_dependent(dev, cross_attention<T, WHOLE, ROWS>,
                         dim3((unsigned)v.n_rows, (unsigned)v.heads), ATTEND_THREADS, bytes, out, q,
                         kv, v);
}

OP t5_cuda_decode_cross(t5_device *dev, act *out, const act *q, const act *kv,
                        const t5_decode_rows *rows, const t5_attention *s)
{
    cross_view v = {(int)rows->n_rows,         (int)s->heads,      (int)s->d_kv,
                    (int)rows->longest_source, rows->source_begin, rows->source_count};
    /* Beyond that, shared memory for the scores of several rows is more than a block gets. */
    bool several = rows->sharing > 1 && v.most <= 8192;
    if (rows->n_rows == 0)
        return;
    T5_WITH_ACT(dev, {
        if (whole_head(s) && several)
            launch_cross<T, true, 4>(dev, (T *)out, (const T *)q, (const T *)kv, v);
        else if (whole_head(s))
            launch_cross<T, true, 1>(dev, (T *)out, (const T *)q, (const T *)kv, v);
        else
            launch_cross<T, false, 1>(dev, (T *)out, (const T *)q, (const T *)kv, v);
    });
    T5_LAUNCHED(dev);
}
