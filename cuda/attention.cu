/* attention.cu - packed attention for any head size and both activation types, and its backward
 * pass: s = q k^T + bias,  p = softmax(s),  out = drop(p) v Plain loops over keys, memory linear in
 * the sequence. The fast kernels for bf16 heads of 64 are in attention_mma.cu; what they decline
 * comes here (f32, other head sizes, the bias table's gradient). */
/* SPDX-License-Identifier: MIT */
#include "device.h"
#include "instructions.h"

#define THREADS 128
#define MAX_HEAD 256

struct shape_view { /* what a kernel takes of a t5_attention */
    int heads, d_kv, causal, max_distance, buckets;
    const float *bias;
    const int32_t *bucket;
    pack_view q, k;
    t5_dropout drop;
};

static shape_view view_of(const t5_attention *s)
{
    shape_view v = {};
    v.heads = (int)s->heads, v.d_kv = (int)s->d_kv, v.causal = s->causal;
    v.max_distance = (int)s->max_distance, v.buckets = (int)s->buckets;
    v.bias = s->bias, v.bucket = s->bucket, v.drop = s->dropout;
    v.q = view(s->q_pack), v.k = view(s->k_pack);
    return v;
}

template <typename T> struct matrix_view {
    const T *p;
    int64_t ld;
};
template <typename T> static matrix_view<T> mat(const act *p, int64_t ld)
{
    return {(const T *)p, ld};
}

__device__ inline int bucket_at(const shape_view &s, int relative)
{
    int far = s.max_distance;
    return s.bucket[far + max(-far, min(far, relative))];
}

__device__ inline float bias_at(const shape_view &s, int relative, int head)
{
    return s.bias ? s.bias[bucket_at(s, relative) * s.heads + head] : 0;
}

template <typename T> __device__ inline float dot(const T *a, const T *b, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += to_float(a[i]) * to_float(b[i]);
    return sum;
}

__device__ inline float mask_at(const shape_view &s, int b, int head, int i, int j)
{
    if (s.drop.p <= 0)
        return 1;
    return t5_dropout_factor(&s.drop, s.q.record[b], (uint32_t)i,
                             (uint32_t)head << 16 | (uint32_t)j);
}

/* Where a query or key stands. */
struct place {
    int b, i;       /* sequence, position */
    int64_t k0, q0; /* first key, first query of the sequence */
    int keys, queries;
};

__device__ inline place place_of(const shape_view &s, const pack_view &own, int64_t token)
{
    place p;
    p.b = own.seq[token];
    p.i = (int)(token - own.offsets[p.b]);
    p.q0 = s.q.offsets[p.b], p.k0 = s.k.offsets[p.b];
    p.queries = s.q.offsets[p.b + 1] - (int)p.q0;
    p.keys = s.k.offsets[p.b + 1] - (int)p.k0;
    return p;
}

/* a block a (query, head) */
template <typename T>
__global__ void forward(T *out, float *lse, matrix_view<T> q, matrix_view<T> k, matrix_view<T> v,
                        shape_view s)
{
    __shared__ float p[THREADS];
    __shared__ float part[THREADS / 32][2];
    int h = blockIdx.y, c0 = h * s.d_kv;
    int64_t token = blockIdx.x;
    place at = place_of(s, s.q, token);
    int keys = s.causal ? min(at.keys, at.i + 1) : at.keys;
    const T *qi = q.p + token * q.ld + c0;
    float top = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < keys; j += THREADS) {
        float x = dot(qi, k.p + (at.k0 + j) * k.ld + c0, s.d_kv) + bias_at(s, j - at.i, h);
        float next = fmaxf(top, x);
        sum = sum * expf(top - next) + expf(x - next);
        top = next;
    }
    float all = warp_max(top);
    sum = warp_sum(top == -INFINITY ? 0 : sum * expf(top - all));
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32][0] = all, part[threadIdx.x / 32][1] = sum;
    __syncthreads();
    top = -INFINITY;
    for (int w = 0; w < THREADS / 32; w++)
        top = fmaxf(top, part[w][0]);
    sum = 0;
    for (int w = 0; w < THREADS / 32; w++)
        sum += part[w][1] > 0 ? part[w][1] * expf(part[w][0] - top) : 0;
    float log_sum = top + logf(sum), o[MAX_HEAD / THREADS] = {0};
    for (int first = 0; first < keys; first += THREADS) {
        int j = first + threadIdx.x;
        __syncthreads();
        if (j < keys)
            p[threadIdx.x] = expf(dot(qi, k.p + (at.k0 + j) * k.ld + c0, s.d_kv) +
                                  bias_at(s, j - at.i, h) - log_sum) *
                             mask_at(s, at.b, h, at.i, j);
        __syncthreads();
        for (int r = 0, c = threadIdx.x; c < s.d_kv; c += THREADS, r++)
            for (int t = 0; t < min(THREADS, keys - first); t++)
                o[r] += p[t] * to_float(v.p[(at.k0 + first + t) * v.ld + c0 + c]);
    }
    for (int r = 0, c = threadIdx.x; c < s.d_kv; c += THREADS, r++)
        from_float(out + token * s.heads * s.d_kv + c0 + c, o[r]);
    if (lse && threadIdx.x == 0)
        lse[token * s.heads + h] = log_sum;
}

static bool too_wide(t5_device *dev, const t5_attention *s)
{
    if (s->d_kv <= MAX_HEAD)
        return false;
    if (!dev->failure.text[0])
        t5_fail(&dev->failure, "d_kv %lld: the CUDA backend takes at most %d", (long long)s->d_kv,
                MAX_HEAD);
    return true;
}

OP t5_cuda_attention_fwd(t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                         const act *k, int64_t ldk, const act *v, int64_t ldv,
                         const t5_attention *shape)
{
    dim3 grid((unsigned)shape->q_pack->n_tokens, (unsigned)shape->heads);
    if (grid.x == 0 || too_wide(dev, shape) ||
        t5_cuda_attention_fwd_64(dev, out, lse, q, ldq, k, ldk, v, ldv, shape))
        return;
    T5_WITH_ACT(dev, launch_kernel(dev, forward<T>, grid, THREADS, 0, (T *)out, lse, mat<T>(q, ldq),
                                   mat<T>(k, ldk), mat<T>(v, ldv), view_of(shape)));
    T5_LAUNCHED(dev);
}

/* p and ds of one pair: ds = p (dout . v mask - dout . out) */
template <typename T> struct backward_view {
    matrix_view<T> q, k, v, out, dout;
    const float *lse;
};
struct pair {
    float dropped, ds; /* p x mask, ds */
};
template <typename T>
__device__ inline pair pair_at(const backward_view<T> &x, const shape_view &s, const place &at,
                               int i, int j, int h, float mean)
{
    int c0 = h * s.d_kv;
    const T *qi = x.q.p + (at.q0 + i) * x.q.ld + c0, *kj = x.k.p + (at.k0 + j) * x.k.ld + c0;
    const T *vj = x.v.p + (at.k0 + j) * x.v.ld + c0, *doi = x.dout.p + (at.q0 + i) * x.dout.ld + c0;
    float p = expf(dot(qi, kj, s.d_kv) + bias_at(s, j - i, h) - x.lse[(at.q0 + i) * s.heads + h]);
    float mask = mask_at(s, at.b, h, i, j);
    return {p * mask, p * (dot(doi, vj, s.d_kv) * mask - mean)};
}

template <typename T>
__device__ inline float row_term(const backward_view<T> &x, const shape_view &s, int64_t token,
                                 int h)
{
    return dot(x.dout.p + token * x.dout.ld + h * s.d_kv, x.out.p + token * x.out.ld + h * s.d_kv,
               s.d_kv);
}

/* a block a (query, head): dq = sum_j ds_j k_j */
template <typename T>
__global__ void backward_query(T *dq, int64_t lddq, backward_view<T> x, shape_view s)
{
    __shared__ float ds[THREADS];
    int h = blockIdx.y, c0 = h * s.d_kv;
    int64_t token = blockIdx.x;
    place at = place_of(s, s.q, token);
    int keys = s.causal ? min(at.keys, at.i + 1) : at.keys;
    float mean = row_term(x, s, token, h), sum[MAX_HEAD / THREADS] = {0};
    for (int first = 0; first < keys; first += THREADS) {
        int j = first + threadIdx.x;
        __syncthreads();
        if (j < keys)
            ds[threadIdx.x] = pair_at(x, s, at, at.i, j, h, mean).ds;
        __syncthreads();
        for (int r = 0, c = threadIdx.x; c < s.d_kv; c += THREADS, r++)
            for (int t = 0; t < min(THREADS, keys - first); t++)
                sum[r] += ds[t] * to_float(x.k.p[(at.k0 + first + t) * x.k.ld + c0 + c]);
    }
    for (int r = 0, c = threadIdx.x; c < s.d_kv; c += THREADS, r++)
        from_float(dq + token * lddq + c0 + c, sum[r]);
}

/* a block a (key, head): dk = sum_i ds_i q_i, dv = sum_i p_i mask dout_i */
template <typename T>
__global__ void backward_key(T *dk, int64_t lddk, T *dv, int64_t lddv, backward_view<T> x,
                             shape_view s)
{
    __shared__ pair pairs[THREADS];
    int h = blockIdx.y, c0 = h * s.d_kv;
    int64_t token = blockIdx.x;
    place at = place_of(s, s.k, token);
    int j = at.i, start = s.causal ? j : 0;
    float sum_k[MAX_HEAD / THREADS] = {0}, sum_v[MAX_HEAD / THREADS] = {0};
    for (int first = start; first < at.queries; first += THREADS) {
        int i = first + threadIdx.x;
        __syncthreads();
        if (i < at.queries)
            pairs[threadIdx.x] = pair_at(x, s, at, i, j, h, row_term(x, s, at.q0 + i, h));
        __syncthreads();
        for (int r = 0, c = threadIdx.x; c < s.d_kv; c += THREADS, r++)
            for (int t = 0; t < min(THREADS, at.queries - first); t++) {
                int64_t q = at.q0 + first + t;
                sum_k[r] += pairs[t].ds * to_float(x.q.p[q * x.q.ld + c0 + c]);
                sum_v[r] += pairs[t].dropped * to_float(x.dout.p[q * x.dout.ld + c0 + c]);
            }
    }
    for (int r = 0, c = threadIdx.x; c < s.d_kv; c += THREADS, r++) {
        from_float(dk + token * lddk + c0 + c, sum_k[r]);
        from_float(dv + token * lddv + c0 + c, sum_v[r]);
    }
}

/* a block a head: every pair's ds into its bucket, each thread its own column of sums, then the
 * columns in order */
template <typename T>
__global__ void backward_bias(float *dbias, backward_view<T> x, shape_view s, int n_seqs)
{
    float *sums = dynamic_shared<float>(); /* (buckets, THREADS) */
    int h = blockIdx.x;
    for (int i = threadIdx.x; i < s.buckets * THREADS; i += THREADS)
        sums[i] = 0;
    __syncthreads();
    for (int b = 0; b < n_seqs; b++) {
        place at = place_of(s, s.q, s.q.offsets[b]);
        for (int64_t t = threadIdx.x; t < (int64_t)at.queries * at.keys; t += THREADS) {
            int i = (int)(t / at.keys), j = (int)(t % at.keys);
            if (s.causal && j > i)
                continue;
            float mean = row_term(x, s, at.q0 + i, h);
            sums[bucket_at(s, j - i) * THREADS + threadIdx.x] +=
                pair_at(x, s, at, i, j, h, mean).ds;
        }
    }
    __syncthreads();
    for (int bucket = threadIdx.x; bucket < s.buckets; bucket += THREADS) {
        float sum = 0;
        for (int t = 0; t < THREADS; t++)
            sum += sums[bucket * THREADS + t];
        dbias[bucket * s.heads + h] += sum;
    }
}

OP t5_cuda_attention_bwd(t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk, act *dv,
                         int64_t lddv, float *dbias, const act *dout, const act *out,
                         const float *lse, const act *q, int64_t ldq, const act *k, int64_t ldk,
                         const act *v, int64_t ldv, const t5_attention *shape)
{
    unsigned heads = (unsigned)shape->heads;
    int64_t width = shape->heads * shape->d_kv;
    dim3 queries((unsigned)shape->q_pack->n_tokens, heads);
    dim3 keys((unsigned)shape->k_pack->n_tokens, heads);
    if (too_wide(dev, shape))
        return;
    if (!dbias && t5_cuda_attention_bwd_64(dev, dq, lddq, dk, lddk, dv, lddv, dbias, dout, out, lse,
                                           q, ldq, k, ldk, v, ldv, shape))
        return;
    T5_WITH_ACT(dev, {
        backward_view<T> x = {mat<T>(q, ldq),     mat<T>(k, ldk),      mat<T>(v, ldv),
                              mat<T>(out, width), mat<T>(dout, width), lse};
        if (queries.x)
            launch_kernel(dev, backward_query<T>, queries, THREADS, 0, (T *)dq, lddq, x,
                          view_of(shape));
        if (keys.x)
            launch_kernel(dev, backward_key<T>, keys, THREADS, 0, (T *)dk, lddk, (T *)dv, lddv, x,
                          view_of(shape));
        if (dbias)
            launch_kernel(dev, backward_bias<T>, heads, THREADS,
                          (size_t)shape->buckets * THREADS * 4, dbias, x, view_of(shape),
                          (int)shape->q_pack->n_seqs);
    });
    T5_LAUNCHED(dev);
}
