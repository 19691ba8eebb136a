/* ordered.h - batches through threads, out in the order they came in. Every thread reads, works or
 * writes, whatever is next; at most 2 batches a thread are under way, so memory is bounded. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_ORDERED_H
#define T5_BASE_ORDERED_H

#include "base/err.h"

struct t5_ordered {
    void *arg;
    /* Fills batch. 1; 0: there is none. One call at a time, in order; may wait for input. A failure
     * is put into the batch, so that it comes out behind what precedes it. */
    int (*read)(void *arg, void *batch);
    /* The work, on any thread; worker is its number from 0. */
    void (*work)(void *arg, int worker, void *batch);
    /* One call at a time, in order. -1 ends everything. */
    int (*write)(void *arg, void *batch, struct t5_err *err);
};

#define T5_MAX_THREADS 256

/* Batches needed for so many threads. */
static inline int t5_ordered_batches(int threads) { return threads > 1 ? 2 * threads + 1 : 1; }
/* Runs to the end on `threads` threads; batches[0 .. t5_ordered_batches) are the caller's. */
int t5_ordered_run(const struct t5_ordered *ops, void *const *batches, int threads,
                   struct t5_err *err) T5_MUST_CHECK;

#endif
