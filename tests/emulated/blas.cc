/* blas.cc - what the CUDA backend calls of cuBLASLt: products of bf16, f32 and e4m3 (with a scale a
 * row of either side), summed in f32; and the matrix instructions. */
/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <vector>

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

/* Twice for a processor with AVX2 and one without. */
#if defined __x86_64__
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

struct layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
struct description {
    cublasOperation_t trans_a, trans_b;
    int32_t mode_a, mode_b;
    const float *scale_a, *scale_b; /* on the device */
};

/* ---- products ---- */

static inline float element(const void *p, cudaDataType_t type, size_t at)
{
    if (type == CUDA_R_32F)
        return ((const float *)p)[at];
    if (type == CUDA_R_16BF)
        return __uint_as_float((uint32_t)((const uint16_t *)p)[at] << 16);
    static const std::vector<float> e4m3 = [] {
        std::vector<float> v;
        for (int bits = 0; bits < 256; bits++)
            v.push_back(__half2float(__nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)bits, __NV_E4M3)));
        return v;
    }();
    return e4m3[((const uint8_t *)p)[at]];
}

/* A matrix in column order, or its transpose, as rows. */
static std::vector<float> unpack(const void *p, const layout &l, bool transposed)
{
    size_t rows = l.rows, cols = l.cols;
    std::vector<float> out(rows * cols);
#pragma omp parallel for num_threads(EMULATED_PROCESSORS)
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[transposed ? c * rows + r : r * cols + c] =
                element(p, l.type, c * (size_t)l.ld + r);
    return out;
}

#define COLUMNS 8
#define ROWS 64
#define DEPTH 4

/* sum (ROWS, COLUMNS) = a^T b: a (k, m), b (k, n), of which `rows` and `columns` are taken */
WIDE static void sum_tile(float (*sum)[COLUMNS], const float *a, size_t m, size_t rows,
                          const float *b, size_t n, size_t columns, size_t k)
{
    memset(sum, 0, ROWS * sizeof *sum);
    for (size_t i = 0; i < k; i += DEPTH) {
        float v[DEPTH][COLUMNS] = {};
        const float *row[DEPTH];
        for (size_t d = 0; d < DEPTH; d++) {
            row[d] = a + (i + d < k ? i + d : i) * m; /* behind the last: times 0 */
            for (size_t c = 0; c < columns && i + d < k; c++)
                v[d][c] = b[(i + d) * n + c];
        }
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < COLUMNS; c++)
                sum[r][c] += (row[0][r] * v[0][c] + row[1][r] * v[1][c]) +
                             (row[2][r] * v[2][c] + row[3][r] * v[3][c]);
    }
}

struct product {
    description how;
    layout a, b, d;
    const void *pa, *pb;
    void *pd;
    float alpha, beta;
};

static void store(const product &x, size_t row, size_t column, float sum)
{
    size_t at = column * (size_t)x.d.ld + row;
    float y = x.alpha * sum;
    y *= x.how.scale_a ? x.how.scale_a[row] * x.how.scale_b[column] : 1;
    y += x.beta != 0 ? x.beta * element(x.pd, x.d.type, at) : 0;
    if (x.d.type == CUDA_R_32F)
        ((float *)x.pd)[at] = y;
    else
        ((__nv_bfloat16 *)x.pd)[at] = __float2bfloat16(y);
}

static void multiply(const product &x)
{
    bool ta = x.how.trans_a != CUBLAS_OP_N, tb = x.how.trans_b != CUBLAS_OP_N;
    std::vector<float> a = unpack(x.pa, x.a, !ta), b = unpack(x.pb, x.b, tb);
    size_t m = x.d.rows, n = x.d.cols, k = ta ? x.a.rows : x.a.cols;
#pragma omp parallel for schedule(dynamic, 1) num_threads(EMULATED_PROCESSORS)
    for (size_t i = 0; i < m; i += ROWS)
        for (size_t j = 0; j < n; j += COLUMNS) {
            float sum[ROWS][COLUMNS];
            size_t rows = min(m - i, (size_t)ROWS), columns = min(n - j, (size_t)COLUMNS);
            sum_tile(sum, &a[i], m, rows, &b[j], n, columns, k);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < columns; c++)
                    store(x, i + r, j + c, sum[r][c]);
        }
}

/* What cuBLASLt's documentation asks of e4m3: A transposed, B not, everything in sixteens. */
static bool supported(const product &x)
{
    size_t k = x.how.trans_a != CUBLAS_OP_N ? x.a.rows : x.a.cols;
    size_t k_b = x.how.trans_b != CUBLAS_OP_N ? x.b.cols : x.b.rows;
    if (k != k_b || x.a.type != x.b.type || x.a.ld < (int64_t)x.a.rows ||
        x.b.ld < (int64_t)x.b.rows || x.d.ld < (int64_t)x.d.rows)
        return false;
    return x.a.type != CUDA_R_8F_E4M3 ||
           (x.how.trans_a == CUBLAS_OP_T && x.how.trans_b == CUBLAS_OP_N && k % 16 == 0 &&
            x.d.rows % 16 == 0 && x.a.ld % 16 == 0 && x.b.ld % 16 == 0 && x.how.scale_a &&
            x.how.scale_b && x.how.mode_a == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F &&
            x.how.mode_b == x.how.mode_a);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t how, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t stream)
{
    product x = {*(description *)how,
                 *(layout *)a_layout,
                 *(layout *)b_layout,
                 *(layout *)d_layout,
                 a,
                 b,
                 d,
                 *(const float *)alpha,
                 *(const float *)beta};
    if (c != d || !supported(x))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    emulated_give(stream, [x] { multiply(x); });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t *out, int *n)
{
    *out = {};
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptions ---- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t,
                                        cudaDataType_t)
{
    *out = (cublasLtMatmulDesc_t) new description{CUBLAS_OP_N, CUBLAS_OP_N, 0, 0, nullptr, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t how,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size)
{
    description *d = (description *)how;
    void *to = what == CUBLASLT_MATMUL_DESC_TRANSA            ? (void *)&d->trans_a
               : what == CUBLASLT_MATMUL_DESC_TRANSB          ? (void *)&d->trans_b
               : what == CUBLASLT_MATMUL_DESC_A_SCALE_MODE    ? (void *)&d->mode_a
               : what == CUBLASLT_MATMUL_DESC_B_SCALE_MODE    ? (void *)&d->mode_b
               : what == CUBLASLT_MATMUL_DESC_A_SCALE_POINTER ? (void *)&d->scale_a
               : what == CUBLASLT_MATMUL_DESC_B_SCALE_POINTER ? (void *)&d->scale_b
                                                              : nullptr;
    if (to)
        memcpy(to, value, size);
    return to || what == CUBLASLT_MATMUL_DESC_FAST_ACCUM ? CUBLAS_STATUS_SUCCESS
                                                         : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t how)
{
    delete (description *)how;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    *out = (cublasLtMatrixLayout_t) new layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete (layout *)l;
    return CUBLAS_STATUS_SUCCESS;
}

/* One algorithm, whatever is preferred. */
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = (cublasLtMatmulPreference_t) new char;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete (char *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = (cublasLtHandle_t) new char;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete (char *)handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "an error";
}

/* ---- the instructions ---- */

WIDE static void add_products(float (*c)[8], const float (*a)[16], const float (*b)[8])
{
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                c[i][j] += a[i][k] * b[k][j];
}

static void unpack_pair(float *first, float *second, uint32_t pair)
{
    *first = __uint_as_float(pair << 16);
    *second = __uint_as_float(pair & 0xffff0000u);
}

/* Fragments: cuda/instructions.h */
void emulated_mma(void *const *lanes)
{
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const emulated_mma_given *x = (const emulated_mma_given *)lanes[lane];
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            float *pair = &a[g + i % 2 * 8][2 * t + i / 2 * 8];
            unpack_pair(pair, pair + 1, x->a[i]);
            c[g + i / 2 * 8][2 * t + i % 2] = x->c[i];
        }
        for (int i = 0; i < 2; i++)
            unpack_pair(&b[2 * t + 8 * i][g], &b[2 * t + 8 * i + 1][g], x->b[i]);
    }
    add_products(c, a, b);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            ((emulated_mma_given *)lanes[lane])->d[i] =
                c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

/* 32 bytes of a row of a tile that copies have left. */
static void row_of(int8_t *to, uint64_t descriptor, int row)
{
    char *tile = emulated_dynamic_shared() + (descriptor << 4);
    for (int b = 0; b < 32; b += 16)
        memcpy(to + b, emulated_swizzled(tile + row * 128 + b), 16);
}

WIDE static int sum_int8(const int8_t *a, const int8_t *b)
{
    int sum = 0;
    for (int i = 0; i < 32; i++)
        sum += a[i] * b[i];
    return sum;
}

/* A warp's 16 rows of a warpgroup's. */
void emulated_warpgroup_mma(void *const *lanes)
{
    const emulated_product *first = (const emulated_product *)lanes[0];
    int8_t a[16][32], b[32];
    for (int i = 0; i < 16; i++)
        row_of(a[i], first->a, 16 * first->warp + i);
    for (int j = 0; j < first->n; j++) {
        row_of(b, first->b, j);
        for (int i = 0; i < 16; i++) {
            const emulated_product *x = (const emulated_product *)lanes[i % 8 * 4 + j % 8 / 2];
            int *sum = &x->sum[j / 8 * 4 + i / 8 * 2 + j % 2];
            *sum = (x->add ? *sum : 0) + sum_int8(a[i], b);
        }
    }
}
