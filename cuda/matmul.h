/* matmul.h - a matrix product as cuBLASLt sees it, for the files that run and choose them. Others
 * call t5_cuda_matmul. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_MATMUL_H
#define T5_CUDA_MATMUL_H

#include <cstring>

#include "q8.h"

#define TOKEN_STEP 128 /* token counts are rounded up to this before an algorithm is chosen */

/* Everything that an algorithm is chosen by. */
struct shape_key {
    int kind, in, c_float, align_a, align_b, align_c, accumulate; /* in: cudaDataType_t */
    int64_t m, n, k, lda, ldb, ldc;
    bool operator==(const shape_key &o) const { return memcmp(this, &o, sizeof o) == 0; }
};

/* What a product takes beside its shape. */
struct operands {
    void *c;
    const void *a, *b;
    const float *a_scale, *b_scale; /* 8 bits only: (m), (n) */
    float scale;
};

/* Column-major, so D^T = B^T A^T. */
struct call {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
};

/* tokens: the real count, where the key's is rounded. Closed in any case. */
bool t5_cuda_call_open(call *x, const shape_key *key, int64_t tokens, const operands *o);
void t5_cuda_call_close(call *x);
cublasStatus_t t5_cuda_call_run(t5_device *dev, const call *x, const operands *o, int accumulate,
                                const cublasLtMatmulAlgo_t *algorithm);
static inline int64_t key_tokens(const shape_key *key)
{
    return key->kind == T5_TN ? key->k : key->m;
}

/* The algorithm for a shape that is met for the first time; false: there is none. `tokens` of its
 * operands are really there. May wait for the device. */
bool t5_cuda_choose(t5_device *dev, cublasLtMatmulAlgo_t *out, const shape_key *key,
                    const operands *o, int64_t tokens);

#endif
