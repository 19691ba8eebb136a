/* norm.cu - residual + dropout + RMSNorm (+ dropout) in one pass over the row, and back.
 *   x_out = x_in + drop(delta);  y = drop(x_out rsqrt(mean(x_out^2) + eps) w)      arXiv:1910.07467
 * Bound by memory: forward reads x and delta and writes x and y once; a row waits in registers, all
 * of its loads in flight at once. For an 8-bit product the result is left in 8 bits, too or alone
 * (q8.h). */
/* SPDX-License-Identifier: MIT */
#include "dependent.h"
#include "q8.h"

/* Elements c .. c+7 of a row belong to one thread: VECTORS times. */
#define EACH(k) for (int k = 0; k < VECTORS; k++)
#define COLUMN(k) ((int)((k)*blockDim.x + threadIdx.x) * 8)

struct norm_shape {
    int d;
    float share, eps; /* 1 / d */
    pack_view pack;
    drop_view delta, y; /* where they are dropped */
};

template <int VECTORS>
__device__ inline void leave_row(const t5_q8_rows &to, int64_t i, const octet *row, float largest,
                                 int d)
{
    const q8_scaling scaling = q8_scale(block_largest(largest), to.int8);
#pragma unroll
    EACH(k)
        if (COLUMN(k) < d)
            *reinterpret_cast<uint2 *>(to.q + i * d + COLUMN(k)) =
                q8_octet(row[k], scaling.inverse, to.int8);
    if (threadIdx.x == 0)
        to.scale[i] = scaling.scale;
}

/* 256 threads at most hold a row of d <= 4096, two octets each: so many blocks of them share a
 * multiprocessor. */
#define NORM_BOUNDS(blocks) __launch_bounds__(256, VECTORS == 4 ? 1 : WHOLE ? blocks : 3)

/* WHOLE: d is a multiple of 8. y NULL: its 8 bits alone. */
template <typename T, int VECTORS, bool WHOLE, bool EIGHT>
__global__ void NORM_BOUNDS(4)
    norm_forward(float *x_out, T *y, t5_q8_rows y8, const float *x_in, const T *delta,
                 const float *w, const __grid_constant__ norm_shape s)
{
    const int64_t i = blockIdx.x;
    const int d = s.d;
    octet x[VECTORS];
    decltype(load_raw(delta, 0, 0, true)) raw[VECTORS] = {};
    float sum[1] = {0}, largest = 0;
    dependency_release();
    dependency_wait();
#pragma unroll
    EACH(k) {
        x[k] = load_octet(x_in + i * d, COLUMN(k), d, WHOLE);
        if (delta)
            raw[k] = load_raw(delta + i * d, COLUMN(k), d, WHOLE);
    }
    __syncwarp(); /* the row is asked for before anything is waited for */
    const drop_row dd = drop_at(s.delta, s.pack, i), dy = drop_at(s.y, s.pack, i);
#pragma unroll
    EACH(k) {
        if (delta) {
            octet add = unpack(raw[k]);
            drop(add, dd, COLUMN(k));
            for (int e = 0; e < 8; e++)
                x[k].v[e] += add.v[e];
        }
        if (delta || x_out != x_in)
            store_octet(x_out + i * d, COLUMN(k), d, WHOLE, x[k]);
        for (int e = 0; e < 8; e++)
            sum[0] += x[k].v[e] * x[k].v[e];
    }
    block_sums(sum);
    const float r = rsqrtf(sum[0] * s.share + s.eps);
#pragma unroll
    EACH(k) {
        const octet g = load_octet(w, COLUMN(k), d, WHOLE);
        for (int e = 0; e < 8; e++)
            x[k].v[e] *= r * g.v[e];
        drop(x[k], dy, COLUMN(k));
        if (!EIGHT || y)
            store_octet(y + i * d, COLUMN(k), d, WHOLE, x[k]);
        if (EIGHT) {
            x[k] = unpack(pack(x[k]));
            largest = largest_of(x[k], largest);
        }
    }
    if (EIGHT)
        leave_row<VECTORS>(y8, i, x, largest, d);
}

/* dx += r w g - x r^3 / d sum(g w x), g = drop'(dy); ddelta = drop'(dx). fold: of ddelta's 8 bits.
 * ddelta NULL: those alone, or nothing. */
template <typename T, int VECTORS, bool WHOLE, bool EIGHT>
__global__ void NORM_BOUNDS(3)
    norm_backward(float *dx, T *ddelta, t5_q8_rows ddelta8, const float *fold, float *inverse,
                  const T *dy, const float *x, const float *w, const __grid_constant__ norm_shape s)
{
    const int64_t i = blockIdx.x;
    const int d = s.d;
    octet xs[VECTORS], g[VECTORS], out[VECTORS];
    decltype(load_raw(dy, 0, 0, true)) raw[VECTORS];
    float sums[2] = {0, 0}, largest = 0; /* of x^2 and g w x */
    dependency_release();
    dependency_wait();
#pragma unroll
    EACH(k) {
        xs[k] = load_octet(x + i * d, COLUMN(k), d, WHOLE);
        raw[k] = load_raw(dy + i * d, COLUMN(k), d, WHOLE);
        out[k] = load_octet(dx + i * d, COLUMN(k), d, WHOLE);
    }
    __syncwarp();
    const drop_row dd = drop_at(s.delta, s.pack, i), on_y = drop_at(s.y, s.pack, i);
#pragma unroll
    EACH(k) {
        const octet wq = load_octet(w, COLUMN(k), d, WHOLE);
        g[k] = unpack(raw[k]);
        drop(g[k], on_y, COLUMN(k));
        for (int e = 0; e < 8; e++) {
            g[k].v[e] *= wq.v[e];
            sums[0] += xs[k].v[e] * xs[k].v[e];
            sums[1] += g[k].v[e] * xs[k].v[e];
        }
    }
    block_sums(sums);
    const float r = rsqrtf(sums[0] * s.share + s.eps);
    const float back = sums[1] * s.share * r * r * r;
#pragma unroll
    EACH(k) {
        for (int e = 0; e < 8; e++)
            out[k].v[e] += r * g[k].v[e] - xs[k].v[e] * back;
        store_octet(dx + i * d, COLUMN(k), d, WHOLE, out[k]);
        if (EIGHT || ddelta)
            drop(out[k], dd, COLUMN(k));
        if (ddelta)
            store_octet(ddelta + i * d, COLUMN(k), d, WHOLE, out[k]);
        if (EIGHT) {
            const octet f = load_octet(fold, COLUMN(k), d, WHOLE);
            out[k] = unpack(pack(out[k]));
            for (int e = 0; e < 8; e++)
                out[k].v[e] *= f.v[e];
            largest = largest_of(out[k], largest);
        }
    }
    if (EIGHT)
        leave_row<VECTORS>(ddelta8, i, out, largest, d);
    if (inverse && threadIdx.x == 0)
        inverse[i] = r;
}

/* Threads of a block and octets of each: a row of d in registers. */
struct norm_launch {
    int threads, vectors;
};
static norm_launch launch_for(t5_device *dev, int64_t d)
{
    int64_t octets = (d + 7) / 8;
    int threads = octets <= 128 ? 128 : 256;
    int64_t vectors = (octets + threads - 1) / threads;
    if (vectors > 4 && !dev->failure.text[0])
        t5_fail(&dev->failure, "cuda:%d: rows of %lld columns are too wide for a norm", dev->index,
                (long long)d);
    return {threads, (int)vectors};
}

/* CALL with T the activation type and VECTORS, WHOLE and EIGHT constants: 1, 2 or 4 octets, at
 * least `vectors`. Rows that are left in 8 bits are bf16 and whole. */
#define WITH_OCTETS(vectors, ...)                                                                  \
    do {                                                                                           \
        if ((vectors) <= 1) {                                                                      \
            const int VECTORS = 1;                                                                 \
            __VA_ARGS__;                                                                           \
        } else if ((vectors) == 2) {                                                               \
            const int VECTORS = 2;                                                                 \
            __VA_ARGS__;                                                                           \
        } else if ((vectors) <= 4) {                                                               \
            const int VECTORS = 4;                                                                 \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)
#define WITH_SHAPE(dev, vectors, d, eight, ...)                                                    \
    do {                                                                                           \
        if (eight) {                                                                               \
            typedef bf16 T;                                                                        \
            const bool WHOLE = true, EIGHT = true;                                                 \
            WITH_OCTETS(vectors, __VA_ARGS__);                                                     \
        } else if ((d) % 8 == 0) {                                                                 \
            const bool WHOLE = true, EIGHT = false;                                                \
            T5_WITH_ACT(dev, WITH_OCTETS(vectors, __VA_ARGS__));                                   \
        } else {                                                                                   \
            const bool WHOLE = false, EIGHT = false;                                               \
            T5_WITH_ACT(dev, WITH_OCTETS(vectors, __VA_ARGS__));                                   \
        }                                                                                          \
    } while (0)

OP t5_cuda_norm_fwd(t5_device *dev, float *x_out, act *y, const float *x_in, const act *delta,
                    const float *w, int64_t n, int64_t d, float eps, const t5_pack *pack,
                    const t5_dropout *drop_delta, const t5_dropout *drop_y, const t5_reader *reader)
{
    if (n == 0)
        return;
    const norm_shape s = {(int)d, 1 / (float)d, eps, view(pack), view(drop_delta), view(drop_y)};
    const norm_launch l = launch_for(dev, d);
    const t5_q8_rows y8 = t5_cuda_q8_offer(dev, reader, n, d);
    act *wide = y8.q && reader->alone ? nullptr : y;
    WITH_SHAPE(dev, l.vectors, d, y8.q,
               launch_dependent(dev, norm_forward<T, VECTORS, WHOLE, EIGHT>, (unsigned)n, l.threads,
                                0, x_out, (T *)wide, y8, x_in, (const T *)delta, w, s));
    T5_LAUNCHED(dev);
    if (y8.q)
        t5_cuda_q8_left(dev, reader, y, nullptr, n, d);
}

/* dw[c] += sum over rows of drop'(dy) x r, rows in order: a thread a column quad */
template <typename T>
__global__ void norm_weight_gradient(float *dw, const float *inverse, const T *dy, const float *x,
                                     int64_t n, int d, pack_view pack,
                                     const __grid_constant__ drop_view drop_y, bool whole)
{
    int c = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (c >= d)
        return;
    float sum[4] = {0, 0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        quad g = load_quad(dy + i * d, c, d, whole), xq = load_quad(x + i * d, c, d, whole);
        drop_quad(g, drop_at(drop_y, pack, i), c);
        for (int k = 0; k < 4; k++)
            sum[k] += g.v[k] * xq.v[k] * inverse[i];
    }
    for (int k = 0; k < 4 && c + k < d; k++)
        dw[c + k] += sum[k];
}

/* The 8 bits of a gradient take the scales of the weight that it is multiplied by. */
OP t5_cuda_norm_bwd(t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                    const float *x, const float *w, int64_t n, int64_t d, float eps,
                    const t5_pack *pack, const t5_dropout *drop_delta, const t5_dropout *drop_y,
                    const t5_reader *reader)
{
    if (n == 0)
        return;
    const norm_shape s = {(int)d, 1 / (float)d, eps, view(pack), view(drop_delta), view(drop_y)};
    const norm_launch l = launch_for(dev, d);
    float *inverse = dw ? t5_cuda_scratch(dev, (size_t)n * sizeof *inverse) : nullptr;
    if (dw && !inverse)
        return;
    const t5_q8_rows d8 = t5_cuda_q8_offer(dev, ddelta && !dw ? reader : nullptr, n, d);
    const float *fold = d8.q ? reader->w->scale : nullptr;
    act *wide = d8.q && reader->alone ? nullptr : ddelta;
    WITH_SHAPE(dev, l.vectors, d, d8.q,
               launch_dependent(dev, norm_backward<T, VECTORS, WHOLE, EIGHT>, (unsigned)n,
                                l.threads, 0, dx, (T *)wide, d8, fold, inverse, (const T *)dy, x, w,
                                s));
    if (dw)
        T5_WITH_ACT(dev, launch_kernel(dev, norm_weight_gradient<T>, blocks_for(d, 4 * 64), 64, 0,
                                       dw, inverse, (const T *)dy, x, n, (int)d, view(pack),
                                       view(drop_y), d % 4 == 0));
    T5_LAUNCHED(dev);
    if (d8.q)
        t5_cuda_q8_left(dev, reader, ddelta, fold, n, d);
}
