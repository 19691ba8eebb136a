/* dynamic_map.h - 8-bit optimiser states (arXiv:2110.02861): a value is map[code] x the largest
 * magnitude of its block of 256. The maps, and one block's step of AdamW, which ref and cpu share.
 */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BACKEND_DYNAMIC_MAP_H
#define T5_BACKEND_DYNAMIC_MAP_H

#include "backend/backend.h"

/* Dynamic tree quantisation, ascending: maps[0..255] signed, maps[256..511] for values that are not
 * negative. */
void t5_dynamic_maps(float maps[2 * T5_MAP]);
/* The code of the nearest value. */
uint8_t t5_dynamic_code(const float map[T5_MAP], float x);

/* Constants of one step, worked out in double. */
struct t5_adamw8_step {
    float gradient; /* clip coefficient */
    float beta1, beta2;
    float keep; /* 1 - lr x weight decay */
    float rate; /* lr / (1 - beta1^step) */
    float root; /* 1 / sqrt(1 - beta2^step) */
    float eps;
};
struct t5_adamw8_step t5_adamw8_step(const struct t5_adamw *how, double sum_squares);
/* n <= T5_BLOCK8 elements. */
void t5_adamw8_block(float *p, const float *g, uint8_t *m, uint8_t *v, float *m_scale,
                     float *v_scale, int n, const float maps[2 * T5_MAP],
                     const struct t5_adamw8_step *step);

#endif
