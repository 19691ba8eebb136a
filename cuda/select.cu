/* select.cu - the k largest logits of each row and its log-sum-exp; edits of single logits. Few
 * candidates: blocks of 1,024 logits sort theirs, another merges a row's. Many: a block a row; the
 * k-th largest is found a byte at a time over order-preserving keys, then the survivors are sorted.
 */
/* SPDX-License-Identifier: MIT */
#include "dependent.h"
#include "instructions.h"

#define THREADS 512
#define MOST 2048 /* candidates a row */
#define CHUNK 1024
#define CHUNK_THREADS 256

/* Larger floats have larger keys. */
__device__ inline uint32_t key_of(float x)
{
    uint32_t bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float float_of(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* The key of the k-th largest, and how many of the keys equal to it belong to the k. */
__device__ uint32_t threshold(const float *row, int v, int k, int *equal)
{
    __shared__ int count[256], chosen, left;
    uint32_t prefix = 0, mask = 0;
    if (threadIdx.x == 0)
        left = k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += THREADS)
            count[i] = 0;
        __syncthreads();
        for (int c = threadIdx.x; c < v; c += THREADS) {
            uint32_t key = key_of(row[c]);
            if ((key & mask) == prefix)
                atomicAdd(&count[key >> shift & 255], 1); /* whole numbers: order does not matter */
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int i = 255, seen = 0;
            while (i > 0 && seen + count[i] < left)
                seen += count[i--];
            chosen = i;
            left -= seen;
        }
        __syncthreads();
        prefix |= (uint32_t)chosen << shift;
        mask |= 255u << shift;
    }
    *equal = left;
    return prefix;
}

/* Candidates as (key, ~id), sorted downwards: larger values first, equal ones by smaller id. */
__device__ void sort_down(uint64_t *x, int n)
{
    for (int size = 2; size <= n; size *= 2)
        for (int stride = size / 2; stride; stride /= 2) {
            __syncthreads();
            for (int t = threadIdx.x; t < n; t += blockDim.x) {
                int other = t ^ stride;
                bool down = (t & size) == 0;
                if (other > t && (x[t] < x[other]) == down) {
                    uint64_t swap = x[t];
                    x[t] = x[other], x[other] = swap;
                }
            }
        }
    __syncthreads();
}

__device__ float log_sum_exp(const float *row, int v)
{
    float top = -INFINITY, sum = 0;
    for (int c = threadIdx.x; c < v; c += THREADS)
        top = fmaxf(top, row[c]);
    top = block_max(top);
    for (int c = threadIdx.x; c < v; c += THREADS)
        sum += expf(row[c] - top);
    return top + logf(block_sum(sum));
}

__global__ void top_k(float *value, int32_t *id, float *lse, const float *logits, int v, int k,
                      int room)
{
    uint64_t *found = dynamic_shared<uint64_t>(); /* (room), a power of two of at least k */
    __shared__ int n_above;
    int64_t r = blockIdx.x;
    const float *row = logits + r * v;
    int equal;
    float sum = log_sum_exp(row, v);
    uint32_t least = threshold(row, v, k, &equal);
    int above = k - equal;
    for (int i = threadIdx.x; i < room; i += THREADS)
        found[i] = 0;
    if (threadIdx.x == 0)
        n_above = 0;
    __syncthreads();
    for (int c = threadIdx.x; c < v; c += THREADS) { /* in any order: they are sorted below */
        uint32_t key = key_of(row[c]);
        if (key > least)
            found[atomicAdd(&n_above, 1)] = (uint64_t)key << 32 | ~(uint32_t)c;
    }
    __syncthreads();
    if (threadIdx.x < 32) /* one warp takes the equal ones by smallest id */
        for (int first = 0, taken = 0; first < v && taken < equal; first += 32) {
            int c = first + threadIdx.x;
            bool is = c < v && key_of(row[c]) == least;
            unsigned who = __ballot_sync(~0u, is);
            int place = taken + __popc(who & ((1u << threadIdx.x) - 1));
            if (is && place < equal)
                found[above + place] = (uint64_t)least << 32 | ~(uint32_t)c;
            taken += __popc(who);
        }
    sort_down(found, room);
    for (int i = threadIdx.x; i < k; i += THREADS) {
        value[r * k + i] = float_of((uint32_t)(found[i] >> 32));
        id[r * k + i] = (int32_t) ~(uint32_t)found[i];
    }
    if (threadIdx.x == 0)
        lse[r] = sum;
}

/* ---- few candidates ---- */

__device__ inline uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* best (rows, chunks, k): the k first of the chunk, 0 behind its last; top, sum (rows, chunks): its
 * largest logit and the sum of exp(logit - top) */
__global__ void __launch_bounds__(CHUNK_THREADS)
    chunk_best(uint64_t *best, float *top, float *sum, const float *logits, int v, int k)
{
    __shared__ uint64_t found[CHUNK];
    int64_t at = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    const float *row = logits + (int64_t)blockIdx.y * v;
    float x[CHUNK / CHUNK_THREADS], most = -INFINITY, total = 0;
    uint64_t first = 0;
    dependency_release();
    dependency_wait();
#pragma unroll
    for (int i = 0; i < CHUNK / CHUNK_THREADS; i++) {
        int place = i * CHUNK_THREADS + (int)threadIdx.x, c = (int)blockIdx.x * CHUNK + place;
        x[i] = c < v ? row[c] : -INFINITY;
        found[place] = c < v ? (uint64_t)key_of(x[i]) << 32 | ~(uint32_t)c : 0;
        first = larger(first, found[place]);
        most = fmaxf(most, x[i]);
    }
    most = block_max(most);
#pragma unroll
    for (int i = 0; i < CHUNK / CHUNK_THREADS; i++)
        total += x[i] == -INFINITY ? 0 : expf(x[i] - most);
    total = block_sum(total);
    if (threadIdx.x == 0)
        top[at] = most, sum[at] = total;
    if (k > 1) {
        sort_down(found, CHUNK);
        for (int i = threadIdx.x; i < k; i += CHUNK_THREADS)
            best[at * k + i] = found[i];
        return;
    }
    for (int m = 16; m; m /= 2)
        first = larger(first, __shfl_xor_sync(~0u, first, m));
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        found[threadIdx.x / 32] = first;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < CHUNK_THREADS / 32; w++)
            first = larger(first, found[w]);
        best[at] = first;
    }
}

/* The first k of a row's `chunks` lists. room: a power of two of at least chunks * k. */
__global__ void __launch_bounds__(CHUNK_THREADS)
    merge_best(float *value, int32_t *id, float *lse, const uint64_t *best, const float *top,
               const float *sum, int chunks, int k, int room)
{
    uint64_t *found = dynamic_shared<uint64_t>();
    int64_t r = blockIdx.x;
    float most = -INFINITY, total = 0;
    dependency_release();
    dependency_wait();
    for (int i = threadIdx.x; i < room; i += CHUNK_THREADS)
        found[i] = i < chunks * k ? best[r * chunks * k + i] : 0;
    for (int i = threadIdx.x; i < chunks; i += CHUNK_THREADS)
        most = fmaxf(most, top[r * chunks + i]);
    most = block_max(most);
    for (int i = threadIdx.x; i < chunks; i += CHUNK_THREADS)
        total += sum[r * chunks + i] * expf(top[r * chunks + i] - most);
    total = block_sum(total);
    sort_down(found, room);
    for (int i = threadIdx.x; i < k; i += CHUNK_THREADS) {
        value[r * k + i] = float_of((uint32_t)(found[i] >> 32));
        id[r * k + i] = (int32_t) ~(uint32_t)found[i];
    }
    if (threadIdx.x == 0)
        lse[r] = most + logf(total);
}

static void few_candidates(t5_device *dev, float *value, int32_t *id, float *lse,
                           const float *logits, int64_t n_rows, int v, int k)
{
    int chunks = (v + CHUNK - 1) / CHUNK, room = 1;
    size_t lists = (size_t)n_rows * (size_t)chunks;
    uint64_t *best =
        (uint64_t *)t5_cuda_scratch(dev, lists * ((size_t)k * sizeof *best + 2 * sizeof(float)));
    if (!best)
        return;
    float *top = (float *)(best + lists * (size_t)k), *sum = top + lists;
    while (room < chunks * k)
        room *= 2;
    launch_dependent(dev, chunk_best, dim3((unsigned)chunks, (unsigned)n_rows), CHUNK_THREADS, 0,
                     best, top, sum, logits, v, k);
    launch_dependent(dev, merge_best, dim3((unsigned)n_rows), CHUNK_THREADS,
                     (size_t)room * sizeof *best, value, id, lse, (const uint64_t *)best,
                     (const float *)top, (const float *)sum, chunks, k, room);
    T5_LAUNCHED(dev);
}

OP t5_cuda_topk(t5_device *dev, float *value, int32_t *id, float *lse, const float *logits,
                int64_t n_rows, int64_t v, int64_t k)
{
    int room = 1;
    while (room < k)
        room *= 2;
    if (n_rows == 0)
        return;
    if (k > MOST || k > v) {
        if (!dev->failure.text[0])
            t5_fail(&dev->failure, "topk: %lld candidates of %lld", (long long)k, (long long)v);
        return;
    }
    if ((v + CHUNK - 1) / CHUNK * k <= MOST && n_rows <= 65535) {
        few_candidates(dev, value, id, lse, logits, n_rows, (int)v, (int)k);
        return;
    }
    launch_kernel(dev, top_k, (unsigned)n_rows, THREADS, (size_t)room * 8, value, id, lse, logits,
                  (int)v, (int)k, room);
    T5_LAUNCHED(dev);
}

__global__ void edit(float *logits, int64_t v, const int32_t *row, const int32_t *id, int64_t n,
                     float penalty)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float *x = logits + row[i] * v + id[i];
    *x = penalty == 0 ? -INFINITY : *x < 0 ? *x * penalty : *x / penalty;
}

OP t5_cuda_logits_edit(t5_device *dev, float *logits, int64_t v, const int32_t *row,
                       const int32_t *id, int64_t n, float penalty)
{
    if (n == 0)
        return;
    launch_kernel(dev, edit, blocks_for(n, 128), 128, 0, logits, v, row, id, n, penalty);
    T5_LAUNCHED(dev);
}
