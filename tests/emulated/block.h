/* block.h - one block of threads, for runtime.cc. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_EMULATED_BLOCK_H
#define T5_TESTS_EMULATED_BLOCK_H

#include "emulated.h"

#define EMULATED_SHARED (227u << 10) /* bytes that a block may ask for */
/* Multiprocessors; so many threads of the host run whatever runs in parallel, so that none of them
 * ends with its fibers between two launches. */
#define EMULATED_PROCESSORS 4

struct emulated_grid {
    dim3 grid, block;
    size_t shared;
    const void *kernel; /* for messages */
    std::function<void()> thread;
    unsigned number; /* of the launch: picks the order in which threads run */
};

/* Runs block `index` of the grid to its end. Different threads of the host may run different blocks
 * at a time; each keeps the fibers and the shared memory that it needs. */
void emulated_run_block(const emulated_grid &grid, unsigned index);

/* Done when the host waits for the stream (runtime.cc). */
void emulated_give(cudaStream_t stream, std::function<void()> work);

/* Says what is wrong, and aborts. */
[[noreturn]] void emulated_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory that ends where nothing may be touched, filled with NaN if `poisoned`; bytes are rounded
 * up to 16. NULL: there is none. */
char *emulated_fenced(size_t bytes, bool poisoned);
void emulated_fenced_free(char *p, size_t bytes);

/* Where the thread that runs stands, if p is in its block's shared memory: how many blocks,
 * barriers of its block and meetings of its warp there have been, and p's place. */
struct emulated_place {
    unsigned block, barrier, meeting, thread;
    size_t offset;
    void **kept; /* races.cc's, of this thread of the host */
};
bool emulated_find(const void *p, emulated_place *at);

/* Aborts if an access to shared memory races with another (races.cc). */
void emulated_touch(const void *p, size_t bytes, bool writes);

#endif
