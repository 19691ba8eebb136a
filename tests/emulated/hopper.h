/* hopper.h - the second half of instructions.h: copies that a barrier counts, and words that blocks
 * hand to each other. A barrier holds how many of its phases have ended and, in its lower half, the
 * bytes that the present one still waits for. Half of the barriers' copies are made when they are
 * asked for, the others' when somebody waits. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_EMULATED_HOPPER_H
#define T5_TESTS_EMULATED_HOPPER_H

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

/* Barriers order by themselves what uses them (races.cc). */
#define UNWATCHED __attribute__((no_sanitize("thread"), noinline))

struct emulated_bulk {
    void *to;
    const void *from;
    uint32_t bytes;
};
/* Of all blocks: thread-local memory would count as theirs. */
inline std::mutex emulated_bulk_lock;
inline std::map<uint64_t *, std::vector<emulated_bulk>> emulated_bulks;

inline bool one_lane()
{
    __syncwarp(); /* as it waits for all lanes */
    return threadIdx.x % 32 == 0;
}
UNWATCHED inline void barrier_init(uint64_t *barrier)
{
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    emulated_bulks[barrier].clear();
    *barrier = 0;
}
UNWATCHED inline void barrier_expect(uint64_t *barrier, uint32_t bytes)
{
    if ((uint32_t)*barrier != 0) {
        fprintf(stderr, "emulated: a barrier's phase begins before the one in front has ended\n");
        abort();
    }
    *barrier += bytes;
}
UNWATCHED inline void emulated_arrive(uint64_t *barrier, const emulated_bulk &copy)
{
    memcpy(copy.to, copy.from, copy.bytes);
    *barrier -= copy.bytes;
    if ((uint32_t)*barrier == 0)
        *barrier += (uint64_t)1 << 32;
}
UNWATCHED inline void copy_bulk(void *to, const void *from, uint32_t bytes, uint64_t *barrier)
{
    emulated_bulk copy = {to, from, bytes};
    if ((uintptr_t)from % 16 || (uintptr_t)to % 16 || bytes % 16 || bytes == 0) {
        fprintf(stderr, "emulated: a bulk copy of %u bytes from %p to %p\n", bytes, from, to);
        abort();
    }
    if ((uintptr_t)barrier / sizeof *barrier % 2) {
        emulated_arrive(barrier, copy);
        return;
    }
    memset(to, 0xff, bytes);
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    emulated_bulks[barrier].push_back(copy);
}
UNWATCHED inline void barrier_wait(uint64_t *barrier, uint32_t parity)
{
    while ((*barrier >> 32 & 1) == parity) {
        {
            std::lock_guard<std::mutex> lock(emulated_bulk_lock);
            for (const emulated_bulk &copy : emulated_bulks[barrier])
                emulated_arrive(barrier, copy);
            emulated_bulks[barrier].clear();
        }
        if ((*barrier >> 32 & 1) == parity)
            emulated_yield();
    }
}

inline void store_tagged(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
}
inline void load_tagged(uint64_t (&v)[2], const uint64_t *from)
{
    if ((uintptr_t)from % 16) {
        fprintf(stderr, "emulated: two words at %p\n", (const void *)from);
        abort();
    }
    v[0] = __atomic_load_n(from, __ATOMIC_RELAXED);
    v[1] = __atomic_load_n(from + 1, __ATOMIC_RELAXED);
}

[[noreturn]] inline void __trap()
{
    fprintf(stderr, "emulated: a kernel gives up\n");
    abort();
}

inline void poll_again()
{
    emulated_yield();
}

inline int64_t ticks()
{
    static std::atomic<int64_t> now;
    return now++;
}

#endif
