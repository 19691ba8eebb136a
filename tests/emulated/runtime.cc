/* runtime.cc - what the CUDA backend calls of CUDA's runtime: one made-up card of compute
 * capability 9.0, whose memory is the host's. What a stream is given is done when the host waits
 * for it, so that host memory must live as long as on a card. */
/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include <omp.h>

#define MEMORY ((size_t)4 << 30)
#define POISONED ((size_t)48 << 20) /* more is cuBLAS's workspace, and left as it is */
#define FREELY_SHARED (48u << 10)   /* bytes that a kernel gets without asking */

typedef std::function<void()> work;

struct CUstream_st {
    std::vector<work> given; /* not done yet, or recorded */
    bool recording;
};
struct CUevent_st {
    CUstream_st *stream;
};
struct CUgraph_st {
    std::vector<work> given;
};
struct CUgraphExec_st {
    std::vector<work> given;
};

static cudaError_t last_error;
static std::map<const void *, size_t> allocated, pinned, asked_shared;
static std::map<CUstream_st *, bool> streams;
static unsigned launches;

static cudaError_t result(cudaError_t rc)
{
    last_error = rc == cudaSuccess ? last_error : rc;
    return rc;
}

void emulated_give(cudaStream_t stream, work what)
{
    stream->given.push_back(std::move(what));
}

static cudaError_t finish(CUstream_st *stream)
{
    if (stream->recording)
        return result(cudaErrorStreamCaptureUnsupported);
    std::vector<work> given;
    given.swap(stream->given);
    for (const work &what : given)
        what();
    return cudaSuccess;
}

static void finish_all()
{
    for (auto &s : streams)
        if (!s.first->recording)
            finish(s.first);
}

/* ---- launches ---- */

static void run_grid(const emulated_grid &grid, bool together)
{
    int64_t blocks = (int64_t)grid.grid.x * grid.grid.y * grid.grid.z;
    if (together) {
#pragma omp parallel num_threads(EMULATED_PROCESSORS)
        if (omp_get_thread_num() < blocks)
            emulated_run_block(grid, (unsigned)omp_get_thread_num());
        return;
    }
#pragma omp parallel for schedule(dynamic, 1)                                                      \
    num_threads(EMULATED_PROCESSORS) if (blocks * grid.block.x > 4096)
    for (int64_t i = 0; i < blocks; i++)
        emulated_run_block(grid, (unsigned)i);
}

cudaError_t emulated_launch(const cudaLaunchConfig_t *config, const void *kernel,
                            std::function<void()> thread)
{
    const dim3 &g = config->gridDim, &b = config->blockDim;
    size_t shared = config->dynamicSmemBytes;
    auto asked = asked_shared.find(kernel);
    if (!g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535 || b.x * b.y * b.z - 1 > 1023 ||
        shared > (asked == asked_shared.end() ? FREELY_SHARED : asked->second))
        return result(cudaErrorInvalidConfiguration);
    bool together = false;
    for (unsigned i = 0; i < config->numAttrs; i++)
        together |= (config->attrs[i].id == cudaLaunchAttributeCooperative &&
                     config->attrs[i].val.cooperative) ||
                    config->attrs[i].id == cudaLaunchAttributeClusterDimension;
    if (together && g.x * g.y * g.z > EMULATED_PROCESSORS)
        return result(cudaErrorCooperativeLaunchTooLarge);
    emulated_give(config->stream, [grid = emulated_grid{g, b, shared, kernel, thread, launches++},
                                   together] { run_grid(grid, together); });
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult *how)
{
    const bool known = strcmp(name, "cuTensorMapEncodeTiled") == 0;
    *out = known ? (void *)emulated_encode_map : nullptr;
    *how = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute what, int value)
{
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize || (unsigned)value > EMULATED_SHARED)
        return result(cudaErrorInvalidValue);
    asked_shared[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int,
                                                                   size_t shared, unsigned)
{
    *blocks = shared <= EMULATED_SHARED;
    return cudaSuccess;
}

/* ---- the card ---- */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : result(cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int)
{
    *value = what == cudaDevAttrComputeCapabilityMajor         ? 9
             : what == cudaDevAttrMultiProcessorCount          ? EMULATED_PROCESSORS
             : what == cudaDevAttrCooperativeLaunch            ? 1
             : what == cudaDevAttrMaxSharedMemoryPerBlockOptin ? (int)EMULATED_SHARED
                                                               : 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    *p = {};
    strcpy(p->name, "emulated");
    p->major = 9;
    p->multiProcessorCount = EMULATED_PROCESSORS;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t rc = last_error;
    last_error = cudaSuccess;
    return rc;
}

const char *cudaGetErrorString(cudaError_t rc)
{
    return rc == cudaSuccess                     ? "no error"
           : rc == cudaErrorMemoryAllocation     ? "out of memory"
           : rc == cudaErrorInvalidConfiguration ? "invalid configuration argument"
           : rc == cudaErrorInvalidValue         ? "invalid argument"
                                                 : "an error";
}

/* ---- memory ---- */

static size_t used()
{
    size_t bytes = 0;
    for (auto &a : allocated)
        bytes += a.second;
    return bytes;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    *left = MEMORY - used();
    *total = MEMORY;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    char *p = bytes <= MEMORY - used() ? emulated_fenced(bytes, bytes <= POISONED) : nullptr;
    if (!p)
        return result(cudaErrorMemoryAllocation);
    allocated[p] = bytes;
    *out = p;
    return cudaSuccess;
}

static cudaError_t let_go(std::map<const void *, size_t> &of, void *p)
{
    auto found = of.find(p);
    if (!p)
        return cudaSuccess;
    finish_all();
    if (found == of.end())
        return result(cudaErrorInvalidValue);
    emulated_fenced_free((char *)p, found->second);
    of.erase(found);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    return let_go(allocated, p);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    char *p = emulated_fenced(bytes, false);
    if (!p)
        return result(cudaErrorMemoryAllocation);
    pinned[p] = bytes;
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    return let_go(pinned, p);
}

/* Whether [p, p + bytes) lies in one of them. */
static bool within(const std::map<const void *, size_t> &of, const void *p, size_t bytes)
{
    auto after = of.upper_bound(p);
    if (after == of.begin())
        return false;
    --after;
    return (const char *)p + bytes <= (const char *)after->first + after->second;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const void *device = kind == cudaMemcpyHostToDevice ? to : from;
    const void *host = kind == cudaMemcpyHostToDevice ? from : to;
    if (!within(allocated, device, bytes))
        return result(cudaErrorInvalidValue);
    emulated_give(stream, [=] { memcpy(to, from, bytes); });
    /* Memory that is not pinned is done with when the call returns. */
    return within(pinned, host, bytes) ? cudaSuccess : finish(stream);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (!within(allocated, to, bytes))
        return result(cudaErrorInvalidValue);
    emulated_give(stream, [=] { memset(to, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    finish_all();
    memset(to, value, bytes);
    return cudaSuccess;
}

/* ---- streams, events, graphs ---- */

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    *out = new CUstream_st();
    streams[*out] = true;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return finish(stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    finish(stream);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    *out = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    return cudaEventCreate(out);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->stream = stream;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return event->stream ? finish(event->stream) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    finish(stream);
    stream->recording = true;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    *status = stream->recording ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    *out = new CUgraph_st();
    (*out)->given.swap(stream->given);
    stream->recording = false;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    *out = new CUgraphExec_st{graph->given};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    for (const work &what : graph->given)
        emulated_give(stream, what);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete graph;
    return cudaSuccess;
}
