/* dependent.h - launches that overlap with the end of the kernel before: programmatic dependent
 * launch of the CUDA programming guide, Hopper and later.
 *
 * A kernel that calls dependency_release lets the next start early, if that was launched with
 * launch_dependent. Such a kernel calls dependency_wait in every thread before it reads or writes
 * anything that another kernel of the stream writes; before that it may read only what no kernel
 * that releases early writes: weights and parameters. Because all of them wait, whatever ran
 * earlier in the stream is complete behind the wait, too. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_DEPENDENT_H
#define T5_CUDA_DEPENDENT_H

#include "device.h"

__device__ inline void dependency_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void dependency_release()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* launch_kernel, but it may start while the one before ends. */
template <typename... P>
static void launch_dependent(t5_device *dev, void (*kernel)(P...), dim3 grid, dim3 block,
                             size_t shared, std::type_identity_t<P>... args)
{
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block;
    config.dynamicSmemBytes = shared, config.stream = dev->stream;
    config.attrs = &overlap;
    config.numAttrs = dev->overlaps ? 1 : 0;
    t5_cuda_failed(dev, cudaLaunchKernelEx(&config, kernel, args...), "a launch");
}

#endif
