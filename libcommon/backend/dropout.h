/* dropout.h - the one definition of a dropout draw, for every host-side backend. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BACKEND_DROPOUT_H
#define T5_BACKEND_DROPOUT_H

#include "backend/backend.h"
#include "base/rng.h"

T5_HOST_DEVICE static inline int t5_dropout_active(const struct t5_dropout *d)
{
    return d && d->p > 0;
}

/* 16 bits below it drop: p to the nearest 2^-16, below 1. */
T5_HOST_DEVICE static inline uint32_t t5_dropout_threshold(float p)
{
    uint32_t threshold = (uint32_t)(p * 65536.0f + 0.5f);
    return threshold < 65536 ? threshold : 65535;
}

/* What is kept is multiplied by it: 1 / (1 - p), of p as it is drawn. */
T5_HOST_DEVICE static inline float t5_dropout_keep(float p)
{
    return 65536.0f / (float)(65536 - t5_dropout_threshold(p));
}

/* Dropout draws more than anything else does, in the middle of the training step: the fewest rounds
 * that are known to be good. */
#define T5_DROPOUT_ROUNDS 7

/* The draws for columns 8 * octet .. 8 * octet + 7 of (record, position), two in each word, the
 * lower half first. */
T5_HOST_DEVICE static inline struct t5_philox
t5_dropout_draw(const struct t5_dropout *d, uint32_t record, uint32_t position, uint32_t octet)
{
    uint32_t counter[4] = {record, position, octet, d->site};
    return t5_philox_rounds(counter, d->key, T5_DROPOUT_ROUNDS);
}

/* 0, or 1 / (1 - p): what element (record, position, column) is multiplied by. */
T5_HOST_DEVICE static inline float t5_dropout_factor(const struct t5_dropout *d, uint32_t record,
                                                     uint32_t position, uint32_t column)
{
    struct t5_philox draw = t5_dropout_draw(d, record, position, column / 8);
    uint32_t bits = draw.v[column % 8 / 2] >> column % 2 * 16 & 0xffff;
    return bits >= t5_dropout_threshold(d->p) ? t5_dropout_keep(d->p) : 0.0f;
}

#endif
