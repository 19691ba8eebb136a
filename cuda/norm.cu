/* norm.cu - residual + dropout + RMSNorm (+ dropout) in one pass over the row, and back.
 *   x_out = x_in + drop(delta);  y = drop(x_out rsqrt(mean(x_out^2) + eps) w)      arXiv:1910.07467
 * Bound by memory: forward reads x and delta and writes x and y once; a row waits in shared memory.
 */
/* SPDX-License-Identifier: MIT */
#include "device.h"

#define THREADS 256

template <typename T>
__global__ void norm_forward(float *x_out, T *y, const float *x_in, const T *delta, const float *w,
                             int d, float eps, pack_view pack, t5_dropout drop_delta,
                             t5_dropout drop_y, bool whole)
{
    extern __shared__ float4 row4[];
    float *row = reinterpret_cast<float *>(row4);
    int64_t i = blockIdx.x;
    drop_row dd = drop_at(drop_delta, pack, i), dy = drop_at(drop_y, pack, i);
    float sum = 0;
    for (int c = threadIdx.x * 4; c < d; c += THREADS * 4) {
        quad x = load_quad(x_in + i * d, c, d, whole);
        if (delta) {
            quad add = load_quad(delta + i * d, c, d, whole);
            drop_quad(add, dd, c);
            for (int k = 0; k < 4; k++)
                x.v[k] += add.v[k];
            store_quad(x_out + i * d, c, d, whole, x);
        } else if (x_out != x_in) {
            store_quad(x_out + i * d, c, d, whole, x);
        }
        for (int k = 0; k < 4; k++)
            sum += x.v[k] * x.v[k];
        row4[c / 4] = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
    }
    float r = rsqrtf(block_sum(sum) / (float)d + eps);
    for (int c = threadIdx.x * 4; c < d; c += THREADS * 4) {
        quad out, g = load_quad(w, c, d, whole);
        for (int k = 0; k < 4; k++)
            out.v[k] = row[c + k] * r * g.v[k];
        drop_quad(out, dy, c);
        store_quad(y + i * d, c, d, whole, out);
    }
}

static size_t row_bytes(int64_t d)
{
    return (size_t)(d + 3) / 4 * 16;
}

OP t5_cuda_norm_fwd(t5_device *dev, float *x_out, act *y, const float *x_in, const act *delta,
                    const float *w, int64_t n, int64_t d, float eps, const t5_pack *pack,
                    const t5_dropout *drop_delta, const t5_dropout *drop_y)
{
    if (n == 0)
        return;
    bool whole = d % 4 == 0;
    T5_WITH_ACT(dev, norm_forward<T><<<(unsigned)n, THREADS, row_bytes(d), dev->stream>>>(
                         x_out, (T *)y, x_in, (const T *)delta, w, (int)d, eps, view(pack),
                         value(drop_delta), value(drop_y), whole));
    T5_LAUNCHED(dev);
}

/* dx += r w g - x r^3 / d sum(g w x), g = drop'(dy); ddelta = drop'(dx) */
template <typename T>
__global__ void norm_backward(float *dx, T *ddelta, float *inverse, const T *dy, const float *x,
                              const float *w, int d, float eps, pack_view pack,
                              t5_dropout drop_delta, t5_dropout drop_y, bool whole)
{
    extern __shared__ float4 rows4[];
    float4 *g4 = rows4 + (d + 3) / 4;
    int64_t i = blockIdx.x;
    drop_row dd = drop_at(drop_delta, pack, i), drop = drop_at(drop_y, pack, i);
    float squares = 0, sum = 0;
    for (int c = threadIdx.x * 4; c < d; c += THREADS * 4) {
        quad xq = load_quad(x + i * d, c, d, whole), g = load_quad(dy + i * d, c, d, whole);
        quad wq = load_quad(w, c, d, whole);
        drop_quad(g, drop, c);
        for (int k = 0; k < 4; k++) {
            g.v[k] *= wq.v[k];
            squares += xq.v[k] * xq.v[k];
            sum += g.v[k] * xq.v[k];
        }
        rows4[c / 4] = make_float4(xq.v[0], xq.v[1], xq.v[2], xq.v[3]);
        g4[c / 4] = make_float4(g.v[0], g.v[1], g.v[2], g.v[3]);
    }
    float r = rsqrtf(block_sum(squares) / (float)d + eps);
    float back = block_sum(sum) * r * r * r / (float)d;
    const float *xs = reinterpret_cast<float *>(rows4), *gs = reinterpret_cast<float *>(g4);
    for (int c = threadIdx.x * 4; c < d; c += THREADS * 4) {
        quad out = load_quad(dx + i * d, c, d, whole);
        for (int k = 0; k < 4; k++)
            out.v[k] += r * gs[c + k] - xs[c + k] * back;
        store_quad(dx + i * d, c, d, whole, out);
        if (ddelta) {
            drop_quad(out, dd, c);
            store_quad(ddelta + i * d, c, d, whole, out);
        }
    }
    if (inverse && threadIdx.x == 0)
        inverse[i] = r;
}

/* dw[c] += sum over rows of drop'(dy) x r, rows in order: a thread a column quad */
template <typename T>
__global__ void norm_weight_gradient(float *dw, const float *inverse, const T *dy, const float *x,
                                     int64_t n, int d, pack_view pack, t5_dropout drop_y,
                                     bool whole)
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

OP t5_cuda_norm_bwd(t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                    const float *x, const float *w, int64_t n, int64_t d, float eps,
                    const t5_pack *pack, const t5_dropout *drop_delta, const t5_dropout *drop_y)
{
    if (n == 0)
        return;
    bool whole = d % 4 == 0;
    float *inverse = dw ? t5_cuda_scratch(dev, (size_t)n * sizeof *inverse) : nullptr;
    if (dw && !inverse)
        return;
    T5_WITH_ACT(dev, norm_backward<T><<<(unsigned)n, THREADS, 2 * row_bytes(d), dev->stream>>>(
                         dx, (T *)ddelta, inverse, (const T *)dy, x, w, (int)d, eps, view(pack),
                         value(drop_delta), value(drop_y), whole));
    if (dw)
        T5_WITH_ACT(
            dev, norm_weight_gradient<T><<<blocks_for(d, 4 * 64), 64, 0, dev->stream>>>(
                     dw, inverse, (const T *)dy, x, n, (int)d, view(pack), value(drop_y), whole));
    T5_LAUNCHED(dev);
}
