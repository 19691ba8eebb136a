/* record.cu - work recorded once and queued again as a whole: CUDA graphs. A recording knows the
 * addresses it was made with, so it is out of date once scratch has moved. */
/* SPDX-License-Identifier: MIT */
#include <cstdlib>

#include "device.h"

extern "C" {
#include "base/buf.h"
}

struct t5_recording {
    cudaGraphExec_t graph;
    int moved; /* t5_device.moved when it was made */
};

void t5_cuda_record_begin(t5_device *dev)
{
    /* Thread local: another thread's allocations are its own affair. */
    dev->recording = !t5_cuda_failed(
        dev, cudaStreamBeginCapture(dev->stream, cudaStreamCaptureModeThreadLocal), "recording");
}

t5_recording *t5_cuda_record_end(t5_device *dev)
{
    cudaGraph_t drawn = nullptr;
    t5_err err;
    t5_recording *r = (t5_recording *)t5_alloc_zeroed(1, sizeof *r, "a recording", &err);
    bool good = dev->recording &&
                !t5_cuda_failed(dev, cudaStreamEndCapture(dev->stream, &drawn), "recording") && r &&
                !t5_cuda_failed(dev, cudaGraphInstantiate(&r->graph, drawn, 0), "recording");
    dev->recording = 0;
    if (drawn)
        cudaGraphDestroy(drawn);
    if (good) {
        r->moved = dev->moved;
        return r;
    }
    free(r);
    return nullptr;
}

int t5_cuda_replay(t5_device *dev, t5_recording *r)
{
    if (r->moved != dev->moved)
        return 0;
    t5_cuda_failed(dev, cudaGraphLaunch(r->graph, dev->stream), "replay");
    return 1;
}

void t5_cuda_recording_free(t5_device *dev, t5_recording *r)
{
    if (!r)
        return;
    cudaStreamSynchronize(dev->stream);
    cudaGraphExecDestroy(r->graph);
    free(r);
}
