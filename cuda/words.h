/* words.h - vectors that the blocks of one running kernel hand to each other: words of 8 bytes, the
 * upper half a tag that says which vector of the kernel's life they belong to. Whoever needs a word
 * reads it until its tag is right: there is no barrier, no fence, and the data comes with the read
 * that finds it ready. All blocks must be running. A place is written again only when the writer
 * has read something that every reader of the old vector has written behind its read. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_WORDS_H
#define T5_CUDA_WORDS_H

#include "instructions.h"

#define WORDS_POLLS                                                                                \
    (1 << 23) /* seconds: then something is wrong, and the kernel ends in an error */

__device__ inline void publish(uint64_t *to, uint32_t payload, uint32_t tag)
{
    store_tagged(to, (uint64_t)tag << 32 | payload);
}

/* Pairs of words first, first + stride, ... of `pairs`, up to EACH of them: asks for all that are
 * missing again and again. */
template <int EACH>
__device__ inline void await_words(uint32_t (&payload)[EACH][2], const uint64_t *words, int first,
                                   int stride, int pairs, uint32_t tag)
{
    uint32_t open = 0;
#pragma unroll
    for (int k = 0; k < EACH; k++)
        open |= first + k * stride < pairs ? 1u << k : 0;
    for (int polls = 0; open; polls++) {
        uint64_t v[EACH][2];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (open >> k & 1)
                load_tagged(v[k], words + 2 * (first + k * stride));
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (open >> k & 1 && v[k][0] >> 32 == tag && v[k][1] >> 32 == tag) {
                payload[k][0] = (uint32_t)v[k][0], payload[k][1] = (uint32_t)v[k][1];
                open &= ~(1u << k);
            }
        if (open)
            poll_again();
        if (polls == WORDS_POLLS)
            __trap();
    }
}

#endif
