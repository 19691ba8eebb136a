/* instructions.h - the tensor-core, shared-memory and copy instructions (sm_80 and later) that CUDA
 * C++ has no name for, as functions: nothing but this and wgmma.h holds PTX, so that tests/emulated
 * can stand in for them. Fragment layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16"
 * and "ldmatrix". */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_INSTRUCTIONS_H
#define T5_CUDA_INSTRUCTIONS_H

#include <stdint.h>

/* The shared memory that a launch asks for, of which a block has one, from a multiple of 128 on. */
template <typename T> __device__ inline T *dynamic_shared()
{
    extern __shared__ __align__(128) uint4 dynamic_bytes[];
    return reinterpret_cast<T *>(dynamic_bytes);
}

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* c (16, 8) += a (16, 16) b (16, 8). Lane 4g + t holds c rows g (c[0], c[1]) and g + 8 (c[2], c[3])
 * at columns 2t, 2t + 1; a the same rows at columns 2t, 2t + 1 (a[0], a[1]) and 2t + 8, 2t + 9
 * (a[2], a[3]); b column g at rows 2t, 2t + 1 (b0) and 2t + 8, 2t + 9 (b1). */
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* d = c + a b */
__device__ inline void mma(float (&d)[4], const float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                           uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

/* 16 bytes of shared memory */
__device__ inline void load_words(uint32_t (&w)[4], uint32_t address)
{
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                 : "r"(address)
                 : "memory");
}

/* Four 8 x 8 matrices of 16-bit elements. Lanes 8i .. 8i + 7 give the addresses of matrix i's rows;
 * lane 4g + t gets its row g at columns 2t, 2t + 1, or, transposed, its column g at rows 2t
 * and 2t + 1. */
__device__ inline void load_matrices(uint32_t (&m)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
}
__device__ inline void load_transposed(uint32_t (&m)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
}

/* One 8 x 8 matrix in registers, lane 4g + t holding row g at columns 2t, 2t + 1, becomes its transpose: column g at
 * rows 2t, 2t + 1. */
__device__ inline uint32_t transpose_matrix(uint32_t m)
{
    uint32_t t;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(m));
    return t;
}

/* 16 bytes from global to shared memory, or 16 zeros. */
__device__ inline void copy_async(uint32_t to, const void *from, bool zeros)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(zeros ? 0 : 16)
                 : "memory");
}
/* Closes a group of copies, which may be empty. */
__device__ inline void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits for this thread's groups but the last N. */
template <int N> __device__ inline void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- Hopper: copies that a barrier in shared memory counts (PTX ISA, "mbarrier" and
 * "cp.async.bulk"); words that threads of different blocks hand to each other ---- */

/* True in one lane of a warp whose lanes all ask. */
__device__ inline bool one_lane()
{
#if __CUDA_ARCH__ >= 900
    uint32_t is;
    asm volatile("{\n\t.reg .pred p;\n\t"
                 "elect.sync _|p, 0xffffffff;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(is));
    return is;
#else
    return threadIdx.x % 32 == 0;
#endif
}
/* One arrival completes a phase. Other threads may use it behind a block barrier. */
__device__ inline void barrier_init(uint64_t *barrier)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n\t"
                 "fence.proxy.async.shared::cta;" ::"r"(shared_address(barrier))
                 : "memory");
#endif
}
/* The arrival of this phase, which ends when so many bytes have been copied. */
__device__ inline void barrier_expect(uint64_t *barrier, uint32_t bytes)
{
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
#endif
}
/* Waits for the end of a phase; parity: that of its number, from 0. */
__device__ inline void barrier_wait(uint64_t *barrier, uint32_t parity)
{
#if __CUDA_ARCH__ >= 900
    uint32_t done = 0;
    while (!done)
        asm volatile("{\n\t.reg .pred p;\n\t"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, p;\n\t}"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
#endif
}
/* Global to shared memory by the copy engine; addresses and bytes are multiples of 16. What is read
 * is not wanted again: it is the first that L2 lets go. */
__device__ inline void copy_bulk(void *to, const void *from, uint32_t bytes, uint64_t *barrier)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n\t.reg .b64 policy;\n\t"
                 "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n\t"
                 "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], policy;\n\t}" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
#endif
}

/* 8 bytes that another block sees whole, or not yet; of two that are read side by side each. They
 * order nothing else. */
__device__ inline void store_tagged(uint64_t *to, uint64_t value)
{
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
__device__ inline void load_tagged(uint64_t (&v)[2], const uint64_t *from)
{
    asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];"
                 : "=l"(v[0]), "=l"(v[1])
                 : "l"(from)
                 : "memory");
}

/* Between two reads of a word that was not there: nothing to do on a card. */
__device__ inline void poll_again() {}

/* The multiprocessor's clock. */
__device__ inline int64_t ticks()
{
    return clock64();
}

/* 16 bytes that are read once. volatile: stays in front of dependency_wait. */
__device__ inline uint4 load_once(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

/* Into L2: the 128 bytes around p; `bytes`, a multiple of 16, from p on (sm_90). */
__device__ inline void prefetch_line(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
__device__ inline void prefetch_bulk(const void *p, uint32_t bytes)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

/* (x & mask) | set in one instruction, which the compiler does not find where both are constants. */
__device__ inline uint32_t and_or(uint32_t x, uint32_t mask, uint32_t set)
{
    uint32_t y;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(x), "r"(mask), "r"(set));
    return y;
}

/* The larger, NaN where either is. */
__device__ inline float max_nan(float a, float b)
{
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

/* 2^x to 2 ulp, with exp2(-inf) = 0 */
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* 1 / x to 1 ulp, 0 where that is below 2^-126 */
__device__ inline float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* log2(x) to 2^-22 */
__device__ inline float log2_fast(float x)
{
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
