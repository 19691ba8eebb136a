/* races.cc - shared memory that one thread of a block reads and another writes without their having
 * met in between: what compute-sanitizer's racecheck looks for on a card. Kernels that were
 * compiled with -fsanitize=thread (make check-races) call these functions at every access; with
 * others nothing is compared.
 *
 * Threads have met at a barrier of the block or, in a warp, at one of its instructions; both are
 * counted, so that an access need only be compared with the last ones to the same word. Threads may
 * write the same value to one place; where they write others, results differ with their order.
 * Copies that a barrier in shared memory counts are not compared. */
/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <vector>

#define WORD 2u /* bytes: the smallest that kernels write */

struct moment {
    unsigned block, barrier, meeting, thread;
};
/* Who read a word, or wrote it, since the block's last barrier: warps, and lanes of the last of
 * these warps since that met last. */
struct users {
    moment last;
    uint32_t warps, lanes;
};
struct word {
    users readers, writers;
};

static bool watches; /* there are kernels that were compiled so */

static bool same_phase(const moment &a, const moment &b)
{
    return a.block == b.block && a.barrier == b.barrier;
}

static bool same_meeting(const moment &a, const moment &b)
{
    return same_phase(a, b) && a.thread / 32 == b.thread / 32 && a.meeting == b.meeting;
}

static void note(users &u, const moment &now)
{
    u.warps = (same_phase(u.last, now) ? u.warps : 0) | 1u << now.thread / 32;
    u.lanes = (same_meeting(u.last, now) ? u.lanes : 0) | 1u << now.thread % 32;
    u.last = now;
}

/* Whether others than this thread are among them. */
static bool are_others(const users &u, const moment &now)
{
    return same_phase(u.last, now) &&
           ((u.warps & ~(1u << now.thread / 32)) != 0 ||
            (same_meeting(u.last, now) && (u.lanes & ~(1u << now.thread % 32)) != 0));
}

void emulated_touch(const void *p, size_t bytes, bool writes)
{
    emulated_place at;
    if (!watches || !emulated_find(p, &at))
        return;
    if (!*at.kept)
        *at.kept = new std::vector<word>();
    std::vector<word> *words = (std::vector<word> *)*at.kept;
    const moment now = {at.block, at.barrier, at.meeting, at.thread};
    for (size_t i = at.offset / WORD; i <= (at.offset + bytes - 1) / WORD; i++) {
        if (i >= words->size())
            words->resize(i + 1);
        word &w = (*words)[i];
        const users &others = writes ? w.readers : w.writers;
        if (are_others(others, now))
            emulated_wrong("a race: %s what others %s, among them thread %u",
                           writes ? "writes" : "reads", writes ? "read" : "wrote",
                           others.last.thread);
        note(writes ? w.writers : w.readers, now);
    }
}

/* ---- what the compiler calls ---- */

extern "C" {
void __tsan_init()
{
    watches = true;
}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
#define ACCESS(name, bytes, writes)                                                                \
    void __tsan_##name##bytes(void *p)                                                             \
    {                                                                                              \
        emulated_touch(p, bytes, writes);                                                          \
    }
#define ACCESSES(bytes)                                                                            \
    ACCESS(read, bytes, false)                                                                     \
    ACCESS(write, bytes, true)                                                                     \
    ACCESS(unaligned_read, bytes, false)                                                           \
    ACCESS(unaligned_write, bytes, true)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void *p, size_t bytes)
{
    emulated_touch(p, bytes, false);
}
void __tsan_write_range(void *p, size_t bytes)
{
    emulated_touch(p, bytes, true);
}
/* Atomic accesses do not race with each other; with others they are not compared. */
#define ATOMIC(bits, type)                                                                         \
    type __tsan_atomic##bits##_fetch_add(volatile type *p, type x, int)                            \
    {                                                                                              \
        return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    type __tsan_atomic##bits##_load(const volatile type *p, int)                                   \
    {                                                                                              \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                               \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile type *p, type x, int)                                \
    {                                                                                              \
        __atomic_store_n(p, x, __ATOMIC_SEQ_CST);                                                  \
    }
ATOMIC(8, uint8_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)
}
