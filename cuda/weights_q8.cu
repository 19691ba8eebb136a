/* weights_q8.cu - frozen weights in 8 bits with one scale an output row for products that have both
 * sides so, int8 or e4m3, made at load from any type of file that is not the same, and their
 * transpose for the input gradient. There the row scales lie on the contraction axis:
 * linear_bwd_input multiplies dY by them before it rounds dY, so the transpose keeps the same
 * values. */
/* SPDX-License-Identifier: MIT */
#include "q8.h"
#include "load.h"

#define THREADS 256
#define TILE 64

/* in (rows, cols) of type S, times in_scale[row] where there is one */
template <typename S>
__global__ void narrow_rows(const t5_q8_rows to, const S *in, const float *in_scale, int cols)
{
    const int64_t i = blockIdx.x;
    const S *row = in + i * cols;
    const float from = in_scale ? in_scale[i] : 1;
    float largest = 0;
    for (int c = threadIdx.x; c < cols; c += THREADS)
        largest = max_nan(largest, fabsf((float)row[c] * from));
    const q8_scaling s = q8_scale(block_largest(largest), to.int8);
    for (int c = threadIdx.x * 2; c < cols; c += THREADS * 2)
        *reinterpret_cast<uint16_t *>(to.q + i * cols + c) =
            q8_pair((float)row[c] * from, (float)row[c + 1] * from, s.inverse, to.int8);
    if (threadIdx.x == 0)
        to.scale[i] = s.scale;
}

/* out (cols, rows) = in (rows, cols), a tile a block, four bytes a thread; both multiples of 16 */
__global__ void transpose_bytes(q8 *out, const q8 *in, int64_t rows, int64_t cols)
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

static void transpose(t5_device *dev, q8 *out, const t5_weight *w)
{
    dim3 grid(blocks_for(w->cols, TILE), blocks_for(w->rows, TILE));
    launch_kernel(dev, transpose_bytes, grid, THREADS, 0, out, t5_cuda_q8_bits(w), w->rows,
                  w->cols);
    T5_LAUNCHED(dev);
}

bool t5_cuda_q8_transposes(unsigned use)
{
    return (use & T5_USE_INPUT_GRAD) && !(use & T5_USE_COMPACT);
}

bool t5_cuda_q8_keeps(const t5_device *dev, int64_t rows, int64_t cols, unsigned use)
{
    return (dev->compute == T5_COMPUTE_FP8 || dev->compute == T5_COMPUTE_INT8) &&
           !(use & (T5_USE_GATHER | T5_USE_WIDE)) && rows % 16 == 0 && cols % 16 == 0;
}

static void narrow(t5_device *dev, t5_q8_rows to, const void *in, t5_dtype type,
                   const float *in_scale, int64_t rows, int64_t cols)
{
#define NARROW(S)                                                                                  \
    launch_kernel(dev, narrow_rows<S>, (unsigned)rows, THREADS, 0, to, (const S *)in, in_scale,    \
                  (int)cols)
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
    case T5_F8:
        NARROW(__nv_fp8_e4m3);
        break;
    default:
        NARROW(int8_t);
    }
    T5_LAUNCHED(dev);
}

/* What is in these 8 bits already is taken as it is. */
static int load_part(t5_device *dev, t5_q8_rows to, const t5_matrix *part, t5_err *err)
{
    if (part->type == (to.int8 ? T5_I8 : T5_F8)) {
        t5_cuda_upload(dev, to.q, part->data, (size_t)(part->rows * part->cols));
        t5_cuda_upload(dev, to.scale, part->scale, (size_t)part->rows * sizeof *to.scale);
        return 0;
    }
    return t5_cuda_each_slice(dev, part, err, [&](const t5_slice &s) {
        const t5_q8_rows rows = {to.q + s.first * part->cols, to.scale + s.first, to.int8};
        narrow(dev, rows, s.data, s.type, s.scale, s.n, part->cols);
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

int t5_cuda_q8_load(t5_device *dev, t5_weight *w, const t5_matrix *parts, int n_parts, unsigned use,
                    t5_err *err)
{
    const bool int8 = dev->compute == T5_COMPUTE_INT8;
    size_t bytes = (size_t)(w->rows * w->cols);
    w->both = 1;
    if (t5_cuda_alloc(dev, int8 ? (void **)&w->q : (void **)&w->e4m3, bytes, "a weight", err) ||
        t5_cuda_alloc(dev, (void **)&w->scale, (size_t)w->rows * 4, "a weight", err))
        return -1;
    for (int64_t i = 0, row = 0; i < n_parts; row += parts[i].rows, i++)
        if (load_part(dev, {t5_cuda_q8_bits(w) + row * w->cols, w->scale + row, int8}, &parts[i],
                      err))
            return -1;
    if (!(use & T5_USE_INPUT_GRAD))
        return 0;
    if (need_ones(dev, w->cols, err))
        return -1;
    if (!t5_cuda_q8_transposes(use))
        return t5_cuda_need_expanded(dev, bytes, err);
    if (t5_cuda_alloc(dev, (void **)&w->transposed, bytes, "a weight", err))
        return -1;
    transpose(dev, w->transposed, w);
    return 0;
}

const q8 *t5_cuda_q8_transposed(t5_device *dev, const t5_weight *w)
{
    if (w->transposed)
        return w->transposed;
    transpose(dev, (q8 *)dev->expanded, w);
    return (const q8 *)dev->expanded;
}
