/* q8.cu - rows of activations to 8 bits with one scale a row, as a pass of their own or left behind
 * by the operator before. Bound by memory: 2 bytes read, 1 written an element; a row waits in
 * registers between its maximum and its rounding. */
/* SPDX-License-Identifier: MIT */
#include "dependent.h"
#include "q8.h"

/* A thread's octet k begins there. Threads behind the row do its last octet once more. */
__device__ inline uint32_t column(int k, int cols)
{
    return min((uint32_t)(k * blockDim.x + threadIdx.x) * 8, (uint32_t)cols - 8);
}

/* VECTORS octets a thread, aligned. */
template <int VECTORS, bool FOLD>
__global__ void __launch_bounds__(512, VECTORS <= 3 ? 3 : 2)
    quantise_rows(const t5_q8_rows to, const bf16 *x, int64_t ldx, const float *fold, int cols)
{
    const int64_t i = blockIdx.x;
    uint4 raw[VECTORS];
    octet v[VECTORS];
    __nv_bfloat162 pair = {0, 0};
    float largest = 0;
    dependency_release();
    dependency_wait();
#pragma unroll
    for (int k = 0; k < VECTORS; k++)
        raw[k] = *reinterpret_cast<const uint4 *>(x + i * ldx + column(k, cols));
    __syncwarp(); /* nothing is used before all are asked for */
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        if (!FOLD) {
            pair = largest_pair(raw[k], pair);
            continue;
        }
        const octet f = load_octet(fold + column(k, cols), 0, 8, true);
        v[k] = unpack(raw[k]);
        for (int e = 0; e < 8; e++)
            v[k].v[e] *= f.v[e];
        largest = largest_of(v[k], largest);
    }
    const q8_scaling s = q8_scale(block_largest(FOLD ? largest : largest_of(pair)), to.int8);
#pragma unroll
    for (int k = 0; k < VECTORS; k++)
        *reinterpret_cast<uint2 *>(to.q + i * cols + column(k, cols)) =
            q8_octet(FOLD ? v[k] : unpack(raw[k]), s.inverse, to.int8);
    if (threadIdx.x == 0)
        to.scale[i] = s.scale;
}

/* A row of any length and alignment: it is read twice, the second time from the cache. */
template <bool FOLD>
__global__ void quantise_long(const t5_q8_rows to, const bf16 *x, int64_t ldx, const float *fold,
                              int cols)
{
    const int64_t i = blockIdx.x;
    const bf16 *row = x + i * ldx;
    float largest = 0;
    for (int c = threadIdx.x; c < cols; c += blockDim.x)
        largest = max_nan(largest, fabsf(to_float(row[c]) * (FOLD ? fold[c] : 1)));
    const q8_scaling s = q8_scale(block_largest(largest), to.int8);
    for (int c = threadIdx.x * 2; c < cols; c += blockDim.x * 2) {
        float a = to_float(row[c]) * (FOLD ? fold[c] : 1);
        float b = to_float(row[c + 1]) * (FOLD ? fold[c + 1] : 1);
        *reinterpret_cast<uint16_t *>(to.q + i * cols + c) = q8_pair(a, b, s.inverse, to.int8);
    }
    if (threadIdx.x == 0)
        to.scale[i] = s.scale;
}

template <bool FOLD>
static void quantise(t5_device *dev, t5_q8_rows out, const bf16 *x, int64_t ldx, const float *fold,
                     int64_t n, int cols)
{
    const int octets = cols / 8, threads = octets <= 128 ? 128 : octets <= 1024 ? 256 : 512;
    const bool whole = ldx % 8 == 0 && (uintptr_t)x % 16 == 0;
#define ROWS(VECTORS)                                                                              \
    case VECTORS:                                                                                  \
        launch_dependent(dev, quantise_rows<VECTORS, FOLD>, (unsigned)n, threads, 0, out, x, ldx,  \
                         fold, cols);                                                              \
        break
    switch (whole ? (octets + threads - 1) / threads : 0) {
        ROWS(1);
        ROWS(2);
        ROWS(3);
        ROWS(4);
        ROWS(5);
    default:
        launch_kernel(dev, quantise_long<FOLD>, (unsigned)n, 512, 0, out, x, ldx, fold, cols);
    }
    T5_LAUNCHED(dev);
}

/* ---- what was left behind ---- */

struct left_rows {
    const act *x; /* NULL: nothing */
    const float *fold;
    int64_t n, cols;
    int alone;      /* x itself was not written */
    uint64_t calls; /* t5_device.calls when it was left */
    bool are(const act *of, int64_t distance, const float *by, int64_t rows, int64_t columns) const
    {
        return x == of && distance == columns && fold == by && n == rows && cols == columns;
    }
};
struct t5_q8_state {
    left_rows next, lasting;
};

static t5_q8_state *state(t5_device *dev)
{
    if (!dev->q8)
        dev->q8 = new t5_q8_state{};
    return dev->q8;
}

void t5_cuda_q8_close(t5_device *dev)
{
    delete dev->q8;
    dev->q8 = nullptr;
    cudaFree(dev->rows8.p);
    cudaFree(dev->lasting8.p);
}

void t5_cuda_q8_forget(t5_device *dev)
{
    *state(dev) = {};
}

void t5_cuda_q8_left(t5_device *dev, const t5_reader *reader, const act *x, const float *fold,
                     int64_t n, int64_t cols)
{
    left_rows &left = reader->lasting ? state(dev)->lasting : state(dev)->next;
    left = {x, fold, n, cols, reader->alone, dev->calls};
}

/* Where (n, cols) and its scales go. Grows as t5_cuda_scratch does. */
static t5_q8_rows room(t5_device *dev, t5_device::t5_rows8 *in, int64_t n, int64_t cols)
{
    size_t scales = ((size_t)n * 4 + 255) / 256 * 256, bytes = scales + (size_t)(n * cols);
    if (bytes > in->bytes) {
        if (!t5_cuda_may_grow(dev))
            return {};
        cudaStreamSynchronize(dev->stream);
        cudaFree(in->p);
        *in = {};
        if (t5_cuda_no_room(dev, &in->p, bytes, "8-bit activations"))
            return {};
        in->bytes = bytes;
    }
    return {(q8 *)in->p + scales, (float *)in->p, dev->compute == T5_COMPUTE_INT8};
}

/* few_rows.cu reads bf16. */
t5_q8_rows t5_cuda_q8_offer(t5_device *dev, const t5_reader *reader, int64_t n, int64_t cols)
{
    if (reader && reader->lasting)
        state(dev)->lasting = {};
    if (!reader || !reader->w->both || (reader->w->few && n <= T5_FEW_ROWS))
        return {};
    return room(dev, reader->lasting ? &dev->lasting8 : &dev->rows8, n, cols);
}

t5_q8_rows t5_cuda_q8_rows(t5_device *dev, const bf16 *x, int64_t ldx, const float *fold, int64_t n,
                           int64_t cols)
{
    t5_q8_state *s = state(dev);
    if (s->lasting.are(x, ldx, fold, n, cols))
        return room(dev, &dev->lasting8, n, cols);
    const bool ready = s->next.are(x, ldx, fold, n, cols) && s->next.calls == dev->calls;
    t5_q8_rows out = room(dev, &dev->rows8, n, cols);
    if (s->next.x == x && s->next.alone && !ready && !dev->failure.text[0])
        t5_fail(&dev->failure, "rows that were to be read in 8 bits at once were not");
    s->next.x = nullptr;
    if (ready || !out.q || n == 0)
        return out;
    if (fold)
        quantise<true>(dev, out, x, ldx, fold, n, (int)cols);
    else
        quantise<false>(dev, out, x, ldx, fold, n, (int)cols);
    return out;
}
