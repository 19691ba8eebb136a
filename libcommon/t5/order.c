/* order.c - epochs as keyed permutations of the records. */
/* SPDX-License-Identifier: MIT */
#include "t5/order.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/rng.h"

int t5_order_init(struct t5_order *o, enum t5_order_kind kind, uint64_t seed,
                  const struct t5_dataset *data, int64_t batch, struct t5_err *err)
{
    *o = (struct t5_order){.kind = kind, .seed = seed, .data = data, .batch = batch, .epoch = -1};
    if (kind != T5_ORDER_LENGTH)
        return 0;
    o->sorted = t5_alloc((size_t)data->n, sizeof *o->sorted, "the order of records", err);
    return o->sorted ? 0 : -1;
}

void t5_order_free(struct t5_order *o)
{
    free(o->sorted);
    o->sorted = NULL;
}

static int64_t permuted(const struct t5_order *o, enum t5_rng_purpose purpose, int64_t epoch,
                        int64_t i, int64_t n)
{
    uint32_t key[2];
    t5_rng_key(key, o->seed, purpose, (uint64_t)epoch);
    return (int64_t)t5_permute(key, (uint64_t)i, (uint64_t)n);
}

/* Longer records first, equal ones as the file has them: the same on every machine. */
static int longer_first(const void *a, const void *b, void *data)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    int64_t nx = t5_dataset_inputs(data, x) + t5_dataset_labels(data, x);
    int64_t ny = t5_dataset_inputs(data, y) + t5_dataset_labels(data, y);
    return nx != ny ? (nx < ny) - (nx > ny) : (x > y) - (x < y);
}

static void sort_epoch(struct t5_order *o, int64_t epoch)
{
    int64_t n = o->data->n, group = T5_ORDER_GROUP * o->batch;
    for (int64_t i = 0; i < n; i++)
        o->sorted[i] = permuted(o, T5_RNG_ORDER, epoch, i, n);
    for (int64_t i = 0; i < n; i += group)
        qsort_r(o->sorted + i, (size_t)(n - i < group ? n - i : group), sizeof *o->sorted,
                longer_first, (void *)o->data);
    o->epoch = epoch;
}

int64_t t5_order_at(struct t5_order *o, int64_t epoch, int64_t i)
{
    if (o->kind == T5_ORDER_FILE)
        return i;
    if (o->kind == T5_ORDER_SHUFFLE)
        return permuted(o, T5_RNG_ORDER, epoch, i, o->data->n);
    if (o->epoch != epoch)
        sort_epoch(o, epoch);
    int64_t whole = o->data->n / o->batch, b = i / o->batch;
    if (b < whole) /* what is left for the last step stays there */
        i += (permuted(o, T5_RNG_BATCHES, epoch, b, whole) - b) * o->batch;
    return o->sorted[i];
}
