/* adamw8.cu - AdamW whose moments are kept in 8 bits with a scale for each 256 (arXiv:2110.02861):
 * decoded, updated, the parameter moved by the exact moments, encoded again by the new largest
 * magnitude. A block of threads a block of elements. Bound by memory: 16 bytes moved a parameter.
 */
/* SPDX-License-Identifier: MIT */
#include "device.h"

struct adamw8_step {
    float beta1, beta2, keep, rate, root, eps, clip;
};

/* The code of the nearest value: as t5_dynamic_code. */
__device__ inline int nearest(const float *map, float x)
{
    int low = 0;
    for (int step = T5_MAP / 2; step; step /= 2)
        if (map[low + step] <= x)
            low += step;
    if (low < T5_MAP - 1 && x > 0.5f * (map[low] + map[low + 1]))
        low++;
    return low;
}

/* A first moment must not change its sign. */
__device__ inline int nearest_signed(const float *map, float x)
{
    int code = nearest(map, x);
    if (x != 0 && signbit(map[code]) != signbit(x))
        code += x > 0 ? 1 : -1;
    return code;
}

__global__ void adamw8(float *p, const float *g, uint8_t *m, uint8_t *v, float *m_scale,
                       float *v_scale, int64_t n, const float *maps, adamw8_step s,
                       const double *sum_squares)
{
    __shared__ float map1[T5_MAP], map2[T5_MAP];
    double squares = *sum_squares;
    if (!isfinite(squares))
        return;
    map1[threadIdx.x] = maps[threadIdx.x];
    map2[threadIdx.x] = maps[T5_MAP + threadIdx.x];
    __syncthreads();
    int64_t i = (int64_t)blockIdx.x * T5_BLOCK8 + threadIdx.x;
    float first = 0, second = 0;
    if (i < n) {
        float clip = s.clip > 0 ? fminf(1, s.clip / ((float)sqrt(squares) + 1e-6f)) : 1;
        float gi = g[i] * clip;
        first = s.beta1 * (map1[m[i]] * m_scale[blockIdx.x]) + (1 - s.beta1) * gi;
        second = s.beta2 * (map2[v[i]] * v_scale[blockIdx.x]) + (1 - s.beta2) * gi * gi;
        p[i] = p[i] * s.keep - s.rate * first / (sqrtf(second) * s.root + s.eps);
    }
    float top1 = block_max(fabsf(first)), top2 = block_max(second); /* all have read the scales */
    if (i < n) {
        m[i] = (uint8_t)nearest_signed(map1, top1 > 0 ? first / top1 : 0);
        v[i] = (uint8_t)nearest(map2, top2 > 0 ? second / top2 : 0);
    }
    if (threadIdx.x == 0) {
        m_scale[blockIdx.x] = top1;
        v_scale[blockIdx.x] = top2;
    }
}

OP t5_cuda_adamw8(t5_device *dev, float *p, const float *g, uint8_t *m, uint8_t *v, float *m_scale,
                  float *v_scale, int64_t n, const float *maps, const t5_adamw *how,
                  const double *sum_squares)
{
    static_assert(T5_MAP == T5_BLOCK8, "a thread loads one value of each map");
    double b1 = how->beta1, b2 = how->beta2;
    adamw8_step s = {how->beta1,
                     how->beta2,
                     (float)(1 - (double)how->lr * how->weight_decay),
                     (float)(how->lr / (1 - pow(b1, (double)how->step))),
                     (float)(1 / sqrt(1 - pow(b2, (double)how->step))),
                     how->eps,
                     how->clip};
    launch_kernel(dev, adamw8, blocks_for(n, T5_BLOCK8), T5_BLOCK8, 0, p, g, m, v, m_scale, v_scale,
                  n, maps, s, sum_squares);
    T5_LAUNCHED(dev);
}
