/* train_plan.h - how large the passes of a run may be, and the memory that it takes: decided once,
 * before anything is loaded. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAIN_PLAN_H
#define T5_T5_TRAIN_PLAN_H

#include "t5/optimizer.h"
#include "t5/order.h"

/* What the plan is made for; all borrowed. */
struct t5_train_shape {
    const struct t5_backend_handle *backend;
    const struct t5_checkpoint *checkpoint; /* NULL: from scratch */
    const struct t5_config *config;
    const struct t5_adapter *adapter; /* NULL: full */
    enum t5_model_mode mode;
    const struct t5_dataset *train, *eval; /* either may be empty */
    int64_t batch;
    enum t5_order_kind order;
    uint64_t seed;
    int64_t steps; /* see struct t5_passes */
    enum t5_optimizer_kind optimizer;
    int64_t decode_new; /* evaluation decodes so many tokens a record; 0: it does not */
};

struct t5_train_plan {
    int64_t micro_tokens; /* as asked for, or less where memory is short */
    int compact;          /* 8-bit weights stay so: for t5_backend_handle */
    struct t5_pass_limits limits;
    struct t5_plan_row rows[T5_PLAN_ROWS];
    int n_rows;
    int64_t bytes;      /* sum of the rows */
    int64_t taken;      /* of them, by opening the device */
    int64_t free_bytes; /* what else can be had */
    int fits;
    int64_t optimizer_bytes;       /* the row "optimiser": a checkpoint holds it, too */
    int64_t parameters, trainable; /* elements; parameters counts base and adapter */
};

/* Where the run does not fit, norms' outputs are made again; then weights stay compact; then
 * micro_tokens shrinks, to one record at a time at the least, but not with keep: a resumed run's
 * must not change; then blocks are recomputed, with as large a micro_tokens as that allows. Where
 * nothing helps, the plan is the uncut one. */
int t5_train_plan_make(struct t5_train_plan *plan, const struct t5_train_shape *shape,
                       int64_t micro_tokens, int keep, struct t5_err *err) T5_MUST_CHECK;

#endif
