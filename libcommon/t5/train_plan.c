/* train_plan.c - pass sizes and memory of a training run. */
/* SPDX-License-Identifier: MIT */
#include "t5/train_plan.h"

#include <stdlib.h>

#include "t5/judge.h"

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

static int plan_for(struct t5_train_plan *plan, const struct t5_train_shape *s, struct t5_err *err)
{
    plan->limits = (struct t5_pass_limits){0};
    if (t5_limits_add(&plan->limits, s->train, s->batch, plan->micro_tokens, err) ||
        t5_limits_add(&plan->limits, s->eval, s->batch, plan->micro_tokens, err) ||
        t5_model_plan(plan->rows, &plan->n_rows, s->backend, s->checkpoint, s->config, s->adapter,
                      s->mode, &plan->limits, err))
        return -1;
    if (s->decode_new > 0) {
        struct t5_plan_row *row = &plan->rows[plan->n_rows++];
        row->what = "decoding";
        if (t5_judge_plan(&row->bytes, s, s->decode_new, &plan->limits, err))
            return -1;
    }
    plan->bytes = 0;
    for (int i = 0; i < plan->n_rows; i++)
        plan->bytes += plan->rows[i].bytes;
    return 0;
}

int t5_train_plan_make(struct t5_train_plan *plan, const struct t5_train_shape *s,
                       int64_t micro_tokens, int keep, struct t5_err *err)
{
    *plan = (struct t5_train_plan){.micro_tokens = micro_tokens};
    plan->free_bytes = s->backend->ops.memory_free(s->backend->dev);
    if (count_parameters(plan, s, err))
        return -1;
    if (plan_for(plan, s, err))
        return -1;
    struct t5_train_plan asked = *plan;
    while (plan->bytes > plan->free_bytes && !keep && plan->micro_tokens > longest(s)) {
        plan->micro_tokens /= 2;
        if (plan_for(plan, s, err))
            return -1;
    }
    plan->fits = plan->bytes <= plan->free_bytes;
    if (!plan->fits)
        *plan = asked;
    return 0;
}
