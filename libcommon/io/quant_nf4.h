/* quant_nf4.h - weights to NF4 as bitsandbytes' quantize_4bit(compress_statistics=True) on a CPU
 * makes it, to the bit: codes, block codes, group scales and offset. Reading: base/nf4.h.
 *
 * Codes: w x (1 / absmax of its block), then the nearest of the code book, the lower one in the
 * middle. Block scales: absmax - their mean, relative to the largest magnitude of a group of 256,
 * on a grid of 65,536 points over [-1, 1], then the code of the map nearest to that point. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_QUANT_NF4_H
#define T5_IO_QUANT_NF4_H

#include <stdint.h>

/* n weights from a block's first on; n is a multiple of 64 unless the matrix ends there. codes
 * (t5_nf4_bytes(n)), absmax (t5_nf4_blocks(n)). Returns -1, or the index of the first that is not
 * finite. */
int64_t t5_nf4_codes(uint8_t *codes, float *absmax, const float *w, int64_t n);
/* All block scales of a matrix, once they are known; absmax is overwritten. block (blocks), scale
 * (1 + groups). */
void t5_nf4_scales_pack(uint8_t *block, float *scale, float *absmax, int64_t blocks);

#endif
