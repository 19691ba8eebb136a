/* wgmma.h - what matmul_int8.cu needs of Hopper (sm_90a) beside instructions.h: the matrix
 * instruction of a warpgroup, tensor copies to both blocks of a cluster, barriers across them. PTX
 * ISA: "wgmma", "Matrix Descriptor Format", "cp.async.bulk.tensor", "mbarrier". */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_WGMMA_H
#define T5_CUDA_WGMMA_H

#include <cuda.h>

#include "instructions.h"

/* Rows of 128 bytes, eight of them an atom of 1,024, in which 16-byte units are exchanged by row
 * ("128-byte swizzle"): what a tensor copy of such a box leaves, from a multiple of 1,024 on. Two
 * more is 32 bytes further along the rows. */
__device__ inline uint64_t matrix_descriptor(const void *tile)
{
    const uint64_t unit = shared_address(tile) >> 4 & 0x3fff;
    return unit | 1ull << 16 | 64ull << 32 | 1ull << 62; /* 64 units from atom to atom */
}

/* A barrier of so many threads, whole warps; 0 is that of the block. */
__device__ inline void warps_sync(int id, int threads)
{
    asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* sum (64, N) [+]= a (64, 32) b (N, 32)^T, by a warpgroup. Lane 4g + t of warp w holds rows
 * 16 w + g (sum[4j], sum[4j + 1]) and 16 w + g + 8 (sum[4j + 2], sum[4j + 3]) at columns 8j + 2t
 * and 8j + 2t + 1. */
#define SUMS_4(i) "+r"(sum[i]), "+r"(sum[i + 1]), "+r"(sum[i + 2]), "+r"(sum[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32), SUMS_16(i + 48)
#define NAMES_64                                                                                   \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "   \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "   \
    "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "   \
    "%56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_96                                                                                   \
    NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "  \
             "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define NAMES_128                                                                                  \
    NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "  \
             "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, "      \
             "%123, %124, %125, %126, %127"

#define WARPGROUP_MMA(n, names, a_name, b_name, add_name, ...)                                     \
    __device__ inline void warpgroup_mma(int(&sum)[n / 2], uint64_t a, uint64_t b, int add)        \
    {                                                                                              \
        asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, " add_name ", 0;\n\t"                   \
                     "wgmma.mma_async.sync.aligned.m64n" #n "k32.s32.s8.s8 {" names "}, " a_name   \
                     ", " b_name ", p;\n\t}"                                                       \
                     : __VA_ARGS__                                                                 \
                     : "l"(a), "l"(b), "r"(add));                                                  \
    }
WARPGROUP_MMA(128, NAMES_64, "%64", "%65", "%66", SUMS_64(0))
WARPGROUP_MMA(192, NAMES_96, "%96", "%97", "%98", SUMS_64(0), SUMS_16(64), SUMS_16(80))
WARPGROUP_MMA(256, NAMES_128, "%128", "%129", "%130", SUMS_64(0), SUMS_64(64))
/* Before the first of a row of them, whose sums other instructions have written or read. */
__device__ inline void warpgroup_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/* Closes a group of them. */
__device__ inline void warpgroup_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits for this warpgroup's groups but the last N. */
template <int N> __device__ inline void warpgroup_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Registers a thread of this warpgroup may have from here on: fewer, or what others gave away. */
template <int N> __device__ inline void registers_less()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ inline void registers_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/* ---- a cluster ---- */

__device__ inline uint32_t cluster_rank()
{
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
/* A barrier of all threads of a cluster. */
__device__ inline void cluster_sync()
{
    asm volatile("barrier.cluster.arrive.release;\n\t"
                 "barrier.cluster.wait.acquire;" ::
                     : "memory");
}
/* A phase takes so many arrivals. Other threads may use it behind a barrier of the cluster. */
__device__ inline void cluster_barrier_init(uint64_t *barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n\t"
                 "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
/* Arrives at the one at the same place of block `rank`. What this thread wrote before may not be
 * seen there yet. */
__device__ inline void cluster_arrive(uint64_t *barrier, uint32_t rank)
{
    asm volatile(
        "{\n\t.reg .b32 there;\n\t"
        "mapa.shared::cluster.u32 there, %0, %1;\n\t"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
}

/* ---- tensor copies: a box of the map's at column x and row y; zeros outside the matrix ---- */

__device__ inline void prefetch_map(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
__device__ inline void copy_box(void *to, const CUtensorMap *map, int x, int y, uint64_t *barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
                 "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier))
                 : "memory");
}
/* To the same place of both blocks, each of whose barriers counts it. */
__device__ inline void copy_box_both(void *to, const CUtensorMap *map, int x, int y,
                                     uint64_t *barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
                 "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)), "h"((uint16_t)3)
                 : "memory");
}

#endif
