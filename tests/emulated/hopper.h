/* hopper.h - the second half of instructions.h: copies that a barrier counts, and words that blocks
 * hand to each other. Half of the barriers' copies are made when they are asked for, the others'
 * when somebody waits. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_EMULATED_HOPPER_H
#define T5_TESTS_EMULATED_HOPPER_H

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

/* Barriers order by themselves what uses them (races.cc). */
#define UNWATCHED __attribute__((no_sanitize("thread"), noinline))

/* What a barrier's 8 bytes are: phases that have ended; arrivals a phase takes, and still waits
 * for; bytes that were announced and not copied, or, below 0, the other way round. */
struct emulated_barrier {
    uint8_t phases, arrivals, missing, unused;
    int32_t bytes;
};
struct emulated_bulk {
    std::function<void()> copy;
    int32_t bytes;
};
/* Of all blocks: thread-local memory would count as theirs. */
inline std::mutex emulated_bulk_lock;
inline std::map<uint64_t *, std::vector<emulated_bulk>> emulated_bulks;

inline bool one_lane()
{
    __syncwarp(); /* as it waits for all lanes */
    return threadIdx.x % 32 == 0;
}
UNWATCHED inline void emulated_barrier_init(uint64_t *barrier, uint32_t arrivals)
{
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    emulated_bulks[barrier].clear();
    *(emulated_barrier *)barrier = {0, (uint8_t)arrivals, (uint8_t)arrivals, 0, 0};
}
/* With the lock. */
UNWATCHED inline void emulated_count(uint64_t *barrier, int arrivals, int32_t bytes)
{
    emulated_barrier *b = (emulated_barrier *)barrier;
    if (arrivals > b->missing) {
        fprintf(stderr, "emulated: a barrier's phase begins before the one in front has ended\n");
        abort();
    }
    b->missing -= (uint8_t)arrivals;
    b->bytes += bytes;
    if (b->missing == 0 && b->bytes == 0) {
        b->missing = b->arrivals;
        b->phases++;
    }
}
UNWATCHED inline void emulated_bulk_copy(uint64_t *barrier, const emulated_bulk &what, void *to)
{
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    if ((uintptr_t)barrier / sizeof *barrier % 2) {
        what.copy();
        emulated_count(barrier, 0, -what.bytes);
        return;
    }
    memset(to, 0xff, (size_t)what.bytes);
    emulated_bulks[barrier].push_back(what);
}
inline void barrier_init(uint64_t *barrier)
{
    emulated_barrier_init(barrier, 1);
}
UNWATCHED inline void barrier_expect(uint64_t *barrier, uint32_t bytes)
{
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    emulated_count(barrier, 1, (int32_t)bytes);
}
inline void copy_bulk(void *to, const void *from, uint32_t bytes, uint64_t *barrier)
{
    if ((uintptr_t)from % 16 || (uintptr_t)to % 16 || bytes % 16 || bytes == 0) {
        fprintf(stderr, "emulated: a bulk copy of %u bytes from %p to %p\n", bytes, from, to);
        abort();
    }
    emulated_bulk_copy(barrier, {[=] { memcpy(to, from, bytes); }, (int32_t)bytes}, to);
}
/* Makes what this barrier still waits for. Whether the phase of that parity has ended. */
UNWATCHED inline bool emulated_ended(uint64_t *barrier, uint32_t parity)
{
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    const emulated_barrier *b = (emulated_barrier *)barrier;
    if ((b->phases & 1) != parity)
        return true;
    std::vector<emulated_bulk> now;
    now.swap(emulated_bulks[barrier]);
    for (const emulated_bulk &what : now) {
        what.copy();
        emulated_count(barrier, 0, -what.bytes);
    }
    return (b->phases & 1) != parity;
}
inline void barrier_wait(uint64_t *barrier, uint32_t parity)
{
    while (!emulated_ended(barrier, parity))
        emulated_yield();
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
