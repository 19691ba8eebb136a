/* device.h - what the files of the CUDA backend share: the device, launch checks, element access,
 * block sums. Not for others: they see the operator table. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_DEVICE_H
#define T5_CUDA_DEVICE_H

#include <type_traits>

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

extern "C" {
#include "backend/backend.h"
#include "backend/dropout.h"
}

typedef __nv_bfloat16 bf16;

struct t5_matmul_cache;

struct t5_device {
    int index;
    cudaStream_t stream;
    cublasLtHandle_t lt;
    enum t5_compute compute;
    int bf16;        /* act is bf16, else float */
    void *workspace; /* of cuBLASLt */
    size_t workspace_bytes;
    float *scratch; /* grows: partial sums, row statistics */
    size_t scratch_bytes;
    __nv_bfloat16 *expanded; /* grows at load: one int8 weight as bf16, or an 8-bit one transposed */
    size_t expanded_bytes;
    struct t5_rows8 {
        void *p;
        size_t bytes;
    } rows8, lasting8; /* grow as scratch does: activations in 8 bits, see q8.h */
    struct t5_q8_state *q8; /* what lies there: see q8.cu */
    uint64_t calls;           /* of CUDA so far: tells whether something came between two */
    float *ones; /* (n_ones) grows at load */
    int64_t n_ones;
    int64_t max_memory;   /* bytes in all; 0: no limit */
    int64_t own, at_open; /* bytes that opening took; that were free then */
    int processors; /* multiprocessors */
    int overlaps;  /* kernels may start while the one before ends: see dependent.h */
    int recording; /* between record_begin and record_end: nothing may allocate */
    int moved;     /* how often scratch has moved */
    char *staging[2]; /* pinned: what upload copies through */
    cudaEvent_t staged[2];
    int staging_next;
    char *later; /* pinned: T5_LATER_SLOTS small downloads */
    cudaEvent_t later_done[T5_LATER_SLOTS];
    char *landing; /* pinned: what small downloads come through */
    struct t5_matmul_cache *matmuls;
    struct t5_choices *choices;   /* what choose.cu found out, in this run or before */
    int asked_choices, tuning; /* whether they were looked for; may be */
    struct t5_err failure; /* the first one; text[0] == 0: none */
};

/* Keeps the first failure; returns whether rc is one. */
bool t5_cuda_failed(t5_device *dev, cudaError_t rc, const char *what);
/* Scratch of an operator: whether there was none, which recover forgets. */
bool t5_cuda_no_room(t5_device *dev, void **out, size_t bytes, const char *what);
/* Ends every launcher: the launch itself, not its completion. */
#define T5_LAUNCHED(dev) t5_cuda_failed(dev, cudaGetLastError(), __func__)
/* kernel<<<grid, block, shared, stream>>>(args...) */
template <typename... P>
static void launch_kernel(t5_device *dev, void (*kernel)(P...), dim3 grid, dim3 block,
                          size_t shared, std::type_identity_t<P>... args)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block;
    config.dynamicSmemBytes = shared, config.stream = dev->stream;
    t5_cuda_failed(dev, cudaLaunchKernelEx(&config, kernel, args...), "a launch");
}
/* Before memory that operators share moves: false, with a failure, while a step is recorded. What
 * was recorded before is then out of date. */
bool t5_cuda_may_grow(t5_device *dev);
/* At least that much device scratch, valid until the next call; NULL after a failure. Grows outside
 * the step loop only: sizes depend on shapes that the first step already has. */
float *t5_cuda_scratch(t5_device *dev, size_t bytes);
/* The most of it that loading a weight asks for. */
#define T5_LOAD_SLICE ((int64_t)32 << 20)
#define T5_LOAD_SCRATCH (T5_LOAD_SLICE + ((int64_t)2 << 20))

/* CALL with T as the activation type. */
#define T5_WITH_ACT(dev, ...)                                                                      \
    do {                                                                                           \
        if ((dev)->bf16) {                                                                         \
            typedef bf16 T;                                                                        \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            typedef float T;                                                                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

/* ---- elements ---- */

struct quad {
    float v[4];
};

__device__ inline float to_float(float x)
{
    return x;
}
__device__ inline float to_float(bf16 x)
{
    return __bfloat162float(x);
}
__device__ inline void from_float(float *to, float x)
{
    *to = x;
}
__device__ inline void from_float(bf16 *to, float x)
{
    *to = __float2bfloat16(x);
}
/* bf16 in the low half, and in the high one */
__device__ inline uint32_t pack_pair(float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

__device__ inline float2 unpack_pair(uint32_t pair)
{
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

/* Columns c .. c+3 of a row; beyond `width` they read 0. whole: rows are aligned and width a
 * multiple of 4. */
template <typename T> __device__ inline quad load_quad(const T *row, int c, int width, bool whole)
{
    quad q;
    if (whole && sizeof(T) == 4) {
        float4 f = *reinterpret_cast<const float4 *>(row + c);
        q.v[0] = f.x, q.v[1] = f.y, q.v[2] = f.z, q.v[3] = f.w;
    } else if (whole) {
        uint2 raw = *reinterpret_cast<const uint2 *>(row + c);
        float2 a = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162 *>(&raw.x));
        float2 b = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162 *>(&raw.y));
        q.v[0] = a.x, q.v[1] = a.y, q.v[2] = b.x, q.v[3] = b.y;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            q.v[i] = c + i < width ? to_float(row[c + i]) : 0;
    }
    return q;
}

template <typename T>
__device__ inline void store_quad(T *row, int c, int width, bool whole, const quad &q)
{
    if (whole && sizeof(T) == 4) {
        *reinterpret_cast<float4 *>(row + c) = make_float4(q.v[0], q.v[1], q.v[2], q.v[3]);
    } else if (whole) {
        uint2 raw;
        *reinterpret_cast<__nv_bfloat162 *>(&raw.x) = __floats2bfloat162_rn(q.v[0], q.v[1]);
        *reinterpret_cast<__nv_bfloat162 *>(&raw.y) = __floats2bfloat162_rn(q.v[2], q.v[3]);
        *reinterpret_cast<uint2 *>(row + c) = raw;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (c + i < width)
                from_float(row + c + i, q.v[i]);
    }
}

/* Eight columns: 16 bytes of bf16, what a load moves at most. */
struct octet {
    float v[8];
};

__device__ inline octet unpack(const uint4 &raw)
{
    const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
    octet q;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        q.v[2 * i] = __uint_as_float(word[i] << 16);
        q.v[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
    return q;
}

__device__ inline uint4 pack(const octet &q)
{
    uint4 raw;
    __nv_bfloat162 *pair = reinterpret_cast<__nv_bfloat162 *>(&raw);
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = __floats2bfloat162_rn(q.v[2 * i], q.v[2 * i + 1]);
    return raw;
}

/* Columns c .. c+7 of a row; beyond `width` they read 0. whole: rows are aligned to 16 bytes and
 * width is a multiple of 8. */
template <typename T> __device__ inline octet load_octet(const T *row, int c, int width, bool whole)
{
    octet q;
    if (whole && c >= width) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            q.v[i] = 0;
    } else if (whole && sizeof(T) == 4) {
        float4 a = *reinterpret_cast<const float4 *>(row + c);
        float4 b = *reinterpret_cast<const float4 *>(row + c + 4);
        q.v[0] = a.x, q.v[1] = a.y, q.v[2] = a.z, q.v[3] = a.w;
        q.v[4] = b.x, q.v[5] = b.y, q.v[6] = b.z, q.v[7] = b.w;
    } else if (whole) {
        return unpack(*reinterpret_cast<const uint4 *>(row + c));
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            q.v[i] = c + i < width ? to_float(row[c + i]) : 0;
    }
    return q;
}

/* The same as it comes, to be unpacked when all loads are under way. */
__device__ inline octet load_raw(const float *row, int c, int width, bool whole)
{
    return load_octet(row, c, width, whole);
}
__device__ inline uint4 load_raw(const bf16 *row, int c, int width, bool whole)
{
    if (!whole)
        return pack(load_octet(row, c, width, false));
    return c < width ? *reinterpret_cast<const uint4 *>(row + c) : make_uint4(0, 0, 0, 0);
}
__device__ inline octet unpack(const octet &q)
{
    return q;
}

template <typename T>
__device__ inline void store_octet(T *row, int c, int width, bool whole, const octet &q)
{
    if (whole && c >= width)
        return;
    if (whole && sizeof(T) == 4) {
        *reinterpret_cast<float4 *>(row + c) = make_float4(q.v[0], q.v[1], q.v[2], q.v[3]);
        *reinterpret_cast<float4 *>(row + c + 4) = make_float4(q.v[4], q.v[5], q.v[6], q.v[7]);
    } else if (whole) {
        *reinterpret_cast<uint4 *>(row + c) = pack(q);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (c + i < width)
                from_float(row + c + i, q.v[i]);
    }
}

/* ---- dropout ---- */

/* The keys of each Philox round: among a kernel's constants they cost nothing. */
struct round_keys {
    uint32_t v[T5_DROPOUT_ROUNDS][2];
};
static inline round_keys view(const uint32_t key[2])
{
    round_keys k;
    for (uint32_t i = 0; i < T5_DROPOUT_ROUNDS; i++)
        k.v[i][0] = key[0] + i * 0x9E3779B9u, k.v[i][1] = key[1] + i * 0xBB67AE85u;
    return k;
}
/* t5_dropout_draw */
__device__ inline struct t5_philox draw_words(const round_keys &k, uint32_t record,
                                              uint32_t position, uint32_t octet, uint32_t site)
{
    uint32_t c0 = record, c1 = position, c2 = octet, c3 = site;
#pragma unroll
    for (int i = 0; i < T5_DROPOUT_ROUNDS; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k.v[i][0];
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k.v[i][1];
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
    }
    struct t5_philox draw = {{c0, c1, c2, c3}};
    return draw;
}

/* What a kernel takes of a t5_dropout: what every thread would work out alike is done once. */
struct drop_view {
    round_keys keys;
    uint32_t site, threshold;
    float keep;
    bool active;
};
static inline drop_view view(const t5_dropout *d)
{
    drop_view v = {};
    if (t5_dropout_active(d))
        v = {view(d->key), d->site, t5_dropout_threshold(d->p), t5_dropout_keep(d->p), true};
    return v;
}

/* What a kernel takes of a t5_pack. */
struct pack_view {
    const int32_t *offsets, *seq;
    const uint32_t *record;
};
static inline pack_view view(const t5_pack *p)
{
    pack_view v = {nullptr, nullptr, nullptr};
    if (p)
        v.offsets = p->offsets, v.seq = p->seq, v.record = p->record;
    return v;
}

struct drop_row { /* dropout at one row */
    const drop_view &how;
    uint32_t record, position;
};

__device__ inline drop_row drop_at(const drop_view &d, const pack_view &p, int64_t i)
{
    drop_row r = {d, 0, 0};
    if (d.active) {
        int32_t b = p.seq[i];
        r.record = p.record[b];
        r.position = (uint32_t)(i - p.offsets[b]);
    }
    return r;
}

/* Multiplies two neighbouring columns by their factors: those of one word of a draw. */
__device__ inline void drop_two(float &even, float &odd, uint32_t word, const drop_view &d)
{
    even = word << 16 >= d.threshold << 16 ? even * d.keep : 0;
    odd = word >= d.threshold << 16 ? odd * d.keep : 0;
}

/* Multiplies columns c .. c+3 (c a multiple of 4) by their factors. Half a draw: where the next
 * four are at hand too, drop. */
__device__ inline void drop_quad(quad &q, const drop_row &r, uint32_t c)
{
    if (!r.how.active)
        return;
    struct t5_philox draw = draw_words(r.how.keys, r.record, r.position, c / 8, r.how.site);
    drop_two(q.v[0], q.v[1], c & 4 ? draw.v[2] : draw.v[0], r.how);
    drop_two(q.v[2], q.v[3], c & 4 ? draw.v[3] : draw.v[1], r.how);
}

/* The same for columns c .. c+7, c a multiple of 8. */
__device__ inline void drop(octet &q, const drop_row &r, uint32_t c)
{
    if (!r.how.active)
        return;
    struct t5_philox draw = draw_words(r.how.keys, r.record, r.position, c / 8, r.how.site);
#pragma unroll
    for (int i = 0; i < 4; i++)
        drop_two(q.v[2 * i], q.v[2 * i + 1], draw.v[i], r.how);
}

/* ---- sums over a block: fixed order, so the same bytes every time ---- */

__device__ inline float warp_sum(float x)
{
    for (int m = 16; m; m /= 2)
        x += __shfl_xor_sync(~0u, x, m);
    return x;
}
__device__ inline float warp_max(float x)
{
    for (int m = 16; m; m /= 2)
        x = fmaxf(x, __shfl_xor_sync(~0u, x, m));
    return x;
}
/* Every thread gets the sum. Blocks of whole warps; may be called again at once. */
__device__ inline float block_sum(float x)
{
    __shared__ float part[32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0)
        part[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? part[lane] : 0);
}
__device__ inline float block_max(float x)
{
    __shared__ float part[32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0)
        part[warp] = x;
    __syncthreads();
    return warp_max(lane < warps ? part[lane] : -INFINITY);
}

/* N sums at once, of blocks of 128 or 256 threads. Once a kernel. */
template <int N> __device__ inline void block_sums(float (&x)[N])
{
    __shared__ float4 part[N][2];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = warp_sum(x[i]);
#pragma unroll
    for (int i = 0; i < N; i++)
        if (lane == 0)
            reinterpret_cast<float *>(part[i])[warp] = x[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float4 p = part[i][0], q = part[i][1];
        x[i] = (p.x + p.y) + (p.z + p.w);
        if (blockDim.x > 128)
            x[i] += (q.x + q.y) + (q.z + q.w);
    }
}

/* Over N threads, a power of two; every thread gets it. May be called again at once. */
template <int N> __device__ inline double block_sum_double(double x)
{
    __shared__ double part[N];
    __syncthreads();
    part[threadIdx.x] = x;
    for (int m = N / 2; m; m /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < m)
            part[threadIdx.x] += part[threadIdx.x + m];
    }
    __syncthreads();
    return part[0];
}

static inline bool aligned4(const void *p, int64_t ld, size_t size)
{
    return ld % 4 == 0 && (uintptr_t)p % (4 * size) == 0;
}
static inline unsigned blocks_for(int64_t n, int64_t each)
{
    return (unsigned)((n + each - 1) / each);
}

/* ---- weights ---- */

struct t5_weight {
    int64_t rows, cols;
    const void *values;  /* act (rows, cols): what products read; NULL where q is kept */
    void *owned;         /* the same, where this owns it */
    const float *master; /* bound: the trainable floats */
    int8_t *q;     /* 8 bits in place of values, or NULL: int8, */
    uint8_t *e4m3; /* or e4m3 */
    float *scale;  /* (rows), with either */
    uint8_t *transposed; /* (cols, rows), of either, where products are in 8 bits; or NULL */
    int both;      /* products are in 8 bits on both sides (q8.h) */
    int steps;    /* T5_USE_STEP */
    int lasts;    /* q may be expanded for good: memory has not been found short */
    int few;      /* no gradient goes through it: few_rows.cu may multiply by it */
};
/* What a product of many rows reads: values, or q expanded: for good where it was not frozen to be
 * compact and memory allows, else into scratch. */
const void *t5_cuda_weight_values(t5_device *dev, const t5_weight *w);

/* At least that much of t5_device.expanded; for loading. */
int t5_cuda_need_expanded(t5_device *dev, size_t bytes, t5_err *err);
#define T5_FEW_ROWS 16
/* y (n, rows) = factor x (n, cols) w^T where that is bf16 and 1 to T5_FEW_ROWS rows (few_rows.cu);
 * y is act or float. false: not its shape, nothing was launched. */
bool t5_cuda_few_rows(t5_device *dev, void *y, int64_t ldy, int y_float, const act *x, int64_t ldx,
                      const t5_weight *w, int64_t n, float factor);

/* C (m, n) row-major [+]= scale x A (m, k) B(n, k)^T or A (m, k) B (k, n) or A(k, m)^T B(k, n);
 * types act or float */
enum t5_product { T5_NT, T5_NN, T5_TN };
void t5_cuda_matmul(t5_device *dev, t5_product kind, void *c, int64_t ldc, int c_float,
                    const void *a, int64_t lda, int a_float, const void *b, int64_t ldb, int64_t m,
                    int64_t n, int64_t k, float scale, int accumulate);
void t5_cuda_matmul_close(t5_device *dev);

/* ---- the operators, by file ---- */

#define OP extern "C" void
OP t5_cuda_embed_fwd(t5_device *, float *, const t5_weight *, const int32_t *, const t5_pack *,
                     const t5_dropout *);
OP t5_cuda_embed_bwd(t5_device *, float *, const float *, const int32_t *, int64_t, int64_t,
                     const t5_pack *, const t5_dropout *);
OP t5_cuda_norm_fwd(t5_device *, float *, act *, const float *, const act *, const float *, int64_t,
                    int64_t, float, const t5_pack *, const t5_dropout *, const t5_dropout *,
                    const t5_reader *);
OP t5_cuda_norm_bwd(t5_device *, float *, act *, float *, const act *, const float *, const float *,
                    int64_t, int64_t, float, const t5_pack *, const t5_dropout *,
                    const t5_dropout *, const t5_reader *);
OP t5_cuda_linear_fwd(t5_device *, act *, int64_t, const act *, int64_t, const t5_weight *,
                      int64_t);
OP t5_cuda_logits_fwd(t5_device *, float *, const act *, int64_t, const t5_weight *, int64_t,
                      float);
OP t5_cuda_linear_bwd_input(t5_device *, act *, int64_t, const act *, int64_t, const t5_weight *,
                            int64_t, int);
OP t5_cuda_linear_bwd_weight(t5_device *, float *, const act *, int64_t, const act *, int64_t,
                             int64_t, int64_t, int64_t);
OP t5_cuda_lora_fwd(t5_device *, act *, int64_t, act *, const act *, int64_t, int64_t,
                    const t5_lora *, int, int64_t, const t5_pack *);
OP t5_cuda_lora_bwd(t5_device *, act *, int64_t, act *, const act *, int64_t, const act *,
                    const act *, int64_t, int64_t, const t5_lora *, int, int64_t, const t5_pack *);
OP t5_cuda_attention_fwd(t5_device *, act *, float *, const act *, int64_t, const act *, int64_t,
                         const act *, int64_t, const t5_attention *);
OP t5_cuda_attention_bwd(t5_device *, act *, int64_t, act *, int64_t, act *, int64_t, float *,
                         const act *, const act *, const float *, const act *, int64_t, const act *,
                         int64_t, const act *, int64_t, const t5_attention *);
/* bf16 heads of 64, tensor cores (attention_mma.cu); false: not their shape, nothing was launched
 */
bool t5_cuda_attention_fwd_64(t5_device *, act *, float *, const act *, int64_t, const act *,
                              int64_t, const act *, int64_t, const t5_attention *);
bool t5_cuda_attention_bwd_64(t5_device *, act *, int64_t, act *, int64_t, act *, int64_t, float *,
                              const act *, const act *, const float *, const act *, int64_t,
                              const act *, int64_t, const act *, int64_t, const t5_attention *);
OP t5_cuda_glu_fwd(t5_device *, act *, const act *, int64_t, int64_t, t5_glu, int, const t5_pack *,
                   const t5_dropout *, const t5_reader *);
OP t5_cuda_glu_bwd(t5_device *, act *, const act *, const act *, int64_t, int64_t, t5_glu, int,
                   const t5_pack *, const t5_dropout *, const t5_reader *);
OP t5_cuda_cross_entropy(t5_device *, float *, act *, const float *, const int32_t *, int64_t,
                         int64_t, float, float);
OP t5_cuda_sum(t5_device *, double *, const float *, int64_t, int);
OP t5_cuda_spoil(t5_device *, double *, const double *, double);
OP t5_cuda_sum_squares(t5_device *, double *, const float *, int64_t);
OP t5_cuda_adamw(t5_device *, float *, const float *, float *, float *, int64_t, const t5_adamw *,
                 const double *);
OP t5_cuda_adafactor(t5_device *, float *, const float *, float *, float *, int64_t, int64_t,
                     const t5_adafactor *, const double *);
OP t5_cuda_adamw8(t5_device *, float *, const float *, uint8_t *, uint8_t *, float *, float *,
                  int64_t, const float *, const t5_adamw *, const double *);
OP t5_cuda_decode_self(t5_device *, act *, act *, act *, const act *, const t5_decode_rows *,
                       const t5_attention *);
OP t5_cuda_decode_cross(t5_device *, act *, const act *, const act *, const t5_decode_rows *,
                        const t5_attention *);
extern "C" int t5_cuda_norm_linear(t5_device *, void *, const float *, const float *, float,
                                   const t5_weight *, int64_t, t5_step_end, t5_glu, float,
                                   const t5_weight *);
extern "C" int t5_cuda_linear_add(t5_device *, float *, const act *, const t5_weight *, int64_t,
                                  const t5_weight *);
extern "C" {
int64_t t5_cuda_decode_stack_bytes(const t5_device *, int64_t, int64_t, int64_t, int64_t);
t5_stacked *t5_cuda_decode_stack_open(t5_device *, void *, const t5_decode_stack *);
void t5_cuda_decode_stack_close(t5_device *, t5_stacked *);
int t5_cuda_decode_stack(t5_device *, t5_stacked *, float *, float *, const t5_decode_rows *,
                         int64_t *);
}
OP t5_cuda_logits_edit(t5_device *, float *, int64_t, const int32_t *, const int32_t *, int64_t,
                       float);
OP t5_cuda_topk(t5_device *, float *, int32_t *, float *, const float *, int64_t, int64_t, int64_t);
extern "C" {
int t5_cuda_weight_freeze(t5_device *, t5_weight **, const t5_matrix *, int, unsigned, t5_err *);
int t5_cuda_weight_bind(t5_device *, t5_weight **, const float *, int64_t, int64_t, t5_err *);
void t5_cuda_weight_refresh(t5_device *, t5_weight *);
void t5_cuda_weight_free(t5_device *, t5_weight *);
int64_t t5_cuda_weight_bytes(const t5_device *, t5_dtype, int64_t, int64_t, unsigned);
int64_t t5_cuda_memory_free(t5_device *);
void t5_cuda_record_begin(t5_device *);
t5_recording *t5_cuda_record_end(t5_device *);
int t5_cuda_replay(t5_device *, t5_recording *);
void t5_cuda_recording_free(t5_device *, t5_recording *);
int t5_cuda_alloc(t5_device *, void **, size_t, const char *, t5_err *);
void t5_cuda_upload(t5_device *, void *, const void *, size_t);
}

#endif
