/* weights_fp8.cu - frozen weights as e4m3 with one scale an output row, made at load from any type
 * of file, and their transpose for the input gradient. There the row scales lie on the contraction
 * axis: linear_bwd_input multiplies dY by them before it rounds dY, so the transpose keeps the same
 * values. */
/* SPDX-License-Identifier: MIT */
#include "fp8.h"
#include "load.h"

#define THREADS 256
#define TILE 64

/* in (rows, cols) of type S, times in_scale[row] where there is one */
template <typename S>
__global__ void narrow_rows(fp8_q *q, float *scale, const S *in, const float *in_scale, int cols)
{
    const int64_t i = blockIdx.x;
    const S *row = in + i * cols;
    const float from = in_scale ? in_scale[i] : 1;
    float largest = 0;
    for (int c = threadIdx.x; c < cols; c += THREADS)
        largest = fmaxf(largest, fabsf((float)row[c] * from));
    const fp8_scaling s = fp8_scale(block_largest(largest));
    for (int c = threadIdx.x * 2; c < cols; c += THREADS * 2)
        *reinterpret_cast<uint16_t *>(q + i * cols + c) =
            fp8_pair((float)row[c] * from * s.inverse, (float)row[c + 1] * from * s.inverse);
    if (threadIdx.x == 0)
        scale[i] = s.scale;
}

/* out (cols, rows) = in (rows, cols), a tile a block, four bytes a thread; both multiples of 16 */
__global__ void transpose_bytes(fp8_q *out, const fp8_q *in, int64_t rows, int64_t cols)
{
    __shared__ uint32_t tile[TILE][TILE / 4 + 1];
    const int64_t r0 = (int64_t)blockIdx.y * TILE, c0 = (int64_t)blockIdx.x * TILE;
    const int word = threadIdx.x % (TILE / 4), y = threadIdx.x / (TILE / 4);
    for (int r = y; r < TILE; r += THREADS / (TILE / 4))
        if (r0 + r < rows && c0 + word * 4 < cols)
            tile[r][word] =
                *reinterpret_cast<const uint32_t *>(in + (r0 + r) * cols + c0 + word * 4);
    __syncthreads();
    for (int c = y; c < TILE; c += THREADS / (TILE / 4)) {
        uint32_t column = 0;
        for (int k = 0; k < 4; k++)
            column |= (tile[word * 4 + k][c / 4] >> c % 4 * 8 & 0xff) << 8 * k;
        if (c0 + c < cols && r0 + word * 4 < rows)
            *reinterpret_cast<uint32_t *>(out + (c0 + c) * rows + r0 + word * 4) = column;
    }
}

static void transpose(t5_device *dev, fp8_q *out, const t5_weight *w)
{
    dim3 grid(blocks_for(w->cols, TILE), blocks_for(w->rows, TILE));
    launch_kernel(dev, transpose_bytes, grid, THREADS, 0, out, w->e4m3, w->rows, w->cols);
    T5_LAUNCHED(dev);
}

bool t5_cuda_fp8_transposes(unsigned use)
{
    return (use & T5_USE_INPUT_GRAD) && !(use & T5_USE_COMPACT);
}

bool t5_cuda_fp8_keeps(const t5_device *dev, int64_t rows, int64_t cols, unsigned use)
{
    return dev->compute == T5_COMPUTE_FP8 && !(use & (T5_USE_GATHER | T5_USE_WIDE)) &&
           rows % 16 == 0 && cols % 16 == 0; /* what cuBLASLt's 8-bit products ask for */
}

static void narrow(t5_device *dev, fp8_q *q, float *scale, const void *in, t5_dtype type,
                   const float *in_scale, int64_t rows, int64_t cols)
{
#define NARROW(S)                                                                                  \
    launch_kernel(dev, narrow_rows<S>, (unsigned)rows, THREADS, 0, q, scale, (const S *)in,        \
                  in_scale, (int)cols)
    switch (type) {
    case T5_F32:
        NARROW(float);
        break;
    case T5_F16:
        NARROW(__half);
        break;
    case T5_BF16:
        NARROW(bf16);
        break;
    case T5_F64:
        NARROW(double);
        break;
    default:
        NARROW(int8_t);
    }
    T5_LAUNCHED(dev);
}

/* What is e4m3 already is taken as it is. */
static int load_part(t5_device *dev, fp8_q *q, float *scale, const t5_matrix *part, t5_err *err)
{
    if (part->type == T5_F8) {
        t5_cuda_upload(dev, q, part->data, (size_t)(part->rows * part->cols));
        t5_cuda_upload(dev, scale, part->scale, (size_t)part->rows * sizeof *scale);
        return 0;
    }
    return t5_cuda_each_slice(dev, part, err, [&](const t5_slice &s) {
        narrow(dev, q + s.first * part->cols, scale + s.first, s.data, s.type, s.scale, s.n,
               part->cols);
    });
}

/* The scale of what already has none on that side of a product. */
static int need_ones(t5_device *dev, int64_t n, t5_err *err)
{
    if (n <= dev->n_ones)
        return 0;
    float *host = (float *)t5_alloc((size_t)n, sizeof *host, "scales", err);
    if (!host)
        return -1;
    for (int64_t i = 0; i < n; i++)
        host[i] = 1;
    cudaStreamSynchronize(dev->stream);
    cudaFree(dev->ones);
    dev->ones = nullptr;
    dev->n_ones = 0;
    int rc = t5_cuda_alloc(dev, (void **)&dev->ones, (size_t)n * sizeof *host, "scales", err);
    if (rc == 0) {
        t5_cuda_upload(dev, dev->ones, host, (size_t)n * sizeof *host);
        dev->n_ones = n;
    }
    free(host);
    return rc;
}

int t5_cuda_fp8_load(t5_device *dev, t5_weight *w, const t5_matrix *parts, int n_parts,
                     unsigned use, t5_err *err)
{
    size_t bytes = (size_t)(w->rows * w->cols);
    if (t5_cuda_alloc(dev, (void **)&w->e4m3, bytes, "a weight", err) ||
        t5_cuda_alloc(dev, (void **)&w->row_scale, (size_t)w->rows * 4, "a weight", err))
        return -1;
    for (int64_t i = 0, row = 0; i < n_parts; row += parts[i].rows, i++)
        if (load_part(dev, w->e4m3 + row * w->cols, w->row_scale + row, &parts[i], err))
            return -1;
    if (!(use & T5_USE_INPUT_GRAD))
        return 0;
    if (need_ones(dev, w->cols, err))
        return -1;
    if (!t5_cuda_fp8_transposes(use))
        return t5_cuda_need_expanded(dev, bytes, err);
    if (t5_cuda_alloc(dev, (void **)&w->e4m3_t, bytes, "a weight", err))
        return -1;
    transpose(dev, w->e4m3_t, w);
    return 0;
}

const fp8_q *t5_cuda_fp8_transposed(t5_device *dev, const t5_weight *w)
{
    if (w->e4m3_t)
        return w->e4m3_t;
    transpose(dev, (fp8_q *)dev->expanded, w);
    return (const fp8_q *)dev->expanded;
}
