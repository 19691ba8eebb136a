/* train_plan.c - pass sizes and memory of a training run. */
/* SPDX-License-Identifier: MIT */
#include "t5/train_plan.h"

#include <stdlib.h>
#include <string.h>

#include "t5/judge.h"
#include "t5/pass_limits.h"

static int64_t longest(const struct t5_train_shape *s)
{
    int64_t a = s->train->longest_record, b = s->eval->longest_record;
    return a > b ? a : b;
}

static int count_parameters(struct t5_train_plan *plan, const struct t5_train_shape *s,
                            struct t5_err *err)
{
    struct t5_layout_entry *layout;
    int n;
    if (t5_layout(&layout, &n, s->config, err))
        return -1;
    for (int i = 0; i < n; i++)
        plan->parameters += layout[i].shape[0] * (layout[i].rank == 2 ? layout[i].shape[1] : 1);
    free(layout);
    plan->trainable = plan->parameters;
    if (!s->adapter)
        return 0;
    plan->trainable = 0;
    for (int i = 0; i < s->adapter->n_modules; i++)
        plan->trainable +=
            s->adapter->rank * (s->adapter->modules[i].in + s->adapter->modules[i].out);
    plan->parameters += plan->trainable;
    return 0;
}

/* The model's plan counts AdamW's two moments; others keep less. */
static int plan_optimizer(struct t5_train_plan *plan, const struct t5_train_shape *s,
                          struct t5_err *err)
{
    int i = 0;
    while (strcmp(plan->rows[i].what, "optimiser") != 0)
        i++;
    if (s->optimizer != T5_ADAMW &&
        t5_optimizer_plan(&plan->rows[i].bytes, s->optimizer, s->config, err))
        return -1;
    plan->optimizer_bytes = plan->rows[i].bytes;
    return 0;
}

/* For the cuts that the plan and the shape's backend stand at. */
static int plan_for(struct t5_train_plan *plan, const struct t5_train_shape *s, struct t5_err *err)
{
    struct t5_passes passes = {.train = s->train,
                               .eval = s->eval,
                               .order = s->order,
                               .seed = s->seed,
                               .batch = s->batch,
                               .steps = s->steps,
                               .micro_tokens = plan->micro_tokens};
    enum t5_recompute recompute = plan->limits.recompute;
    if (t5_passes_limits(&plan->limits, &passes, err))
        return -1;
    plan->limits.recompute = recompute;
    plan->compact = s->backend->compact;
    if (t5_model_plan(plan->rows, &plan->n_rows, s->backend, s->checkpoint, s->config, s->adapter,
                      s->mode, &plan->limits, err) ||
        plan_optimizer(plan, s, err))
        return -1;
    if (s->decode_new > 0) {
        struct t5_plan_row *row = &plan->rows[plan->n_rows++];
        *row = (struct t5_plan_row){.what = "decoding"};
        if (t5_judge_plan(&row->bytes, s, s->decode_new, &plan->limits, err))
            return -1;
    }
    plan->bytes = plan->taken = 0;
    for (int i = 0; i < plan->n_rows; i++) {
        plan->bytes += plan->rows[i].bytes;
        plan->taken += plan->rows[i].taken;
    }
    plan->fits = plan->bytes - plan->taken <= plan->free_bytes;
    return 0;
}

/* Small steps, so that few batches more than need be are cut in two. */
static int shrink_until_it_fits(struct t5_train_plan *plan, const struct t5_train_shape *s,
                                struct t5_err *err)
{
    int64_t most = plan->limits.input_tokens + plan->limits.label_tokens;
    if (!plan->fits && plan->micro_tokens > most)
        plan->micro_tokens = most;
    while (!plan->fits && plan->micro_tokens > longest(s)) {
        plan->micro_tokens = plan->micro_tokens * 7 / 8;
        if (plan_for(plan, s, err))
            return -1;
    }
    return 0;
}

/* From the plan as it was asked for, which does not fit, cut by cut. */
static int cut(struct t5_train_plan *plan, struct t5_train_shape *s,
               struct t5_backend_handle *backend, int keep, struct t5_err *err)
{
    struct t5_train_plan wide;
    plan->limits.recompute = T5_RECOMPUTE_NORMS;
    if (plan_for(plan, s, err))
        return -1;
    if (plan->fits)
        return 0;
    wide = *plan;
    backend->compact = 1;
    if (plan_for(plan, s, err))
        return -1;
    if (plan->bytes >= wide.bytes) { /* nothing to keep, or the backend cannot */
        backend->compact = 0;
        *plan = wide;
    }
    wide = *plan;
    if (!keep && shrink_until_it_fits(plan, s, err))
        return -1;
    if (plan->fits)
        return 0;
    *plan = wide;
    plan->limits.recompute = T5_RECOMPUTE_BLOCKS;
    return plan_for(plan, s, err) || (!keep && shrink_until_it_fits(plan, s, err)) ? -1 : 0;
}

int t5_train_plan_make(struct t5_train_plan *plan, const struct t5_train_shape *shape,
                       int64_t micro_tokens, int keep, struct t5_err *err)
{
    struct t5_backend_handle backend = *shape->backend;
    struct t5_train_shape s = *shape;
    s.backend = &backend;
    backend.compact = 0;
    *plan = (struct t5_train_plan){.micro_tokens = micro_tokens};
    plan->free_bytes = backend.ops.memory_free(backend.dev);
    if (count_parameters(plan, &s, err) || plan_for(plan, &s, err))
        return -1;
    struct t5_train_plan asked = *plan;
    if (plan->fits)
        return 0;
    if (cut(plan, &s, &backend, keep, err))
        return -1;
    if (!plan->fits)
        *plan = asked;
    return 0;
}
