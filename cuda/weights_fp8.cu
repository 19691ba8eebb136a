/* weights_fp8.cu - frozen weights as e4m3 with one scale an output row, made at load from any type
 * of file, and their transpose for the input gradient. There the row scales lie on the contraction
 * axis: linear_bwd_input multiplies dY by them before it rounds dY, so the transpose keeps the same
 * values. */
/* SPDX-License-Identifier: MIT */
#include <cstdlib>

#include "fp8.h"

extern "C" {
#include "base/buf.h"
}

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
    const float s = fp8_scale(block_max(largest)), inverse = 1 / s;
    for (int c = threadIdx.x * 2; c < cols; c += THREADS * 2)
        *reinterpret_cast<uint16_t *>(q + i * cols + c) =
            fp8_pair((float)row[c] * from * inverse, (float)row[c + 1] * from * inverse);
    if (threadIdx.x == 0)
        scale[i] = s;
}

/* out (cols, rows) = in (rows, cols), a tile a block */
__global__ void transpose_bytes(fp8_q *out, const fp8_q *in, int64_t rows, int64_t cols)
{
    __shared__ fp8_q tile[TILE][TILE + 4];
    const int64_t r0 = (int64_t)blockIdx.y * TILE, c0 = (int64_t)blockIdx.x * TILE;
    const int x = threadIdx.x % TILE, y = threadIdx.x / TILE;
    for (int r = y; r < TILE; r += THREADS / TILE)
        if (r0 + r < rows && c0 + x < cols)
            tile[r][x] = in[(r0 + r) * cols + c0 + x];
    __syncthreads();
    for (int c = y; c < TILE; c += THREADS / TILE)
        if (c0 + c < cols && r0 + x < rows)
            out[(c0 + c) * rows + r0 + x] = tile[x][c];
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
    narrow_rows<<<(unsigned)rows, THREADS, 0, dev->stream>>>(q, scale, (const S *)in, in_scale,    \
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
    default:
        NARROW(int8_t);
    }
    T5_LAUNCHED(dev);
}

/* One part, a slice of at most 32 MiB at a time through scratch. */
static int load_part(t5_device *dev, fp8_q *q, float *scale, const t5_matrix *part, t5_err *err)
{
    int64_t row = part->cols * (int64_t)t5_dtype_size(part->type);
    int64_t slice = 1 + ((int64_t)32 << 20) / row;
    size_t raw = (size_t)(slice * row + 255) / 256 * 256;
    char *scratch = (char *)t5_cuda_scratch(dev, raw + (size_t)slice * sizeof(float));
    for (int64_t first = 0; scratch && first < part->rows; first += slice) {
        int64_t n = part->rows - first < slice ? part->rows - first : slice;
        float *in_scale = part->type == T5_I8 ? (float *)(scratch + raw) : nullptr;
        t5_cuda_upload(dev, scratch, (const char *)part->data + first * row, (size_t)(n * row));
        if (in_scale)
            t5_cuda_upload(dev, in_scale, (const char *)part->scale + 4 * first, (size_t)n * 4);
        narrow(dev, q + first * part->cols, scale + first, scratch, part->type, in_scale, n,
               part->cols);
    }
    if (!dev->failure.text[0])
        return 0;
    *err = dev->failure;
    return -1;
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
    if (need_ones(dev, w->cols, err) ||
        t5_cuda_alloc(dev, (void **)&w->e4m3_t, bytes, "a weight", err))
        return -1;
    dim3 grid(blocks_for(w->cols, TILE), blocks_for(w->rows, TILE));
    transpose_bytes<<<grid, THREADS, 0, dev->stream>>>(w->e4m3_t, w->e4m3, w->rows, w->cols);
    T5_LAUNCHED(dev);
    return 0;
}
