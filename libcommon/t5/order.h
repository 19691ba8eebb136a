/* order.h - which record stands at each place of an epoch: keyed by (seed, epoch), so that a
 * resumed run needs no state. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_ORDER_H
#define T5_T5_ORDER_H

#include "t5/dataset.h"

enum t5_order_kind {
    T5_ORDER_SHUFFLE,
    T5_ORDER_FILE,
    T5_ORDER_LENGTH, /* shuffled, then within each 50 batches' worth sorted by length and cut into
                        batches of like length, which come in shuffled order */
};
#define T5_ORDER_GROUP 50 /* batches sorted together: HF's LengthGroupedSampler */

struct t5_order {
    enum t5_order_kind kind;
    uint64_t seed;
    const struct t5_dataset *data; /* borrowed */
    int64_t batch;
    int64_t epoch;   /* that `sorted` holds; -1: none */
    int64_t *sorted; /* owned (n), T5_ORDER_LENGTH only */
};

/* On failure too t5_order_free must be called. */
int t5_order_init(struct t5_order *out, enum t5_order_kind kind, uint64_t seed,
                  const struct t5_dataset *data, int64_t batch, struct t5_err *err) T5_MUST_CHECK;
void t5_order_free(struct t5_order *order);
/* The record at place i of an epoch. */
int64_t t5_order_at(struct t5_order *order, int64_t epoch, int64_t i);

#endif
