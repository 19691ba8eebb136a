/* arena.h - lays buffers one behind the other in one allocation. With base NULL it only counts, so
 * that one list of takes both plans memory and assigns it. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_ARENA_H
#define T5_T5_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define T5_ARENA_ALIGNMENT 256 /* bytes, as the backends' alloc */

struct t5_arena {
    char *base;   /* device memory, or NULL: only count */
    int64_t used; /* bytes */
};

/* Room for `elements` of `size` bytes; NULL while counting. */
static inline void *t5_arena_take(struct t5_arena *a, int64_t elements, size_t size)
{
    int64_t at = a->used, bytes = elements * (int64_t)size;
    a->used += (bytes + T5_ARENA_ALIGNMENT - 1) / T5_ARENA_ALIGNMENT * T5_ARENA_ALIGNMENT;
    return a->base ? a->base + at : NULL;
}

#endif
