/* lora.h - what the files of the LoRA operator share: a group of modules beside one product, as a
 * kernel takes it, and the tensor-core path (lora_fwd.cu, lora_bwd.cu) that lora.cu chooses where
 * it fits. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_LORA_H
#define T5_CUDA_LORA_H

#include "device.h"

#define LORA_GROUP 3         /* modules at most that share a pass */
#define LORA_GROUP_STEPS 4   /* modules x ranks / 16, at most */
#define LORA_PASS_ROWS 16384 /* rows of a pass: bounds the partial sums. A multiple of 16. */

/* One module, as a kernel sees it. */
struct lora_side {
    const float *a, *b; /* (R, K), (N, R) */
    float *da, *db;
    int64_t column; /* of y */
    int rows;       /* N */
    float scale;
    uint32_t site;
};

/* Modules with the same x, rank and dropout probability, as tensor cores take them: ranks and row
 * lengths are multiples of 4, those of x and y of 8, memory aligned to match, at most 64 ranks in
 * all. u act (n, ldu): module m has columns first + m * rank. */
struct lora_group {
    lora_side side[LORA_GROUP];
    int count, rank, first, ldu;
    bool drop;
    round_keys keys;
    uint32_t threshold; /* 16 bits not below keep their column */
    float keep;         /* 1 / (1 - p); 1 without dropout */
};

/* Rows of one pass: pointers are at its first row, which is row `begin` of the pack. */
struct lora_pass {
    int n;
    int64_t begin;
    pack_view pack; /* seq is at the first row */
};

void t5_cuda_lora_mma_fwd(t5_device *dev, bf16 *y, int64_t ldy, bf16 *u, const bf16 *x, int64_t ldx,
                          int cols, const lora_group &group, const lora_pass &pass);
void t5_cuda_lora_mma_bwd(t5_device *dev, bf16 *dx, int64_t lddx, bf16 *du, const bf16 *dy,
                          int64_t lddy, const bf16 *u, const bf16 *x, int64_t ldx, int cols,
                          const lora_group &group, const lora_pass &pass);

#endif
