/* optimizer.cu - sums over whole buffers in a fixed order, and AdamW (torch.optim.AdamW) with
 * clipping by the global norm (torch clip_grad_norm_) decided on the device. Bound by memory: 7
 * floats moved a parameter. */
/* SPDX-License-Identifier: MIT */
#include "device.h"

#define PARTS 1024 /* a fixed number of partial sums, whatever the card */
#define THREADS 256

template <bool SQUARE> __global__ void partial_sums(double *parts, const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n;
         i += (int64_t)PARTS * THREADS)
        sum += SQUARE ? (double)x[i] * x[i] : (double)x[i];
    sum = block_sum_double<THREADS>(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

__global__ void last_sum(double *out, const double *parts, int accumulate)
{
    double sum = 0;
    for (int i = threadIdx.x; i < PARTS; i += THREADS)
        sum += parts[i];
    sum = block_sum_double<THREADS>(sum);
    if (threadIdx.x == 0)
        *out = (accumulate ? *out : 0) + sum;
}

__global__ void spoil_one(double *value, const double *guard, double most)
{
    if (!isfinite(*guard) || *guard > most)
        *value = NAN;
}

OP t5_cuda_spoil(t5_device *dev, double *value, const double *guard, double most)
{
    launch_kernel(dev, spoil_one, 1, 1, 0, value, guard, most);
    T5_LAUNCHED(dev);
}

template <bool SQUARE>
static void sum(t5_device *dev, double *out, const float *x, int64_t n, int accumulate)
{
    double *parts = (double *)t5_cuda_scratch(dev, PARTS * sizeof *parts);
    if (!parts)
        return;
    launch_kernel(dev, partial_sums<SQUARE>, PARTS, THREADS, 0, parts, x, n);
    launch_kernel(dev, last_sum, 1, THREADS, 0, out, parts, accumulate);
    T5_LAUNCHED(dev);
}

OP t5_cuda_sum(t5_device *dev, double *out, const float *x, int64_t n, int accumulate)
{
    sum<false>(dev, out, x, n, accumulate);
}

OP t5_cuda_sum_squares(t5_device *dev, double *out, const float *x, int64_t n)
{
    sum<true>(dev, out, x, n, 0);
}

__global__ void adamw(float *p, const float *g, float *m, float *v, int64_t n, t5_adamw how,
                      float correct1, float root_correct2, const double *sum_squares)
{
    double squares = *sum_squares;
    if (!isfinite(squares))
        return;
    float clip = how.clip > 0 ? fminf(1, how.clip / ((float)sqrt(squares) + 1e-6f)) : 1;
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float gi = g[i] * clip;
    float mi = how.beta1 * m[i] + (1 - how.beta1) * gi;
    float vi = how.beta2 * v[i] + (1 - how.beta2) * gi * gi;
    m[i] = mi;
    v[i] = vi;
    p[i] = p[i] * (1 - how.lr * how.weight_decay) -
           how.lr / correct1 * mi / (sqrtf(vi) / root_correct2 + how.eps);
}

OP t5_cuda_adamw(t5_device *dev, float *p, const float *g, float *m, float *v, int64_t n,
                 const t5_adamw *how, const double *sum_squares)
{
    double correct1 = 1 - pow((double)how->beta1, (double)how->step);
    double correct2 = 1 - pow((double)how->beta2, (double)how->step);
    launch_kernel(dev, adamw, blocks_for(n, 256), 256, 0, p, g, m, v, n, *how, (float)correct1,
                  (float)sqrt(correct2), sum_squares);
    T5_LAUNCHED(dev);
}
