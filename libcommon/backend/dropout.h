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

/* The four draws for columns 4 * quad .. 4 * quad + 3 of (record, position). */
T5_HOST_DEVICE static inline struct t5_philox
t5_dropout_draw(const struct t5_dropout *d, uint32_t record, uint32_t position, uint32_t quad)
{
    uint32_t counter[4] = {record, position, quad, d->site};
    return t5_philox(counter, d->key);
}

/* 0, or 1 / (1 - p): what element (record, position, column) is multiplied by. */
T5_HOST_DEVICE static inline float t5_dropout_factor(const struct t5_dropout *d, uint32_t record,
                                                     uint32_t position, uint32_t column)
{
    struct t5_philox draw = t5_dropout_draw(d, record, position, column / 4);
    return t5_uniform(draw.v[column % 4]) >= d->p ? 1.0f / (1.0f - d->p) : 0.0f;
}

#endif
