/* fp8.cu - rows of activations to e4m3 with one scale a row. Bound by memory: 2 bytes read, 1
 * written an element; a row waits in registers between its maximum and its rounding. */
/* SPDX-License-Identifier: MIT */
#include "fp8.h"

#define THREADS 256

/* The row lies in registers: VECTORS x 8 elements a thread. */
template <int VECTORS, bool FOLD>
__global__ void __launch_bounds__(THREADS)
    quantise_rows(fp8_q *q, float *scale, const bf16 *x, int64_t ldx, const float *fold, int cols)
{
    const int64_t i = blockIdx.x;
    const bf16 *row = x + i * ldx;
    uint4 raw[VECTORS];
    float largest = 0;
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        int c = (k * THREADS + (int)threadIdx.x) * 8;
        raw[k] = c < cols ? *reinterpret_cast<const uint4 *>(row + c) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        int c = (k * THREADS + (int)threadIdx.x) * 8;
        float v[8];
        unpack8(v, raw[k]);
        for (int e = 0; e < 8; e++)
            largest = fmaxf(largest, fabsf(FOLD && c < cols ? v[e] * fold[c + e] : v[e]));
    }
    const float s = fp8_scale(block_max(largest)), inverse = 1 / s;
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        int c = (k * THREADS + (int)threadIdx.x) * 8;
        float v[8];
        if (c >= cols)
            break;
        unpack8(v, raw[k]);
        for (int e = 0; e < 8; e++)
            v[e] = (FOLD ? v[e] * fold[c + e] : v[e]) * inverse;
        *reinterpret_cast<uint2 *>(q + i * cols + c) = make_uint2(fp8_quad(v), fp8_quad(v + 4));
    }
    if (threadIdx.x == 0)
        scale[i] = s;
}

/* Any row: it is read twice, the second time from the cache. */
template <bool FOLD>
__global__ void __launch_bounds__(THREADS)
    quantise_any(fp8_q *q, float *scale, const bf16 *x, int64_t ldx, const float *fold, int cols)
{
    const int64_t i = blockIdx.x;
    const bf16 *row = x + i * ldx;
    float largest = 0;
    for (int c = threadIdx.x; c < cols; c += THREADS)
        largest = fmaxf(largest, fabsf(to_float(row[c]) * (FOLD ? fold[c] : 1)));
    const float s = fp8_scale(block_max(largest)), inverse = 1 / s;
    for (int c = threadIdx.x * 2; c < cols; c += THREADS * 2) {
        float a = to_float(row[c]) * (FOLD ? fold[c] : 1);
        float b = to_float(row[c + 1]) * (FOLD ? fold[c + 1] : 1);
        *reinterpret_cast<uint16_t *>(q + i * cols + c) = fp8_pair(a * inverse, b * inverse);
    }
    if (threadIdx.x == 0)
        scale[i] = s;
}

template <bool FOLD>
static void quantise(t5_device *dev, fp8_q *q, float *scale, const bf16 *x, int64_t ldx,
                     const float *fold, int64_t n, int cols)
{
#define IN_REGISTERS(VECTORS)                                                                      \
    case VECTORS:                                                                                  \
        quantise_rows<VECTORS, FOLD>                                                               \
            <<<(unsigned)n, THREADS, 0, dev->stream>>>(q, scale, x, ldx, fold, cols);              \
        break
    bool whole = ldx % 8 == 0 && (uintptr_t)x % 16 == 0;
    switch (whole ? (cols + THREADS * 8 - 1) / (THREADS * 8) : 0) {
        IN_REGISTERS(1);
        IN_REGISTERS(2);
        IN_REGISTERS(3);
        IN_REGISTERS(4);
        IN_REGISTERS(5);
        IN_REGISTERS(6);
        IN_REGISTERS(8);
        IN_REGISTERS(10);
    default:
        quantise_any<FOLD>
            <<<(unsigned)n, THREADS, 0, dev->stream>>>(q, scale, x, ldx, fold, cols);
    }
    T5_LAUNCHED(dev);
}

/* At least that much for rows and scales; false after a failure. Grows as t5_cuda_scratch does. */
static bool grow(t5_device *dev, int64_t n, int64_t cols)
{
    size_t scales = ((size_t)n * 4 + 255) / 256 * 256, bytes = scales + (size_t)(n * cols);
    if (bytes > dev->rows8_bytes) {
        cudaStreamSynchronize(dev->stream);
        cudaFree(dev->rows8);
        dev->rows8 = nullptr;
        dev->rows8_bytes = 0;
        if (t5_cuda_failed(dev, cudaMalloc(&dev->rows8, bytes), "8-bit activations"))
            return false;
        dev->rows8_bytes = bytes;
    }
    return true;
}

t5_fp8_rows t5_cuda_fp8_rows(t5_device *dev, const bf16 *x, int64_t ldx, const float *fold,
                             int64_t n, int64_t cols)
{
    if (!grow(dev, n, cols))
        return {nullptr, nullptr};
    float *scale = (float *)dev->rows8;
    fp8_q *q = (fp8_q *)dev->rows8 + ((size_t)n * 4 + 255) / 256 * 256;
    if (fold)
        quantise<true>(dev, q, scale, x, ldx, fold, n, (int)cols);
    else
        quantise<false>(dev, q, scale, x, ldx, fold, n, (int)cols);
    return {q, scale};
}
