/* emulated.h - CUDA C++ for a host compiler: included in front of every file of cuda/, it gives
 * what kernels use beside C++. A block's threads are fibers of one thread of the host (block.cc),
 * so a block's static shared memory is thread-local. instructions.h beside it stands in for the
 * instructions without a name; runtime.cc and blas.cc for NVIDIA's libraries.
 *
 * What it finds: wrong indices and sums; memory that nobody wrote (NaN) or that lies behind an
 * allocation; threads that do not meet at a barrier; a missing barrier or wait, as the order of
 * threads and the moment of asynchronous copies differ from block to block. Not: what only a card's
 * timing, caches or rounding shows, and work that starts before the kernel in front has ended. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_EMULATED_H
#define T5_TESTS_EMULATED_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>

#include <cuda_runtime.h>

#undef __shared__
#define __shared__ static thread_local
#define __launch_bounds__(...)

/* ---- where a thread is ---- */

extern constinit thread_local uint3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- waiting (block.cc) ---- */

typedef std::source_location emulated_line;

/* All threads of the block meet, at one line. */
void __syncthreads(emulated_line line = emulated_line::current());
/* Others run first: for loops that wait for memory. */
void emulated_yield();
/* All lanes of the warp meet; the last to come does work(lanes) for all of them, lanes[i] being
 * what lane i gave, NULL where the block ends before. */
void emulated_meet(void (*work)(void *const *lanes), void *mine, unsigned mask, emulated_line line);

/* Says that threads of the block have met otherwise: what they write counts as ordered (races.cc).
 */
void emulated_warps_met();

/* cp.async; from NULL: zeros. */
void emulated_copy(void *to, const void *from, size_t bytes);
void emulated_copy_commit();
void emulated_copy_wait(unsigned newest);

char *emulated_dynamic_shared();
uint32_t emulated_shared_address(const void *p);
void *emulated_shared_pointer(uint32_t address);

/* ---- launches (runtime.cc) ---- */

cudaError_t emulated_launch(const cudaLaunchConfig_t *config, const void *kernel,
                            std::function<void()> thread);

/* In place of the toolkit's, which keep no types. */
#define cudaLaunchKernelEx emulated_launch_kernel
template <typename... P, typename... A>
cudaError_t emulated_launch_kernel(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                                   A &&...args)
{
    std::tuple<P...> held(std::forward<A>(args)...);
    return emulated_launch(config, reinterpret_cast<const void *>(kernel),
                           [kernel, held] { std::apply(kernel, held); });
}

template <typename K> cudaError_t cudaFuncSetAttribute(K *kernel, cudaFuncAttribute what, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), what, value);
}

/* ---- arithmetic ---- */

template <typename A, typename B> std::common_type_t<A, B> min(A a, B b)
{
    std::common_type_t<A, B> x = a, y = b;
    return y < x ? y : x;
}
template <typename A, typename B> std::common_type_t<A, B> max(A a, B b)
{
    std::common_type_t<A, B> x = a, y = b;
    return x < y ? y : x;
}

inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline uint32_t __float_as_uint(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Bytes of b:a (a's are 0 to 3), one for each of selector's four lowest nibbles. */
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return out;
}

inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}
inline float __expf(float x)
{
    return expf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
template <typename T> T atomicAdd(T *to, T x)
{
    return __atomic_fetch_add(to, x, __ATOMIC_SEQ_CST);
}

/* ---- a warp's functions ---- */

inline void __syncwarp(unsigned mask = ~0u, emulated_line line = emulated_line::current())
{
    emulated_meet([](void *const *) {}, &mask, mask, line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int lane_mask, emulated_line line = emulated_line::current())
{
    struct given {
        T x, got;
        int from;
    } mine = {x, x, lane_mask};
    auto exchange = [](void *const *lanes) {
        for (int i = 0; i < 32; i++)
            if (given *to = static_cast<given *>(lanes[i]))
                if (const given *from = static_cast<given *>(lanes[i ^ to->from]))
                    to->got = from->x;
    };
    emulated_meet(exchange, &mine, mask, line);
    return mine.got;
}

inline unsigned __ballot_sync(unsigned mask, bool is, emulated_line line = emulated_line::current())
{
    unsigned mine = is;
    auto vote = [](void *const *lanes) {
        unsigned all = 0;
        for (int i = 0; i < 32; i++)
            all |= lanes[i] ? *static_cast<unsigned *>(lanes[i]) << i : 0;
        for (int i = 0; i < 32; i++)
            if (lanes[i])
                *static_cast<unsigned *>(lanes[i]) = all;
    };
    emulated_meet(vote, &mine, mask, line);
    return mine;
}

inline unsigned __reduce_max_sync(unsigned mask, unsigned x,
                                  emulated_line line = emulated_line::current())
{
    auto reduce = [](void *const *lanes) {
        unsigned most = 0;
        for (int i = 0; i < 32; i++)
            most = lanes[i] ? max(most, *static_cast<unsigned *>(lanes[i])) : most;
        for (int i = 0; i < 32; i++)
            if (lanes[i])
                *static_cast<unsigned *>(lanes[i]) = most;
    };
    emulated_meet(reduce, &x, mask, line);
    return x;
}

inline bool __any_sync(unsigned mask, bool is, emulated_line line = emulated_line::current())
{
    return __ballot_sync(mask, is, line) != 0;
}

#include "instructions.h"

#endif
