/* matmul_int8.h - a product of int8 on both sides. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_MATMUL_INT8_H
#define T5_CUDA_MATMUL_INT8_H

#include "device.h"

/* C (m, n) [+]= scale x A (m, k) B (n, k)^T, A's and B's rows times their scales; C bf16 or float
 * at distance ldc. n and k are multiples of 16, a and b begin at multiples of 16. */
struct int8_operands {
    void *c;
    int64_t ldc;
    int c_float;
    const void *a, *b;
    const float *a_scale, *b_scale; /* (m), (n) */
    int64_t m, n, k;
    float scale;
    int accumulate;
};
/* Compute capability 9.0 only. */
cudaError_t t5_cuda_int8_start(const int8_operands *o, int processors, cudaStream_t stream);

#endif
