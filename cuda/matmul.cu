/* matmul.cu - matrix products through cuBLASLt, and the operators that are one product. An
 * algorithm is asked for once a shape, with the token count rounded up so that packed batches of
 * any size share few of them. */
/* SPDX-License-Identifier: MIT */
#include <cstring>
#include <unordered_map>

#include "device.h"

#define TOKEN_STEP 128 /* token counts are rounded up to this before an algorithm is chosen */

struct shape_key {
    int kind, c_float, a_float, align_a, align_b, align_c, accumulate;
    int64_t m, n, k, lda, ldb, ldc;
    bool operator==(const shape_key &o) const { return memcmp(this, &o, sizeof o) == 0; }
};

struct shape_hash {
    size_t operator()(const shape_key &key) const
    {
        const uint64_t *word = reinterpret_cast<const uint64_t *>(&key);
        uint64_t h = 14695981039346656037u;
        for (size_t i = 0; i < sizeof key / sizeof *word; i++)
            h = (h ^ word[i]) * 1099511628211u;
        return (size_t)h;
    }
};

struct t5_matmul_cache {
    std::unordered_map<shape_key, cublasLtMatmulAlgo_t, shape_hash> algorithms;
};

void t5_cuda_matmul_close(t5_device *dev)
{
    delete dev->matmuls;
    dev->matmuls = nullptr;
}

static bool blas_failed(t5_device *dev, cublasStatus_t rc, const char *what)
{
    if (rc == CUBLAS_STATUS_SUCCESS)
        return false;
    if (!dev->failure.text[0])
        t5_fail_as(&dev->failure, T5_ENVIRONMENT, "cuda:%d: %s: %s", dev->index, what,
                   cublasLtGetStatusString(rc));
    return true;
}

static int alignment(const void *p)
{
    int align = 256;
    while (align > 1 && (uintptr_t)p % (unsigned)align)
        align /= 2;
    return align;
}

/* A product as cuBLASLt sees it: column-major, so D^T = B^T A^T. */
struct call {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
};

static bool call_open(call *x, const shape_key *key, int64_t m)
{
    cudaDataType_t in = key->a_float ? CUDA_R_32F : CUDA_R_16BF;
    cudaDataType_t out = key->c_float ? CUDA_R_32F : CUDA_R_16BF;
    cublasOperation_t ta = key->kind == T5_NT ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t tb = key->kind == T5_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
    int64_t n = key->n, k = key->k;
    int64_t tokens_k = key->kind == T5_TN ? m : k, rows_m = key->kind == T5_TN ? key->m : m;
    bool ok = cublasLtMatmulDescCreate(&x->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == 0;
    ok = ok &&
         cublasLtMatmulDescSetAttribute(x->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta) == 0;
    ok = ok &&
         cublasLtMatmulDescSetAttribute(x->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb) == 0;
    ok = ok && (key->kind == T5_NT
                    ? cublasLtMatrixLayoutCreate(&x->a, in, (uint64_t)k, (uint64_t)n, key->ldb)
                    : cublasLtMatrixLayoutCreate(&x->a, in, (uint64_t)n, (uint64_t)tokens_k,
                                                 key->ldb)) == 0;
    ok =
        ok &&
        (key->kind == T5_TN
             ? cublasLtMatrixLayoutCreate(&x->b, in, (uint64_t)rows_m, (uint64_t)tokens_k, key->lda)
             : cublasLtMatrixLayoutCreate(&x->b, in, (uint64_t)k, (uint64_t)rows_m, key->lda)) == 0;
    return ok &&
           cublasLtMatrixLayoutCreate(&x->c, out, (uint64_t)n, (uint64_t)rows_m, key->ldc) == 0;
}

static void call_close(call *x)
{
    cublasLtMatrixLayoutDestroy(x->a);
    cublasLtMatrixLayoutDestroy(x->b);
    cublasLtMatrixLayoutDestroy(x->c);
    cublasLtMatmulDescDestroy(x->desc);
}

static bool ask(t5_device *dev, cublasLtMatmulAlgo_t *out, const shape_key *key, int64_t tokens)
{
    call x = {};
    cublasLtMatmulPreference_t want = nullptr;
    cublasLtMatmulHeuristicResult_t found = {};
    int n = 0;
    uint32_t a = (uint32_t)key->align_b, b = (uint32_t)key->align_a, c = (uint32_t)key->align_c;
    bool ok = call_open(&x, key, tokens) && cublasLtMatmulPreferenceCreate(&want) == 0;
    if (ok) {
        cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &dev->workspace_bytes, sizeof dev->workspace_bytes);
        cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a,
                                             sizeof a);
        cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b,
                                             sizeof b);
        cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c,
                                             sizeof c);
        cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c,
                                             sizeof c);
        cublasStatus_t rc = cublasLtMatmulAlgoGetHeuristic(dev->lt, x.desc, x.a, x.b, x.c, x.c,
                                                           want, 1, &found, &n);
        ok = !blas_failed(dev, rc, "choosing a product") && n > 0;
    }
    *out = found.algo;
    if (want)
        cublasLtMatmulPreferenceDestroy(want);
    call_close(&x);
    return ok;
}

/* m: rows of C. The token count is m, or, for T5_TN, k. */
void t5_cuda_matmul(t5_device *dev, t5_product kind, void *c, int64_t ldc, int c_float,
                    const void *a, int64_t lda, int a_float, const void *b, int64_t ldb, int64_t m,
                    int64_t n, int64_t k, float scale, int accumulate)
{
    int64_t tokens = kind == T5_TN ? k : m;
    int64_t rounded = tokens <= 16 ? tokens : (tokens + TOKEN_STEP - 1) / TOKEN_STEP * TOKEN_STEP;
    float beta = accumulate ? 1 : 0;
    shape_key key;
    call x = {};
    if (m == 0 || n == 0)
        return;
    if (!dev->matmuls)
        dev->matmuls = new t5_matmul_cache;
    memset(&key, 0, sizeof key); /* padding takes part in the hash */
    key.kind = kind, key.c_float = c_float, key.a_float = a_float;
    key.align_a = alignment(a), key.align_b = alignment(b), key.align_c = alignment(c);
    key.accumulate = accumulate;
    key.m = kind == T5_TN ? m : rounded, key.n = n, key.k = kind == T5_TN ? rounded : k;
    key.lda = lda, key.ldb = ldb, key.ldc = ldc;
    auto known = dev->matmuls->algorithms.find(key);
    if (known == dev->matmuls->algorithms.end()) {
        cublasLtMatmulAlgo_t algorithm;
        if (!ask(dev, &algorithm, &key, rounded)) {
            blas_failed(dev, CUBLAS_STATUS_NOT_SUPPORTED, "choosing a product");
            return;
        }
        known = dev->matmuls->algorithms.emplace(key, algorithm).first;
    }
    if (call_open(&x, &key, tokens)) {
        cublasStatus_t rc =
            cublasLtMatmul(dev->lt, x.desc, &scale, b, x.a, a, x.b, &beta, c, x.c, c, x.c,
                           &known->second, dev->workspace, dev->workspace_bytes, dev->stream);
        blas_failed(dev, rc, "a product");
    }
    call_close(&x);
}

OP t5_cuda_linear_fwd(t5_device *dev, act *y, int64_t ldy, const act *x, int64_t ldx,
                      const t5_weight *w, int64_t n)
{
    int f = !dev->bf16;
    t5_cuda_matmul(dev, T5_NT, y, ldy, f, x, ldx, f, t5_cuda_weight_values(dev, w), w->cols, n,
                   w->rows, w->cols, 1, 0);
}

OP t5_cuda_logits_fwd(t5_device *dev, float *logits, const act *x, int64_t ldx, const t5_weight *w,
                      int64_t n, float scale)
{
    t5_cuda_matmul(dev, T5_NT, logits, w->rows, 1, x, ldx, !dev->bf16,
                   t5_cuda_weight_values(dev, w), w->cols, n, w->rows, w->cols, scale, 0);
}

OP t5_cuda_linear_bwd_input(t5_device *dev, act *dx, int64_t lddx, const act *dy, int64_t lddy,
                            const t5_weight *w, int64_t n, int accumulate)
{
    int f = !dev->bf16;
    t5_cuda_matmul(dev, T5_NN, dx, lddx, f, dy, lddy, f, t5_cuda_weight_values(dev, w), w->cols, n,
                   w->cols, w->rows, 1, accumulate);
}

OP t5_cuda_linear_bwd_weight(t5_device *dev, float *dw, const act *dy, int64_t lddy, const act *x,
                             int64_t ldx, int64_t rows, int64_t cols, int64_t n)
{
    if (n > 0)
        t5_cuda_matmul(dev, T5_TN, dw, cols, 1, dy, lddy, !dev->bf16, x, ldx, rows, cols, n, 1, 1);
}
