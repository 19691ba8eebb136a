/* sites.h - the numbers of the places where dropout draws: part of every draw's counter, so they
 * must never change. A site is stack, layer, and one of these. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SITES_H
#define T5_T5_SITES_H

#include <stdint.h>

enum t5_site {
    T5_SITE_EMBED = 0,
    T5_SITE_FINAL = 1,
    T5_SITE_SELF_WEIGHTS = 2,
    T5_SITE_SELF_OUT = 3,
    T5_SITE_CROSS_WEIGHTS = 4,
    T5_SITE_CROSS_OUT = 5,
    T5_SITE_FF_INNER = 6,
    T5_SITE_FF_OUT = 7,
    /* LoRA's own, on a module's input: + the module's place in its block, q k v o of
     * self-attention, q k v o of cross-attention, wi (wi_0) wi_1 wo */
    T5_SITE_LORA = 16,
};

static inline uint32_t t5_site(int is_decoder, int64_t layer, int kind)
{
    return (uint32_t)is_decoder << 24 | (uint32_t)layer << 8 | (uint32_t)kind;
}

#endif
