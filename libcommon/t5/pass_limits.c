/* pass_limits.c - walks a run's passes as the trainer will. */
/* SPDX-License-Identifier: MIT */
#include "t5/pass_limits.h"

/* A pass being filled: t5_packer_add without the tokens. */
struct pass {
    struct t5_pass_limits *most;
    int64_t seqs, input, labels;
};

static int fits(const struct pass *p, int64_t input, int64_t labels, int64_t micro_tokens)
{
    return p->seqs == 0 ||
           (p->seqs < p->most->seqs && p->input + p->labels + input + labels <= micro_tokens);
}

static void add(struct pass *p, const struct t5_dataset *data, int64_t record, int64_t micro_tokens)
{
    int64_t input = t5_dataset_inputs(data, record), labels = t5_dataset_labels(data, record);
    if (!fits(p, input, labels, micro_tokens))
        *p = (struct pass){.most = p->most};
    p->seqs++;
    p->input += input;
    p->labels += labels;
    if (p->input > p->most->input_tokens)
        p->most->input_tokens = p->input;
    if (p->labels > p->most->label_tokens)
        p->most->label_tokens = p->labels;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int walk_training(struct t5_pass_limits *limits, const struct t5_passes *s,
                         struct t5_err *err)
{
    const struct t5_dataset *d = s->train;
    int64_t epoch_steps = (d->n + s->batch - 1) / s->batch;
    struct t5_order order;
    struct pass p;
    int rc = t5_order_init(&order, s->order, s->seed, d, s->batch, err);
    for (int64_t step = 0; rc == 0 && step < s->steps; step++) {
        int64_t first = step % epoch_steps * s->batch;
        p = (struct pass){.most = limits};
        for (int64_t i = first; i < smaller(first + s->batch, d->n); i++)
            add(&p, d, t5_order_at(&order, step / epoch_steps, i), s->micro_tokens);
    }
    t5_order_free(&order);
    return rc;
}

static void walk_evaluation(struct t5_pass_limits *limits, const struct t5_passes *s)
{
    struct pass p = {.most = limits};
    for (int64_t i = 0; i < s->eval->n; i++)
        add(&p, s->eval, i, s->micro_tokens);
}

int t5_passes_limits(struct t5_pass_limits *limits, const struct t5_passes *s, struct t5_err *err)
{
    int64_t most = s->train->n > s->eval->n ? s->train->n : s->eval->n;
    *limits = (struct t5_pass_limits){.seqs = smaller(s->batch, most)};
    /* in file order every epoch is the same */
    struct t5_passes once = *s;
    if (s->order == T5_ORDER_FILE && s->train->n)
        once.steps = smaller(s->steps, (s->train->n + s->batch - 1) / s->batch);
    if (once.steps == 0 || once.steps > T5_PASSES_MOST / s->batch) {
        if (t5_limits_add(limits, s->train, s->batch, s->micro_tokens, err))
            return -1;
    } else if (s->train->n && walk_training(limits, &once, err)) {
        return -1;
    }
    walk_evaluation(limits, s);
    return 0;
}
