/* loss.cu - cross-entropy over the vocabulary, loss and gradient in one kernel, a block a row.
 * Bound by memory: the row is read twice (the second time from L2) and written once. */
/* SPDX-License-Identifier: MIT */
#include "device.h"

#define THREADS 512

/* Log-sum-exp of a row, in every thread. */
__device__ inline float log_sum_exp(const float *row, int v, bool whole)
{
    float top = -INFINITY, sum = 0;
    for (int c = threadIdx.x * 4; c < v; c += blockDim.x * 4) {
        quad q = load_quad(row, c, v, whole);
        for (int k = 0; k < 4; k++)
            if (c + k < v)
                top = fmaxf(top, q.v[k]);
    }
    top = block_max(top);
    for (int c = threadIdx.x * 4; c < v; c += blockDim.x * 4) {
        quad q = load_quad(row, c, v, whole);
        for (int k = 0; k < 4; k++)
            if (c + k < v)
                sum += expf(q.v[k] - top);
    }
    return top + logf(block_sum(sum));
}

/* In every thread. */
__device__ inline float row_sum(const float *row, int v, bool whole)
{
    float sum = 0;
    for (int c = threadIdx.x * 4; c < v; c += blockDim.x * 4) {
        quad q = load_quad(row, c, v, whole);
        sum += q.v[0] + q.v[1] + q.v[2] + q.v[3]; /* 0 beyond v */
    }
    return block_sum(sum);
}

template <typename T>
__global__ void cross_entropy(float *nll, T *dlogits, const float *logits, const int32_t *labels,
                              int v, float scale, float smoothing, bool whole)
{
    int64_t i = blockIdx.x;
    const float *row = logits + i * v;
    int label = labels[i];
    float lse = log_sum_exp(row, v, whole);
    float others = smoothing / v, wanted = (1 - smoothing) * row[label];
    if (smoothing != 0)
        wanted += others * row_sum(row, v, whole);
    if (threadIdx.x == 0)
        nll[i] = lse - wanted;
    if (!dlogits)
        return;
    __syncthreads(); /* dlogits may be the logits' own memory */
    for (int c = threadIdx.x * 4; c < v; c += THREADS * 4) {
        quad q = load_quad(row, c, v, whole);
        for (int k = 0; k < 4; k++)
            q.v[k] = scale * (expf(q.v[k] - lse) - others - (c + k == label ? 1 - smoothing : 0));
        store_quad(dlogits + i * v, c, v, whole, q);
    }
}

OP t5_cuda_cross_entropy(t5_device *dev, float *nll, act *dlogits, const float *logits,
                         const int32_t *labels, int64_t n, int64_t v, float scale,
                         float smoothing)
{
    if (n == 0)
        return;
    T5_WITH_ACT(dev,
                launch_kernel(dev, cross_entropy<T>, (unsigned)n, THREADS, 0, nll, (T *)dlogits,
                              logits, labels, (int)v, scale, smoothing, v % 4 == 0));
    T5_LAUNCHED(dev);
}
