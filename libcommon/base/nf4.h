/* nf4.h - NF4, bitsandbytes' 4-bit type (arXiv:2305.14314): how its values are read. The codes of a
 * matrix run through it flat, row after row, two a byte, the first in the high half. Every 64 of
 * them share a block scale, itself 8 bits: every 256 block scales share a group scale, and all of
 * the matrix one offset.
 *
 *   value[i] = t5_nf4_code[code i] x block_scale[i / 64]
 *   block_scale[b] = map[block[b]] x scale[1 + b / 256] + scale[0]       (f32, rounded at each
 * step)
 *
 * where `map` is the signed 8-bit dynamic map of arXiv:1511.04561, which 8-bit optimiser states take,
 * too (backend/dynamic_map.h). To get there: io/quant_nf4.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_NF4_H
#define T5_BASE_NF4_H

#include <stdint.h>

enum { T5_NF4_BLOCK = 64, T5_NF4_GROUP = 256 };

extern const float t5_nf4_code[16]; /* ascending */
float t5_nf4_map(uint8_t code);     /* ascending */

/* Of a matrix of so many elements: bytes of codes, block scales, and f32 scales (offset and
 * groups).
 */
static inline int64_t t5_nf4_bytes(int64_t elements)
{
    return elements / 2 + elements % 2;
}
static inline int64_t t5_nf4_blocks(int64_t elements)
{
    return elements / T5_NF4_BLOCK + (elements % T5_NF4_BLOCK != 0);
}
static inline int64_t t5_nf4_scales(int64_t elements)
{
    int64_t blocks = t5_nf4_blocks(elements);
    return 1 + blocks / T5_NF4_GROUP + (blocks % T5_NF4_GROUP != 0);
}

/* block_scale[first ..] of n blocks. block U8 (blocks), scale F32 (1 + groups) at any alignment. */
void t5_nf4_block_scales(float *out, const uint8_t *block, const void *scale, int64_t first,
                         int64_t n);
/* Values [from, from + n) of the flat matrix. */
void t5_nf4_read(float *out, const uint8_t *codes, const uint8_t *block, const void *scale,
                 int64_t from, int64_t n);

#endif
