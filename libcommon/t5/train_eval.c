/* train_eval.c - evaluation between steps: the loss, answers and their ROUGE, the best result kept,
 * and early stopping. What it decides by is in the position, so that a resumed run decides alike.
 */
/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "t5/train_run.h"

static int is_due(const struct t5_train_run *run, int64_t step)
{
    const struct t5_train_options *o = run->options;
    int64_t every = o->eval_every ? o->eval_every : t5_train_run_epoch_steps(run);
    return o->eval && step > 0 && (step % every == 0 || step == run->settings.total_steps);
}

/* 1: measured; 0: stopped. */
static int measure(struct t5_train_run *run, struct t5_eval_report *r, struct t5_err *err)
{
    int rc = t5_trainer_evaluate(run->trainer, &run->eval, &r->loss, &r->label_tokens, err);
    if (rc <= 0 || !run->judge)
        return rc;
    r->judged = 1;
    rc = t5_judge_run(run->judge, &r->rouge, run->model, t5_train_run_is_lora(run),
                      t5_trainer_limits(run->trainer), run->hooks->stop, err);
    if (rc >= 0 && t5_trainer_reserve(run->trainer, err))
        return -1;
    return rc;
}

/* What --best names; larger is better. */
static double merit(const struct t5_train_run *run, const struct t5_eval_report *r)
{
    for (int k = 0; k < T5_JUDGE_MEASURES; k++)
        if (strcmp(run->options->best, t5_judge_names[k]) == 0)
            return r->rouge.f[k];
    return -r->loss;
}

static int write_best(struct t5_train_run *run, struct t5_err *err)
{
    char dir[PATH_MAX];
    return t5_train_best_dir(dir, run, 1, err) || t5_train_write_product(run, dir, err) ? -1 : 0;
}

/* Written before any checkpoint says so: a run killed in between writes it again. */
static int keep_best(struct t5_train_run *run, struct t5_train_position *at,
                     struct t5_eval_report *r, struct t5_err *err)
{
    double mine = merit(run, r);
    at->since_best++;
    if (!isfinite(mine) || (at->best_step > 0 && mine <= at->best))
        return 0;
    r->best = 1;
    at->best = mine;
    at->best_step = at->step;
    at->since_best = 0;
    return write_best(run, err);
}

int t5_train_evaluate(struct t5_train_run *run, struct t5_err *err)
{
    struct t5_train_position at = t5_trainer_position(run->trainer);
    struct t5_eval_report r = {.step = at.step};
    double began = t5_now();
    if (!is_due(run, at.step) || at.evaluated == at.step)
        return 1;
    int rc = measure(run, &r, err);
    if (rc <= 0)
        return rc;
    at = t5_trainer_position(run->trainer); /* memory may have run out there */
    at.evaluated = at.step;
    if (run->options->best && keep_best(run, &at, &r, err))
        return -1;
    r.epoch = (double)at.step / (double)t5_train_run_epoch_steps(run);
    r.seconds = t5_now() - began;
    t5_train_log_eval(&run->log, &r);
    t5_trainer_set_position(run->trainer, &at);
    return 1;
}

int t5_train_is_over(const struct t5_train_run *run)
{
    int64_t patience = run->options->early_stopping;
    return patience > 0 && t5_trainer_position(run->trainer).since_best >= patience;
}
