/* glu.cu - h = drop(f(g0) g1) and its gradient; f is ReLU, gelu_new (arXiv:1606.08415, tanh form)
 * or SiLU. Bound by memory: 3 elements moved a result forward, 5 back. */
/* SPDX-License-Identifier: MIT */
#include "device.h"

struct activated {
    float value, slope;
};

__device__ inline activated activate(float x, t5_glu kind)
{
    if (kind == T5_GLU_RELU)
        return {fmaxf(x, 0), x > 0 ? 1.0f : 0.0f};
    if (kind == T5_GLU_SILU) {
        float s = 1 / (1 + expf(-x));
        return {x * s, s * (1 + x * (1 - s))};
    }
    const float a = 0.79788456080286535588f, b = 0.044715f;
    float t = tanhf(a * (x + b * x * x * x));
    return {0.5f * x * (1 + t), 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * a * (1 + 3 * b * x * x)};
}

template <typename T>
__global__ void glu_forward(T *h, const T *g, int64_t n, int f, t5_glu kind, int gated,
                            pack_view pack, t5_dropout drop, bool whole)
{
    int quads = (f + 3) / 4;
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / quads;
    int c = (int)(at % quads) * 4;
    if (i >= n)
        return;
    const T *row = g + i * f * (gated ? 2 : 1);
    quad gate = load_quad(row, c, f, whole), out;
    quad up = gated ? load_quad(row + f, c, f, whole) : quad{{1, 1, 1, 1}};
    for (int k = 0; k < 4; k++)
        out.v[k] = activate(gate.v[k], kind).value * up.v[k];
    drop_quad(out, drop_at(drop, pack, i), c);
    store_quad(h + i * f, c, f, whole, out);
}

template <typename T>
__global__ void glu_backward(T *dg, const T *dh, const T *g, int64_t n, int f, t5_glu kind,
                             int gated, pack_view pack, t5_dropout drop, bool whole)
{
    int quads = (f + 3) / 4;
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / quads;
    int c = (int)(at % quads) * 4;
    if (i >= n)
        return;
    int64_t first = i * f * (gated ? 2 : 1);
    quad d = load_quad(dh + i * f, c, f, whole), gate = load_quad(g + first, c, f, whole), dup;
    quad up = gated ? load_quad(g + first + f, c, f, whole) : quad{{1, 1, 1, 1}};
    drop_quad(d, drop_at(drop, pack, i), c);
    for (int k = 0; k < 4; k++) {
        activated a = activate(gate.v[k], kind);
        dup.v[k] = d.v[k] * a.value;
        d.v[k] = d.v[k] * up.v[k] * a.slope;
    }
    store_quad(dg + first, c, f, whole, d);
    if (gated)
        store_quad(dg + first + f, c, f, whole, dup);
}

OP t5_cuda_glu_fwd(t5_device *dev, act *h, const act *g, int64_t n, int64_t f, t5_glu kind,
                   int gated, const t5_pack *pack, const t5_dropout *drop)
{
    if (n == 0)
        return;
    T5_WITH_ACT(dev, glu_forward<T><<<blocks_for(n * ((f + 3) / 4), 256), 256, 0, dev->stream>>>(
                         (T *)h, (const T *)g, n, (int)f, kind, gated, view(pack), value(drop),
                         f % 4 == 0));
    T5_LAUNCHED(dev);
}

OP t5_cuda_glu_bwd(t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                   t5_glu kind, int gated, const t5_pack *pack, const t5_dropout *drop)
{
    if (n == 0)
        return;
    T5_WITH_ACT(dev, glu_backward<T><<<blocks_for(n * ((f + 3) / 4), 256), 256, 0, dev->stream>>>(
                         (T *)dg, (const T *)dh, (const T *)g, n, (int)f, kind, gated, view(pack),
                         value(drop), f % 4 == 0));
    T5_LAUNCHED(dev);
}
