/* adafactor.cu - Adafactor (arXiv:1804.04235) over one tensor: running means of the squared
 * gradients over rows and columns, the update's RMS, the update. Sums in a fixed order. Bound by
 * memory: the gradient is read four times, the parameter moved once. */
/* SPDX-License-Identifier: MIT */
#include "device.h"

#define THREADS 256
#define PARTS 512 /* partial sums of the update's squares, whatever the card */
#define TILE 32   /* columns a block adds up ... */
#define DEEP 8    /* ... with so many threads a column */

struct factored {
    const float *g, *row, *col; /* col NULL: row is each element's own */
    int64_t rows, cols;
    const double *mean; /* of row */
};

__device__ inline float clip_of(float clip, double squares)
{
    return clip > 0 ? fminf(1, clip / ((float)sqrt(squares) + 1e-6f)) : 1;
}

/* A block a row. */
__global__ void follow_rows(float *row, const float *g, int64_t cols, t5_adafactor how,
                            const double *sum_squares)
{
    double squares = *sum_squares, sum = 0;
    if (!isfinite(squares))
        return;
    float clip = clip_of(how.clip, squares);
    g += blockIdx.x * cols;
    for (int64_t c = threadIdx.x; c < cols; c += THREADS)
        sum += (double)g[c] * g[c];
    sum = block_sum_double<THREADS>(sum) * clip * clip / (double)cols;
    if (threadIdx.x == 0)
        row[blockIdx.x] =
            how.decay * row[blockIdx.x] + (1 - how.decay) * (float)(sum + T5_ADAFACTOR_EPS);
}

/* TILE columns a block of TILE x DEEP threads. */
__global__ void follow_columns(float *col, const float *g, int64_t rows, int64_t cols,
                               t5_adafactor how, const double *sum_squares)
{
    __shared__ double part[DEEP][TILE];
    double squares = *sum_squares, sum = 0;
    if (!isfinite(squares))
        return;
    float clip = clip_of(how.clip, squares);
    int64_t c = (int64_t)blockIdx.x * TILE + threadIdx.x;
    for (int64_t r = threadIdx.y; r < rows && c < cols; r += DEEP)
        sum += (double)g[r * cols + c] * g[r * cols + c];
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= cols)
        return;
    for (int k = 1; k < DEEP; k++)
        sum += part[k][threadIdx.x];
    sum *= (double)clip * clip / (double)rows;
    col[c] = how.decay * col[c] + (1 - how.decay) * (float)(sum + T5_ADAFACTOR_EPS);
}

/* A vector, or any tensor whose elements keep their own. */
__global__ void follow_each(float *v, const float *g, int64_t n, t5_adafactor how,
                            const double *sum_squares)
{
    double squares = *sum_squares;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (!isfinite(squares) || i >= n)
        return;
    double gi = (double)g[i] * clip_of(how.clip, squares);
    v[i] = how.decay * v[i] + (1 - how.decay) * (float)(gi * gi + T5_ADAFACTOR_EPS);
}

__global__ void mean_of_rows(double *mean, const float *row, int64_t rows)
{
    double sum = 0;
    for (int64_t r = threadIdx.x; r < rows; r += THREADS)
        sum += row[r];
    sum = block_sum_double<THREADS>(sum);
    if (threadIdx.x == 0)
        *mean = sum / (double)rows;
}

/* The update of element i before it is clipped, for a gradient that was not. */
__device__ inline float direction(const factored &f, int64_t i)
{
    if (!f.col)
        return f.g[i] / sqrtf(f.row[i]);
    float r = (float)((double)f.row[i / f.cols] / *f.mean);
    return f.g[i] / sqrtf(r) / sqrtf(f.col[i % f.cols]);
}

__global__ void partial_squares(double *parts, factored f)
{
    double sum = 0;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < f.rows * f.cols;
         i += (int64_t)PARTS * THREADS) {
        double u = direction(f, i);
        sum += u * u;
    }
    sum = block_sum_double<THREADS>(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

__global__ void total_squares(double *total, const double *parts)
{
    double sum = 0;
    for (int i = threadIdx.x; i < PARTS; i += THREADS)
        sum += parts[i];
    sum = block_sum_double<THREADS>(sum);
    if (threadIdx.x == 0)
        *total = sum;
}

__global__ void apply(float *p, factored f, t5_adafactor how, const double *total,
                      const double *sum_squares)
{
    double squares = *sum_squares;
    int64_t n = f.rows * f.cols, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (!isfinite(squares) || i >= n)
        return;
    double clip = clip_of(how.clip, squares), over = clip * sqrt(*total / (double)n);
    float rate = (float)(how.lr * clip / (over > 1 ? over : 1));
    p[i] = p[i] * (float)(1 - (double)how.lr * how.weight_decay) - rate * direction(f, i);
}

OP t5_cuda_adafactor(t5_device *dev, float *p, const float *g, float *row, float *col, int64_t rows,
                     int64_t cols, const t5_adafactor *how, const double *sum_squares)
{
    double *scratch = (double *)t5_cuda_scratch(dev, (PARTS + 2) * sizeof *scratch);
    if (!scratch || rows * cols == 0)
        return;
    double *parts = scratch, *mean = scratch + PARTS, *total = mean + 1;
    factored f = {g, row, col, rows, cols, mean};
    int64_t n = rows * cols;
    if (col) {
        launch_kernel(dev, follow_rows, (unsigned)rows, THREADS, 0, row, g, cols, *how,
                      sum_squares);
        launch_kernel(dev, follow_columns, blocks_for(cols, TILE), dim3(TILE, DEEP), 0, col, g,
                      rows, cols, *how, sum_squares);
        launch_kernel(dev, mean_of_rows, 1, THREADS, 0, mean, row, rows);
    } else {
        launch_kernel(dev, follow_each, blocks_for(n, THREADS), THREADS, 0, row, g, n, *how,
                      sum_squares);
    }
    launch_kernel(dev, partial_squares, PARTS, THREADS, 0, parts, f);
    launch_kernel(dev, total_squares, 1, THREADS, 0, total, parts);
    launch_kernel(dev, apply, blocks_for(n, THREADS), THREADS, 0, p, f, *how, total, sum_squares);
    T5_LAUNCHED(dev);
}
