/* glu.cu - h = drop(f(g0) g1) and its gradient; f is ReLU, gelu_new (arXiv:1606.08415, tanh form)
 * or SiLU. Bound by memory: 3 elements moved a result forward, 5 back. With 8-bit products a block
 * takes a row and leaves its result in 8 bits, too or alone (fp8.h). */
/* SPDX-License-Identifier: MIT */
#include "activation.h"
#include "dependent.h"
#include "fp8.h"

struct glu_shape {
    int64_t n;
    int f;
    t5_glu kind;
    int gated;
    pack_view pack;
    t5_dropout drop;
    bool whole;
};

/* Columns c .. c+7 of h, from those of g and, where gated, g at f further on. */
template <typename T>
__device__ inline octet forward_octet(const octet &gate, const octet &up, const glu_shape &s)
{
    octet out;
#pragma unroll
    for (int e = 0; e < 8; e++)
        out.v[e] = activate<T>(gate.v[e], s.kind).value * (s.gated ? up.v[e] : 1);
    return out;
}

/* d becomes the gate's gradient; the other's is returned. */
template <typename T>
__device__ inline octet backward_octet(octet &d, const octet &gate, const octet &up,
                                       const glu_shape &s)
{
    octet dup;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        activated a = activate<T>(gate.v[e], s.kind);
        dup.v[e] = d.v[e] * a.value;
        d.v[e] = d.v[e] * (s.gated ? up.v[e] : 1) * a.slope;
    }
    return dup;
}

template <typename T> __global__ void glu_forward(T *h, const T *g, glu_shape s)
{
    const int octets = (s.f + 7) / 8, f = s.f;
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / octets;
    const int c = (int)(at - i * octets) * 8;
    dependency_release();
    dependency_wait();
    if (i >= s.n)
        return;
    const T *row = g + i * f * (s.gated ? 2 : 1);
    octet gate = load_octet(row, c, f, s.whole), up = gate;
    if (s.gated)
        up = load_octet(row + f, c, f, s.whole);
    octet out = forward_octet<T>(gate, up, s);
    drop(out, drop_at(s.drop, s.pack, i), c);
    store_octet(h + i * f, c, f, s.whole, out);
}

template <typename T> __global__ void glu_backward(T *dg, const T *dh, const T *g, glu_shape s)
{
    const int octets = (s.f + 7) / 8, f = s.f;
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / octets;
    const int c = (int)(at - i * octets) * 8;
    if (i >= s.n)
        return;
    const int64_t first = i * f * (s.gated ? 2 : 1);
    octet d = load_octet(dh + i * f, c, f, s.whole), gate = load_octet(g + first, c, f, s.whole);
    octet up = gate;
    if (s.gated)
        up = load_octet(g + first + f, c, f, s.whole);
    drop(d, drop_at(s.drop, s.pack, i), c);
    const octet dup = backward_octet<T>(d, gate, up, s);
    store_octet(dg + first, c, f, s.whole, d);
    if (s.gated)
        store_octet(dg + first + f, c, f, s.whole, dup);
}

/* ---- a row a block, left in 8 bits; h or dg NULL: those alone; gated, whole ---- */

#define ROW_THREADS 640 /* twice 8 columns each are FLAN-T5-XXL's 10240 */
#define EACH(k) for (int k = 0; k < VECTORS; k++)
#define COLUMN(k) ((int)((k)*blockDim.x + threadIdx.x) * 8)

/* Raw loads first, all in flight; arithmetic behind. */
template <int VECTORS> __device__ inline void load_row(uint4 *raw, const bf16 *row, int f)
{
#pragma unroll
    EACH(k) raw[k] = COLUMN(k) < f ? *reinterpret_cast<const uint4 *>(row + COLUMN(k))
                                   : make_uint4(0, 0, 0, 0);
}

template <int VECTORS>
__global__ void __launch_bounds__(ROW_THREADS, 2)
    glu_forward_row(bf16 *h, t5_fp8_rows h8, const bf16 *g, glu_shape s)
{
    const int64_t i = blockIdx.x;
    const int f = s.f;
    uint4 gate[VECTORS], up[VECTORS];
    dependency_release();
    dependency_wait();
    load_row<VECTORS>(gate, g + i * 2 * f, f);
    load_row<VECTORS>(up, g + i * 2 * f + f, f);
    const drop_row dropped = drop_at(s.drop, s.pack, i);
    float largest = 0;
#pragma unroll
    EACH(k)
    {
        octet out = forward_octet<bf16>(unpack(gate[k]), unpack(up[k]), s);
        drop(out, dropped, COLUMN(k));
        gate[k] = pack(out);
        if (h && COLUMN(k) < f)
            *reinterpret_cast<uint4 *>(h + i * f + COLUMN(k)) = gate[k];
        largest = largest_of(unpack(gate[k]), largest);
    }
    const float scale = fp8_scale(block_max(largest)), inverse = 1 / scale;
#pragma unroll
    EACH(k) if (COLUMN(k) < f)
        *reinterpret_cast<uint2 *>(h8.q + i * f + COLUMN(k)) = fp8_octet(unpack(gate[k]), inverse);
    if (threadIdx.x == 0)
        h8.scale[i] = scale;
}

__device__ inline octet folded(const uint4 &raw, const float *fold, int c, int width)
{
    octet x = unpack(raw);
    const octet f = load_octet(fold, c, width, true);
#pragma unroll
    for (int e = 0; e < 8; e++)
        x.v[e] *= f.v[e];
    return x;
}

/* fold (2F): the scales of the weight that dg will be multiplied with */
template <int VECTORS>
__global__ void __launch_bounds__(ROW_THREADS, 2)
    glu_backward_row(bf16 *dg, t5_fp8_rows dg8, const float *fold, const bf16 *dh, const bf16 *g,
                     glu_shape s)
{
    const int64_t i = blockIdx.x, first = i * 2 * s.f;
    const int f = s.f;
    uint4 d[VECTORS], gate[VECTORS], up[VECTORS];
    load_row<VECTORS>(gate, g + first, f);
    load_row<VECTORS>(up, g + first + f, f);
    load_row<VECTORS>(d, dh + i * f, f);
    const drop_row dropped = drop_at(s.drop, s.pack, i);
    float largest = 0;
#pragma unroll
    EACH(k)
    {
        octet x = unpack(d[k]);
        drop(x, dropped, COLUMN(k));
        up[k] = pack(backward_octet<bf16>(x, unpack(gate[k]), unpack(up[k]), s));
        gate[k] = pack(x);
        if (dg && COLUMN(k) < f) {
            *reinterpret_cast<uint4 *>(dg + first + COLUMN(k)) = gate[k];
            *reinterpret_cast<uint4 *>(dg + first + f + COLUMN(k)) = up[k];
        }
        largest = largest_of(folded(gate[k], fold, COLUMN(k), f), largest);
        largest = largest_of(folded(up[k], fold + f, COLUMN(k), f), largest);
    }
    const float scale = fp8_scale(block_max(largest)), inverse = 1 / scale;
#pragma unroll
    EACH(k) if (COLUMN(k) < f)
    {
        fp8_q *to = dg8.q + first + COLUMN(k);
        *reinterpret_cast<uint2 *>(to) = fp8_octet(folded(gate[k], fold, COLUMN(k), f), inverse);
        *reinterpret_cast<uint2 *>(to + f) =
            fp8_octet(folded(up[k], fold + f, COLUMN(k), f), inverse);
    }
    if (threadIdx.x == 0)
        dg8.scale[i] = scale;
}

/* Whether a row is one block's work; narrower ones leave a block too little to do. */
static bool row_fits(const glu_shape *s)
{
    return s->gated && s->whole && s->f >= 1024 && s->f <= 2 * 8 * ROW_THREADS;
}

/* LAUNCH with VECTORS and the threads of a block: the fewest warps that hold a row. */
#define WITH_ROW(f, ...)                                                                           \
    do {                                                                                           \
        if ((f) <= 4 * ROW_THREADS) {                                                              \
            const int VECTORS = 1, threads = (int)((f) / 8 + 31) / 32 * 32;                        \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            const int VECTORS = 2, threads = (int)((f) / 16 + 31) / 32 * 32;                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

/* ---- launchers ---- */

OP t5_cuda_glu_fwd(t5_device *dev, act *h, const act *g, int64_t n, int64_t f, t5_glu kind,
                   int gated, const t5_pack *pack, const t5_dropout *drop, const t5_reader *reader)
{
    if (n == 0)
        return;
    const glu_shape s = {n, (int)f, kind, gated, view(pack), value(drop), f % 8 == 0};
    const t5_fp8_rows h8 = t5_cuda_fp8_offer(dev, row_fits(&s) ? reader : nullptr, n, f);
    if (h8.q) {
        bf16 *wide = reader->alone ? nullptr : (bf16 *)h;
        WITH_ROW(f, launch_dependent(dev, glu_forward_row<VECTORS>, dim3((unsigned)n), threads, 0,
                                     wide, h8, (const bf16 *)g, s));
        T5_LAUNCHED(dev);
        t5_cuda_fp8_left(dev, h, nullptr, n, f, reader->alone);
        return;
    }
    T5_WITH_ACT(dev, launch_dependent(dev, glu_forward<T>, dim3(blocks_for(n * ((f + 7) / 8), 256)),
                                      256, 0, (T *)h, (const T *)g, s));
    T5_LAUNCHED(dev);
}

OP t5_cuda_glu_bwd(t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                   t5_glu kind, int gated, const t5_pack *pack, const t5_dropout *drop,
                   const t5_reader *reader)
{
    if (n == 0)
        return;
    const glu_shape s = {n, (int)f, kind, gated, view(pack), value(drop), f % 8 == 0};
    const t5_fp8_rows dg8 = t5_cuda_fp8_offer(dev, row_fits(&s) ? reader : nullptr, n, 2 * f);
    if (dg8.q) {
        const float *fold = reader->w->row_scale;
        bf16 *wide = reader->alone ? nullptr : (bf16 *)dg;
        WITH_ROW(f, launch_kernel(dev, glu_backward_row<VECTORS>, (unsigned)n, threads, 0, wide,
                                  dg8, fold, (const bf16 *)dh, (const bf16 *)g, s));
        T5_LAUNCHED(dev);
        t5_cuda_fp8_left(dev, dg, fold, n, 2 * f, reader->alone);
        return;
    }
    T5_WITH_ACT(dev, launch_kernel(dev, glu_backward<T>, blocks_for(n * ((f + 7) / 8), 256), 256, 0,
                                   (T *)dg, (const T *)dh, (const T *)g, s));
    T5_LAUNCHED(dev);
}
