/* matmul.cu - matrix products through cuBLASLt, and the operators that are one product. An
 * algorithm is chosen once a shape (choose.cu), with the token count rounded up so that packed
 * batches of any size share few of them. */
/* SPDX-License-Identifier: MIT */
#include <cstring>
#include <unordered_map>

#include "matmul.h"
#include "matmul_int8.h"

extern "C" {
#include "io/choices.h"
}

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
    t5_choices_close(dev->choices);
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

/* One scale a row of either side. Sums in the tensor cores' own precision ("fast accumulation"): the
 * exact kind is 11 % slower. */
static bool set_scales(cublasLtMatmulDesc_t desc, const operands *o)
{
    int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    int8_t fast = 1;
    auto set = [&](cublasLtMatmulDescAttributes_t what, const void *value, size_t size) {
        return cublasLtMatmulDescSetAttribute(desc, what, value, size) == 0;
    };
    return set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode) &&
           set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode) &&
           set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &o->b_scale, sizeof o->b_scale) &&
           set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &o->a_scale, sizeof o->a_scale) &&
           set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast);
}

bool t5_cuda_call_open(call *x, const shape_key *key, int64_t m, const operands *o)
{
    cudaDataType_t in = (cudaDataType_t)key->in;
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
    if (in == CUDA_R_8F_E4M3)
        ok = ok && set_scales(x->desc, o);
    return ok &&
           cublasLtMatrixLayoutCreate(&x->c, out, (uint64_t)n, (uint64_t)rows_m, key->ldc) == 0;
}

void t5_cuda_call_close(call *x)
{
    cublasLtMatrixLayoutDestroy(x->a);
    cublasLtMatrixLayoutDestroy(x->b);
    cublasLtMatrixLayoutDestroy(x->c);
    cublasLtMatmulDescDestroy(x->desc);
}

cublasStatus_t t5_cuda_call_run(t5_device *dev, const call *x, const operands *o, int accumulate,
                                const cublasLtMatmulAlgo_t *algorithm)
{
    const float beta = accumulate ? 1 : 0;
    dev->calls++;
    return cublasLtMatmul(dev->lt, x->desc, &o->scale, o->b, x->a, o->a, x->b, &beta, o->c, x->c,
                          o->c, x->c, algorithm, dev->workspace, dev->workspace_bytes, dev->stream);
}

static void run(t5_device *dev, shape_key *key, const operands *o, int64_t tokens)
{
    call x = {};
    if (!dev->matmuls)
        dev->matmuls = new t5_matmul_cache;
    key->align_a = alignment(o->a), key->align_b = alignment(o->b), key->align_c = alignment(o->c);
    auto known = dev->matmuls->algorithms.find(*key);
    if (known == dev->matmuls->algorithms.end()) {
        cublasLtMatmulAlgo_t algorithm;
        if (!t5_cuda_choose(dev, &algorithm, key, o, tokens)) {
            blas_failed(dev, CUBLAS_STATUS_NOT_SUPPORTED, "choosing a product");
            return;
        }
        known = dev->matmuls->algorithms.emplace(*key, algorithm).first;
    }
    if (t5_cuda_call_open(&x, key, tokens, o))
        blas_failed(dev, t5_cuda_call_run(dev, &x, o, key->accumulate, &known->second),
                    "a product");
    t5_cuda_call_close(&x);
}

static int64_t rounded(int64_t tokens)
{
    return tokens <= 16 ? tokens : (tokens + TOKEN_STEP - 1) / TOKEN_STEP * TOKEN_STEP;
}

/* m: rows of C. The token count is m, or, for T5_TN, k. */
void t5_cuda_matmul(t5_device *dev, t5_product kind, void *c, int64_t ldc, int c_float,
                    const void *a, int64_t lda, int a_float, const void *b, int64_t ldb, int64_t m,
                    int64_t n, int64_t k, float scale, int accumulate)
{
    shape_key key;
    operands o = {c, a, b, nullptr, nullptr, scale};
    if (m == 0 || n == 0)
        return;
    memset(&key, 0, sizeof key); /* padding takes part in the hash */
    key.kind = kind, key.c_float = c_float, key.in = a_float ? CUDA_R_32F : CUDA_R_16BF;
    key.accumulate = accumulate;
    key.m = kind == T5_TN ? m : rounded(m), key.n = n, key.k = kind == T5_TN ? rounded(k) : k;
    key.lda = lda, key.ldb = ldb, key.ldc = ldc;
    run(dev, &key, &o, kind == T5_TN ? k : m);
}

void t5_cuda_matmul_q8(t5_device *dev, void *c, int64_t ldc, int c_float, t5_q8_rows a,
                       t5_q8_rows b, int64_t m, int64_t n, int64_t k, float scale, int accumulate)
{
    if (m == 0 || !a.q)
        return;
    if (a.int8) {
        const int8_operands o = {c, ldc, c_float, a.q, b.q, a.scale, b.scale, m, n, k, scale,
                                 accumulate};
        dev->calls++;
        t5_cuda_failed(dev, t5_cuda_int8_start(&o, dev->processors, dev->stream), "a product");
        return;
    }
    shape_key key;
    operands o = {c, a.q, b.q, a.scale, b.scale, scale};
    memset(&key, 0, sizeof key);
    key.kind = T5_NT, key.c_float = c_float, key.in = CUDA_R_8F_E4M3, key.accumulate = accumulate;
    key.m = rounded(m), key.n = n, key.k = k;
    key.lda = key.ldb = k, key.ldc = ldc;
    run(dev, &key, &o, m);
}

/* What its product with rows in 8 bits reads. */
static t5_q8_rows q8_of(const t5_device *dev, const t5_weight *w)
{
    return {t5_cuda_q8_bits(w), w->scale, dev->compute == T5_COMPUTE_INT8};
}

OP t5_cuda_linear_fwd(t5_device *dev, act *y, int64_t ldy, const act *x, int64_t ldx,
                      const t5_weight *w, int64_t n)
{
    int f = !dev->bf16;
    if (t5_cuda_few_rows(dev, y, ldy, 0, x, ldx, w, n, 1))
        return;
    if (w->both)
        t5_cuda_matmul_q8(dev, y, ldy, 0,
                          t5_cuda_q8_rows(dev, (const bf16 *)x, ldx, nullptr, n, w->cols),
                          q8_of(dev, w), n, w->rows, w->cols, 1, 0);
    else
        t5_cuda_matmul(dev, T5_NT, y, ldy, f, x, ldx, f, t5_cuda_weight_values(dev, w), w->cols, n,
                       w->rows, w->cols, 1, 0);
}

OP t5_cuda_logits_fwd(t5_device *dev, float *logits, const act *x, int64_t ldx, const t5_weight *w,
                      int64_t n, float scale)
{
    if (t5_cuda_few_rows(dev, logits, w->rows, 1, x, ldx, w, n, scale))
        return;
    if (w->both)
        t5_cuda_matmul_q8(dev, logits, w->rows, 1,
                          t5_cuda_q8_rows(dev, (const bf16 *)x, ldx, nullptr, n, w->cols),
                          q8_of(dev, w), n, w->rows, w->cols, scale, 0);
    else
        t5_cuda_matmul(dev, T5_NT, logits, w->rows, 1, x, ldx, !dev->bf16,
                       t5_cuda_weight_values(dev, w), w->cols, n, w->rows, w->cols, scale, 0);
}

/* In 8 bits the weight's row scales lie on the contraction axis: dy takes them before it is
 * rounded. */
OP t5_cuda_linear_bwd_input(t5_device *dev, act *dx, int64_t lddx, const act *dy, int64_t lddy,
                            const t5_weight *w, int64_t n, int accumulate)
{
    int f = !dev->bf16;
    if (w->both) {
        t5_q8_rows rows = t5_cuda_q8_rows(dev, (const bf16 *)dy, lddy, w->scale, n, w->rows);
        t5_q8_rows columns = {const_cast<q8 *>(t5_cuda_q8_transposed(dev, w)), dev->ones,
                              rows.int8};
        t5_cuda_matmul_q8(dev, dx, lddx, 0, rows, columns, n, w->cols, w->rows, 1, accumulate);
    } else {
        t5_cuda_matmul(dev, T5_NN, dx, lddx, f, dy, lddy, f, t5_cuda_weight_values(dev, w), w->cols,
                       n, w->cols, w->rows, 1, accumulate);
    }
}

OP t5_cuda_linear_bwd_weight(t5_device *dev, float *dw, const act *dy, int64_t lddy, const act *x,
                             int64_t ldx, int64_t rows, int64_t cols, int64_t n)
{
    if (n > 0)
        t5_cuda_matmul(dev, T5_TN, dw, cols, 1, dy, lddy, !dev->bf16, x, ldx, rows, cols, n, 1, 1);
}
