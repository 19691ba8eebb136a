/* backend_cuda.cu - the device: opening, memory, copies, the first failure, and the operator table.
 * One stream; nothing here synchronises except download, sync and what outruns the staging buffers.
 */
/* SPDX-License-Identifier: MIT */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "q8.h"

extern "C" {
#include "base/buf.h"
}

#define STAGING ((size_t)16 << 20)
#define COPIERS 8                 /* threads that fill it */
#define ALONE ((size_t)256 << 10) /* up to so much one thread does */
#define LANDING ((size_t)256 << 10) /* so much comes down through pinned memory */
#define WORKSPACE ((size_t)64 << 20)

bool t5_cuda_failed(t5_device *dev, cudaError_t rc, const char *what)
{
    dev->calls++;
    if (rc == cudaSuccess)
        return false;
    if (!dev->failure.text[0])
        t5_fail_as(&dev->failure, T5_ENVIRONMENT, "cuda:%d: %s: %s", dev->index, what,
                   cudaGetErrorString(rc));
    return true;
}

static int out_of_memory(t5_err *err, t5_device *dev, size_t bytes, const char *what)
{
    t5_fail_as(err, T5_ENVIRONMENT, "cuda:%d: out of memory (asked %zu bytes for %s, %lld %s)",
               dev->index, bytes, what, (long long)t5_cuda_memory_free(dev),
               dev->max_memory ? "left by --max-memory" : "free");
    err->out_of_memory = 1;
    return -1;
}

bool t5_cuda_no_room(t5_device *dev, void **out, size_t bytes, const char *what)
{
    cudaError_t rc = cudaMalloc(out, bytes);
    if (rc != cudaErrorMemoryAllocation)
        return t5_cuda_failed(dev, rc, what);
    cudaGetLastError(); /* an allocation that failed leaves the device usable */
    if (!dev->failure.text[0])
        out_of_memory(&dev->failure, dev, bytes, what);
    return true;
}

bool t5_cuda_may_grow(t5_device *dev)
{
    dev->moved++;
    if (!dev->recording)
        return true;
    if (!dev->failure.text[0])
        t5_fail(&dev->failure, "scratch grows while a step is recorded");
    return false;
}

float *t5_cuda_scratch(t5_device *dev, size_t bytes)
{
    if (bytes <= dev->scratch_bytes)
        return dev->scratch;
    if (!t5_cuda_may_grow(dev))
        return nullptr;
    cudaStreamSynchronize(dev->stream);
    cudaFree(dev->scratch);
    dev->scratch = nullptr;
    dev->scratch_bytes = 0;
    if (t5_cuda_no_room(dev, (void **)&dev->scratch, bytes, "scratch"))
        return nullptr;
    dev->scratch_bytes = bytes;
    return dev->scratch;
}

static void cuda_close(t5_device *dev)
{
    if (!dev)
        return;
    if (dev->stream)
        cudaStreamSynchronize(dev->stream);
    t5_cuda_matmul_close(dev);
    if (dev->lt)
        cublasLtDestroy(dev->lt);
    cudaFree(dev->workspace);
    cudaFree(dev->scratch);
    cudaFree(dev->expanded);
    t5_cuda_q8_close(dev);
    cudaFree(dev->ones);
    cudaFreeHost(dev->landing);
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(dev->staging[i]);
        if (dev->staged[i])
            cudaEventDestroy(dev->staged[i]);
    }
    cudaFreeHost(dev->later);
    for (int i = 0; i < T5_LATER_SLOTS; i++)
        if (dev->later_done[i])
            cudaEventDestroy(dev->later_done[i]);
    if (dev->stream)
        cudaStreamDestroy(dev->stream);
    free(dev);
}

/* Tensor cores multiply e4m3 from compute capability 8.9 on; matmul_int8.cu is made of 9.0's
 * instructions. */
static int refuse_compute(const t5_device_options *options, t5_err *err)
{
    int major = 0, minor = 0, index = options->index;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
    if (options->compute == T5_COMPUTE_FP8 && major * 10 + minor < 89)
        return t5_fail_as(err, T5_ENVIRONMENT,
                          "--compute fp8 needs compute capability 8.9, cuda:%d has %d.%d", index,
                          major, minor);
    if (options->compute == T5_COMPUTE_INT8 && major != 9)
        return t5_fail_as(err, T5_ENVIRONMENT,
                          "--compute int8 needs compute capability 9.0, cuda:%d has %d.%d", index,
                          major, minor);
    return 0;
}

/* What opening took cannot be told from what others have on the device, but it is no more than
 * this. */
#define OWN_MOST ((size_t)1 << 30)

static void measure_own(t5_device *dev)
{
    size_t free_bytes = 0, total = 0;
    cudaMemGetInfo(&free_bytes, &total);
    size_t taken = total - free_bytes;
    dev->own = (int64_t)(taken < OWN_MOST ? taken : OWN_MOST);
    dev->at_open = (int64_t)free_bytes;
}

static int cuda_open(t5_device **out, const t5_device_options *options, t5_err *err)
{
    int n = 0;
    cudaError_t rc = cudaGetDeviceCount(&n);
    *out = nullptr;
    if (rc != cudaSuccess || n == 0)
        return t5_fail_as(err, T5_ENVIRONMENT, "no CUDA device (%s)",
                          rc != cudaSuccess ? cudaGetErrorString(rc) : "none found");
    if (options->index >= n)
        return t5_fail_as(err, T5_ENVIRONMENT, "cuda:%d: there are %d devices", options->index, n);
    if (refuse_compute(options, err))
        return -1;
    t5_device *dev = (t5_device *)t5_alloc_zeroed(1, sizeof *dev, "a device", err);
    if (!dev)
        return -1;
    dev->index = options->index;
    dev->compute = options->compute;
    dev->bf16 = options->compute != T5_COMPUTE_F32;
    dev->workspace_bytes = WORKSPACE;
    dev->tuning = options->tuning;
    dev->max_memory = options->max_memory;
    bool bad = t5_cuda_failed(dev, cudaSetDevice(dev->index), "select") ||
               t5_cuda_failed(dev, cudaStreamCreate(&dev->stream), "stream") ||
               t5_cuda_failed(dev, cudaMalloc(&dev->workspace, WORKSPACE), "workspace");
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, dev->index);
    dev->overlaps = major >= 9;
    cudaDeviceGetAttribute(&dev->processors, cudaDevAttrMultiProcessorCount, dev->index);
    bad = bad || t5_cuda_failed(dev, cudaMallocHost(&dev->landing, LANDING), "landing");
    for (int i = 0; i < 2 && !bad; i++)
        bad = t5_cuda_failed(dev, cudaMallocHost(&dev->staging[i], STAGING), "staging") ||
              t5_cuda_failed(dev, cudaEventCreateWithFlags(&dev->staged[i], cudaEventDisableTiming),
                             "event");
    bad = bad || t5_cuda_failed(dev, cudaMallocHost(&dev->later, T5_LATER_SLOTS * T5_LATER_BYTES),
                                "staging");
    for (int i = 0; i < T5_LATER_SLOTS && !bad; i++)
        bad = t5_cuda_failed(
            dev, cudaEventCreateWithFlags(&dev->later_done[i], cudaEventDisableTiming), "event");
    if (!bad && cublasLtCreate(&dev->lt) != CUBLAS_STATUS_SUCCESS) {
        t5_fail_as(&dev->failure, T5_ENVIRONMENT, "cuda:%d: cuBLASLt cannot start", dev->index);
        bad = true;
    }
    if (bad) {
        *err = dev->failure;
        cuda_close(dev);
        return -1;
    }
    measure_own(dev);
    *out = dev;
    return 0;
}

static size_t cuda_activation_size(const t5_device *dev)
{
    return dev->bf16 ? sizeof(bf16) : sizeof(float);
}

int64_t t5_cuda_memory_free(t5_device *dev)
{
    size_t free_bytes = 0, total = 0;
    cudaMemGetInfo(&free_bytes, &total);
    int64_t there = (int64_t)free_bytes;
    int64_t left = dev->max_memory - dev->own - (dev->at_open - there);
    return dev->max_memory && left < there ? (left > 0 ? left : 0) : there;
}

/* Loading slices or, from some thousand tokens on, LoRA's partial sums: see lora_fwd.cu and
 * lora_bwd.cu. LATER: kernels that the driver loads when they are first launched. */
#define LATER ((int64_t)96 << 20)
static int64_t cuda_memory_own(t5_device *dev, int64_t *now, const t5_work *work)
{
    int64_t ranks = (work->ranks + 3 * 15) / 16 * 16;
    int64_t lora =
        ranks * (int64_t)sizeof(float) * (work->tokens * (work->widest / 128 + 1) + 65536);
    int64_t attention = (work->tokens + 64 * work->seqs) * work->heads * (int64_t)sizeof(float2);
    int64_t scratch = T5_LOAD_SCRATCH;
    scratch = lora > scratch && work->ranks ? lora : scratch;
    scratch = attention > scratch ? attention : scratch;
    *now = dev->own;
    int64_t columns8 = work->widest + 4 + work->lasting + 4;
    bool eight = dev->compute == T5_COMPUTE_FP8 || dev->compute == T5_COMPUTE_INT8;
    int64_t rows8 = eight ? work->tokens * columns8 : 0;
    return dev->own + LATER + scratch + rows8 + work->compact * (int64_t)sizeof(bf16);
}

int t5_cuda_alloc(t5_device *dev, void **out, size_t bytes, const char *what, t5_err *err)
{
    int64_t left = dev->max_memory ? t5_cuda_memory_free(dev) : INT64_MAX;
    if ((int64_t)bytes <= left && cudaMalloc(out, bytes ? bytes : 1) == cudaSuccess)
        return 0;
    cudaGetLastError(); /* an allocation that failed leaves the device usable */
    return out_of_memory(err, dev, bytes, what);
}

static void cuda_release(t5_device *dev, void *p)
{
    if (!p)
        return;
    cudaStreamSynchronize(dev->stream);
    t5_cuda_q8_forget(dev); /* what was left may have lain there */
    cudaFree(p);
}

/* Out of the page cache one thread copies at a quarter of what the bus takes. */
static void copy_to_staging(char *to, const char *from, size_t n)
{
    const size_t each = (n + COPIERS - 1) / COPIERS;
    if (n <= ALONE) {
        memcpy(to, from, n);
        return;
    }
#pragma omp parallel for num_threads(COPIERS) schedule(static, 1)
    for (int i = 0; i < COPIERS; i++) {
        size_t at = (size_t)i * each;
        if (at < n)
            memcpy(to + at, from + at, n - at < each ? n - at : each);
    }
}

/* Through pinned memory, so that the host's may go at once and the copy does not wait for the
 * stream. */
void t5_cuda_upload(t5_device *dev, void *dst, const void *host, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        size_t n = bytes - done < STAGING ? bytes - done : STAGING;
        int i = dev->staging_next;
        dev->staging_next = !i;
        if (t5_cuda_failed(dev, cudaEventSynchronize(dev->staged[i]), "upload"))
            return;
        copy_to_staging(dev->staging[i], (const char *)host + done, n);
        if (t5_cuda_failed(dev,
                           cudaMemcpyAsync((char *)dst + done, dev->staging[i], n,
                                           cudaMemcpyHostToDevice, dev->stream),
                           "upload") ||
            t5_cuda_failed(dev, cudaEventRecord(dev->staged[i], dev->stream), "upload"))
            return;
        done += n;
    }
}

static int cuda_check(t5_device *dev, t5_err *err)
{
    if (!dev->failure.text[0])
        return 0;
    *err = dev->failure;
    return -1;
}

static int cuda_sync(t5_device *dev, t5_err *err)
{
    t5_cuda_failed(dev, cudaStreamSynchronize(dev->stream), "running");
    return cuda_check(dev, err);
}

static int cuda_recover(t5_device *dev, t5_err *err)
{
    if (dev->failure.out_of_memory)
        dev->failure = {};
    t5_cuda_q8_forget(dev); /* nobody will read what was left */
    return cuda_sync(dev, err);
}

static int cuda_download(t5_device *dev, void *host, const void *src, size_t bytes, t5_err *err)
{
    /* Little comes through pinned memory: one copy of the driver's less, at every decode step. */
    void *to = bytes <= LANDING ? dev->landing : host;
    t5_cuda_failed(dev, cudaMemcpyAsync(to, src, bytes, cudaMemcpyDeviceToHost, dev->stream),
                   "download");
    if (cuda_sync(dev, err))
        return -1;
    if (to != host)
        memcpy(host, to, bytes);
    return 0;
}

static void cuda_download_later(t5_device *dev, const void *src, size_t bytes, int slot)
{
    if (bytes > T5_LATER_BYTES || slot < 0 || slot >= T5_LATER_SLOTS) {
        t5_cuda_failed(dev, cudaErrorInvalidValue, "download");
        return;
    }
    t5_cuda_failed(dev,
                   cudaMemcpyAsync(dev->later + slot * T5_LATER_BYTES, src, bytes,
                                   cudaMemcpyDeviceToHost, dev->stream),
                   "download");
    t5_cuda_failed(dev, cudaEventRecord(dev->later_done[slot], dev->stream), "download");
}

static int cuda_fetch(t5_device *dev, void *host, size_t bytes, int slot, t5_err *err)
{
    t5_cuda_failed(dev, cudaEventSynchronize(dev->later_done[slot]), "running");
    memcpy(host, dev->later + slot * T5_LATER_BYTES, bytes);
    return cuda_check(dev, err);
}

static void cuda_zero(t5_device *dev, void *dst, size_t bytes)
{
    t5_cuda_failed(dev, cudaMemsetAsync(dst, 0, bytes, dev->stream), "zero");
}

extern "C" const struct t5_backend t5_backend_cuda;
const struct t5_backend t5_backend_cuda = {
    .build = T5_BACKEND_BUILD,
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .activation_size = cuda_activation_size,
    .alloc = t5_cuda_alloc,
    .release = cuda_release,
    .upload = t5_cuda_upload,
    .download = cuda_download,
    .download_later = cuda_download_later,
    .fetch = cuda_fetch,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .check = cuda_check,
    .recover = cuda_recover,
    .memory_free = t5_cuda_memory_free,
    .memory_own = cuda_memory_own,
    .weight_freeze = t5_cuda_weight_freeze,
    .weight_bind = t5_cuda_weight_bind,
    .weight_refresh = t5_cuda_weight_refresh,
    .weight_free = t5_cuda_weight_free,
    .weight_bytes = t5_cuda_weight_bytes,
    .embed_fwd = t5_cuda_embed_fwd,
    .norm_fwd = t5_cuda_norm_fwd,
    .linear_fwd = t5_cuda_linear_fwd,
    .logits_fwd = t5_cuda_logits_fwd,
    .lora_fwd = t5_cuda_lora_fwd,
    .attention_fwd = t5_cuda_attention_fwd,
    .glu_fwd = t5_cuda_glu_fwd,
    .cross_entropy = t5_cuda_cross_entropy,
    .embed_bwd = t5_cuda_embed_bwd,
    .norm_bwd = t5_cuda_norm_bwd,
    .linear_bwd_input = t5_cuda_linear_bwd_input,
    .linear_bwd_weight = t5_cuda_linear_bwd_weight,
    .lora_bwd = t5_cuda_lora_bwd,
    .attention_bwd = t5_cuda_attention_bwd,
    .glu_bwd = t5_cuda_glu_bwd,
    .sum = t5_cuda_sum,
    .sum_squares = t5_cuda_sum_squares,
    .spoil = t5_cuda_spoil,
    .adamw = t5_cuda_adamw,
    .adafactor = t5_cuda_adafactor,
    .adamw8 = t5_cuda_adamw8,
    .decode_self = t5_cuda_decode_self,
    .decode_cross = t5_cuda_decode_cross,
    .norm_linear = t5_cuda_norm_linear,
    .linear_add = t5_cuda_linear_add,
    .decode_stack_bytes = t5_cuda_decode_stack_bytes,
    .decode_stack_open = t5_cuda_decode_stack_open,
    .decode_stack_close = t5_cuda_decode_stack_close,
    .decode_stack = t5_cuda_decode_stack,
    .logits_edit = t5_cuda_logits_edit,
    .topk = t5_cuda_topk,
    .record_begin = t5_cuda_record_begin,
    .record_end = t5_cuda_record_end,
    .replay = t5_cuda_replay,
    .recording_free = t5_cuda_recording_free,
};
