/* glu.cu - h = drop(f(g0) g1) and its gradient; f is ReLU, gelu_new (arXiv:1606.08415, tanh form)
 * or SiLU. Bound by memory: 3 elements moved a result forward, 5 back. With 8-bit products a block
 * takes a row and leaves its result in 8 bits, too or alone (q8.h). */
/* SPDX-License-Identifier: MIT */
#include "activation.h"
#include "dependent.h"
#include "q8.h"

struct glu_shape {
    int64_t n;
    int f;
    t5_glu kind;
    int gated;
    pack_view pack;
    drop_view drop;
    bool whole;
};

/* Columns c .. c+7 of h, from those of g and, where gated, g at f further on. */
template <typename T>
__device__ inline octet forward_octet(const octet &gate, const octet &up, t5_glu kind, bool gated)
{
    octet out;
#pragma unroll
    for (int e = 0; e < 8; e++)
        out.v[e] = activate<T>(gate.v[e], kind).value * (gated ? up.v[e] : 1);
    return out;
}

/* d becomes the gate's gradient; the other's is returned. */
template <typename T>
__device__ inline octet backward_octet(octet &d, const octet &gate, const octet &up, t5_glu kind,
                                       bool gated)
{
    octet dup;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        activated a = activate<T>(gate.v[e], kind);
        dup.v[e] = d.v[e] * a.value;
        d.v[e] = d.v[e] * (gated ? up.v[e] : 1) * a.slope;
    }
    return dup;
}

/* ---- any shape: a thread an octet ---- */

template <typename T>
__global__ void glu_forward(T *h, const T *g, const __grid_constant__ glu_shape s)
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
    octet out = forward_octet<T>(gate, up, s.kind, s.gated);
    drop(out, drop_at(s.drop, s.pack, i), c);
    store_octet(h + i * f, c, f, s.whole, out);
}

template <typename T>
__global__ void glu_backward(T *dg, const T *dh, const T *g, const __grid_constant__ glu_shape s)
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
    const octet dup = backward_octet<T>(d, gate, up, s.kind, s.gated);
    store_octet(dg + first, c, f, s.whole, d);
    if (s.gated)
        store_octet(dg + first + f, c, f, s.whole, dup);
}

/* ---- bf16 rows of whole octets: a block takes a row, or a piece of one ---- */

/* EIGHT: the row is left in 8 bits, and in bf16 where h or dg is not NULL; it is one block's. Two
 * octets for 640 threads are FLAN-T5-XXL's 10240 columns. */
#define VECTORS 2 /* octets a thread */
#define EACH(k) for (int k = 0; k < VECTORS; k++)
#define MOST_THREADS(eight) ((eight) ? 640 : 320)
#define ROW_BOUNDS __launch_bounds__(MOST_THREADS(EIGHT), EIGHT ? 2 : 4)

/* A thread's octet k begins there. Threads behind the row do its last octet once more. */
__device__ inline uint32_t column(int k, const glu_shape &s)
{
    const uint32_t octet = (blockIdx.y * VECTORS + (uint32_t)k) * blockDim.x + threadIdx.x;
    return min(octet * 8, (uint32_t)s.f - 8);
}
__device__ inline uint4 load_raw(const bf16 *row, uint32_t c)
{
    return *reinterpret_cast<const uint4 *>(reinterpret_cast<const char *>(row) + 2 * c);
}
__device__ inline void store_raw(bf16 *row, uint32_t c, const uint4 &raw)
{
    *reinterpret_cast<uint4 *>(reinterpret_cast<char *>(row) + 2 * c) = raw;
}

template <t5_glu KIND, bool GATED, bool EIGHT>
__global__ void ROW_BOUNDS glu_forward_row(bf16 *h, t5_q8_rows h8, const bf16 *g,
                                           const __grid_constant__ glu_shape s)
{
    const int64_t i = blockIdx.x;
    const int f = s.f;
    uint4 gate[VECTORS], up[VECTORS] = {};
    dependency_release();
    dependency_wait();
    const bf16 *row = g + i * f * (GATED ? 2 : 1);
#pragma unroll
    EACH(k) {
        gate[k] = load_raw(row, column(k, s));
        if (GATED)
            up[k] = load_raw(row + f, column(k, s));
    }
    __syncwarp(); /* nothing is used before all are asked for */
    const drop_row dropped = drop_at(s.drop, s.pack, i);
    __nv_bfloat162 largest = {0, 0};
#pragma unroll
    EACH(k) {
        octet out = forward_octet<bf16>(unpack(gate[k]), unpack(up[k]), KIND, GATED);
        drop(out, dropped, column(k, s));
        gate[k] = pack(out);
        if (!EIGHT || h)
            store_raw(h + i * f, column(k, s), gate[k]);
        if (EIGHT)
            largest = largest_pair(gate[k], largest);
    }
    if (!EIGHT)
        return;
    const q8_scaling scaling = q8_scale(block_largest(largest_of(largest)), h8.int8);
#pragma unroll
    EACH(k)
        *reinterpret_cast<uint2 *>(h8.q + i * f + column(k, s)) =
            q8_octet(unpack(gate[k]), scaling.inverse, h8.int8);
    if (threadIdx.x == 0)
        h8.scale[i] = scaling.scale;
}

__device__ inline octet folded(const uint4 &raw, const float *fold, uint32_t c)
{
    octet x = unpack(raw);
    const octet f = load_octet(fold + c, 0, 8, true);
#pragma unroll
    for (int e = 0; e < 8; e++)
        x.v[e] *= f.v[e];
    return x;
}

/* fold (2F): the scales of the weight that dg will be multiplied with */
template <t5_glu KIND, bool GATED, bool EIGHT>
__global__ void ROW_BOUNDS glu_backward_row(bf16 *dg, t5_q8_rows dg8, const float *fold,
                                            const bf16 *dh, const bf16 *g,
                                            const __grid_constant__ glu_shape s)
{
    const int64_t i = blockIdx.x, first = i * s.f * (GATED ? 2 : 1);
    const int f = s.f;
    uint4 d[VECTORS], gate[VECTORS], up[VECTORS] = {};
    dependency_release();
    dependency_wait();
#pragma unroll
    EACH(k) {
        gate[k] = load_raw(g + first, column(k, s));
        if (GATED)
            up[k] = load_raw(g + first + f, column(k, s));
        d[k] = load_raw(dh + i * f, column(k, s));
    }
    __syncwarp();
    const drop_row dropped = drop_at(s.drop, s.pack, i);
    float largest = 0;
#pragma unroll
    EACH(k) {
        octet x = unpack(d[k]);
        drop(x, dropped, column(k, s));
        up[k] = pack(backward_octet<bf16>(x, unpack(gate[k]), unpack(up[k]), KIND, GATED));
        gate[k] = pack(x);
        if (!EIGHT || dg) {
            store_raw(dg + first, column(k, s), gate[k]);
            if (GATED)
                store_raw(dg + first + f, column(k, s), up[k]);
        }
        if (EIGHT) {
            largest = largest_of(folded(gate[k], fold, column(k, s)), largest);
            largest = largest_of(folded(up[k], fold + f, column(k, s)), largest);
        }
    }
    if (!EIGHT)
        return;
    const q8_scaling scaling = q8_scale(block_largest(largest), dg8.int8);
#pragma unroll
    EACH(k) {
        const uint32_t c = column(k, s);
        q8 *to = dg8.q + first + c;
        *reinterpret_cast<uint2 *>(to) =
            q8_octet(folded(gate[k], fold, c), scaling.inverse, dg8.int8);
        *reinterpret_cast<uint2 *>(to + f) =
            q8_octet(folded(up[k], fold + f, c), scaling.inverse, dg8.int8);
    }
    if (threadIdx.x == 0)
        dg8.scale[i] = scaling.scale;
}

/* ---- launchers ---- */

typedef void forward_row(bf16 *, t5_q8_rows, const bf16 *, glu_shape);
typedef void backward_row(bf16 *, t5_q8_rows, const float *, const bf16 *, const bf16 *,
                          glu_shape);

template <t5_glu KIND> static forward_row *forward_of(bool gated, bool eight)
{
    if (eight)
        return glu_forward_row<KIND, true, true>;
    return gated ? glu_forward_row<KIND, true, false> : glu_forward_row<KIND, false, false>;
}
template <t5_glu KIND> static backward_row *backward_of(bool gated, bool eight)
{
    if (eight)
        return glu_backward_row<KIND, true, true>;
    return gated ? glu_backward_row<KIND, true, false> : glu_backward_row<KIND, false, false>;
}
#define OF_KIND(s, of, eight)                                                                      \
    ((s).kind == T5_GLU_GELU_NEW ? of<T5_GLU_GELU_NEW>((s).gated, eight)                           \
     : (s).kind == T5_GLU_SILU   ? of<T5_GLU_SILU>((s).gated, eight)                               \
                                 : of<T5_GLU_RELU>((s).gated, eight))

/* Who reads 8 bits, where a row is one block's work; narrower ones leave it too little to do. */
static const t5_reader *reader_of(const t5_reader *reader, const glu_shape &s)
{
    bool fits = s.gated && s.whole && s.f >= 1024 && s.f <= VECTORS * 8 * MOST_THREADS(true);
    return fits ? reader : nullptr;
}

/* The fewest blocks a row that their threads allow, and the fewest warps that hold it. */
struct row_launch {
    dim3 grid, block;
};
static row_launch launch_for(const glu_shape &s, bool eight)
{
    unsigned octets = (unsigned)s.f / 8;
    unsigned pieces = blocks_for(octets, VECTORS * MOST_THREADS(eight));
    return {dim3((unsigned)s.n, pieces), dim3(blocks_for(octets, VECTORS * 32 * pieces) * 32)};
}

OP t5_cuda_glu_fwd(t5_device *dev, act *h, const act *g, int64_t n, int64_t f, t5_glu kind,
                   int gated, const t5_pack *pack, const t5_dropout *drop, const t5_reader *reader)
{
    if (n == 0)
        return;
    const glu_shape s = {n, (int)f, kind, gated, view(pack), view(drop), f % 8 == 0};
    const t5_q8_rows h8 = t5_cuda_q8_offer(dev, reader_of(reader, s), n, f);
    if (dev->bf16 && s.whole) {
        const row_launch l = launch_for(s, h8.q);
        launch_dependent(dev, OF_KIND(s, forward_of, h8.q), l.grid, l.block, 0,
                         h8.q && reader->alone ? nullptr : (bf16 *)h, h8, (const bf16 *)g, s);
    } else {
        T5_WITH_ACT(dev, launch_dependent(dev, glu_forward<T>, blocks_for(n * ((f + 7) / 8), 256),
                                          256, 0, (T *)h, (const T *)g, s));
    }
    T5_LAUNCHED(dev);
    if (h8.q)
        t5_cuda_q8_left(dev, reader, h, nullptr, n, f);
}

OP t5_cuda_glu_bwd(t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                   t5_glu kind, int gated, const t5_pack *pack, const t5_dropout *drop,
                   const t5_reader *reader)
{
    if (n == 0)
        return;
    const glu_shape s = {n, (int)f, kind, gated, view(pack), view(drop), f % 8 == 0};
    const t5_q8_rows dg8 = t5_cuda_q8_offer(dev, reader_of(reader, s), n, 2 * f);
    const float *fold = dg8.q ? reader->w->scale : nullptr;
    if (dev->bf16 && s.whole) {
        const row_launch l = launch_for(s, dg8.q);
        launch_dependent(dev, OF_KIND(s, backward_of, dg8.q), l.grid, l.block, 0,
                         dg8.q && reader->alone ? nullptr : (bf16 *)dg, dg8, fold, (const bf16 *)dh,
                         (const bf16 *)g, s);
    } else {
        T5_WITH_ACT(dev, launch_kernel(dev, glu_backward<T>, blocks_for(n * ((f + 7) / 8), 256),
                                       256, 0, (T *)dg, (const T *)dh, (const T *)g, s));
    }
    T5_LAUNCHED(dev);
    if (dg8.q)
        t5_cuda_q8_left(dev, reader, dg, fold, n, 2 * f);
}
