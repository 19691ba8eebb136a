/* train_loop.c - the steps of a run with checkpoints and log, and its end. Evaluation:
 * train_eval.c. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "t5/train_run.h"

static int log_head(struct t5_train_run *run, const char *event, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_train_head head = {.model = o->model ? o->model : o->from_config,
                                 .output = o->output,
                                 .mode = t5_train_run_is_lora(run) ? "lora" : "full",
                                 .device = run->backend.ops.name,
                                 .records = run->train.n,
                                 .eval_records = run->eval.n,
                                 .steps = run->settings.total_steps,
                                 .epoch_steps = t5_train_run_epoch_steps(run),
                                 .resumed = run->saved,
                                 .checkpoint_bytes = t5_train_checkpoint_bytes(run),
                                 .settings = &run->identity};
    return t5_train_log_head(&run->log, event, &head, &run->plan, err);
}

int t5_train_run_describe(struct t5_train_run *run, struct t5_err *err)
{
    return log_head(run, "plan", err);
}

void t5_train_passes_cut(void *context, int64_t step, int64_t pass_tokens, const struct t5_err *why)
{
    struct t5_train_run *run = context;
    char text[480];
    run->plan.micro_tokens = pass_tokens;
    run->plan.limits = *t5_trainer_limits(run->trainer);
    if (run->saved_at > 0) /* before that, the log's first line will say so */
        t5_train_log_cut(&run->log, step, pass_tokens);
    snprintf(text, sizeof text, "step %lld: %s: passes of at most %lld tokens from here on",
             (long long)step, why->text, (long long)pass_tokens);
    run->hooks->warn(text);
}

static int stopped(const struct t5_train_run *run)
{
    return run->hooks->stop && *run->hooks->stop;
}

int64_t t5_train_run_memory(const struct t5_train_run *run)
{
    const struct t5_backend_handle *b = &run->backend;
    if (strcmp(b->ops.name, "cuda") != 0)
        return t5_memory_resident();
    return run->plan.free_bytes - b->ops.memory_free(b->dev);
}

/* Once each, where the log or the events can no longer be written. */
static void warn_of_log(struct t5_train_run *run, int warned[2])
{
    char text[480];
    if (run->log.failure && !warned[0]++) {
        snprintf(text, sizeof text, "<stdout>: %s: training goes on without its log",
                 strerror(run->log.failure));
        run->hooks->warn(text);
    }
    if (run->log.events_failure.text[0] && !warned[1]++) {
        snprintf(text, sizeof text, "%s: training goes on without it",
                 run->log.events_failure.text);
        run->hooks->warn(text);
    }
}

static void warn_of_spike(const struct t5_train_run *run, const struct t5_step_report *r)
{
    char text[240];
    snprintf(text, sizeof text,
             "step %lld: loss %.4g, %.3g standard deviations above the %lld steps before%s",
             (long long)r->step, r->loss, r->z, (long long)run->options->spike_window,
             r->passed_over ? ": passed over" : "");
    run->hooks->warn(text);
}

static int save_is_due(const struct t5_train_run *run, int64_t step)
{
    const struct t5_train_options *o = run->options;
    return step < run->settings.total_steps &&
           ((o->save_every && step % o->save_every == 0) ||
            (o->save_minutes > 0 && t5_now() - run->saved_at >= 60 * o->save_minutes));
}

/* 1: all steps are made and measured; 0: stopped. */
static int train(struct t5_train_run *run, struct t5_err *err)
{
    struct t5_step_report report;
    int warned[2] = {0, 0}, rc = t5_train_evaluate(run, err);
    while (rc == 1 && !t5_train_is_over(run)) {
        rc = t5_trainer_step(run->trainer, &report, err);
        if (rc <= 0)
            break;
        t5_train_log_step(&run->log, &report);
        if (report.spike)
            warn_of_spike(run, &report);
        run->hooks->stepped(run, &report);
        warn_of_log(run, warned);
        if (t5_check_behind_poll(&run->check, err))
            return -1;
        rc = t5_train_evaluate(run, err);
        if (rc == 1 && !t5_train_is_over(run) && save_is_due(run, report.step) &&
            t5_train_save(run, 0, err))
            rc = -1;
    }
    return rc == 0 && !stopped(run) ? 1 : rc;
}

/* What a stopped run has is saved, unless a checkpoint has it already. */
static int end_early(struct t5_train_run *run, struct t5_err *err)
{
    int64_t step = t5_trainer_position(run->trainer).step;
    if (run->saved != step && t5_train_save(run, 0, err))
        return -1;
    t5_train_log_end(&run->log, "stopped", step);
    return 0;
}

int t5_train_run_work(struct t5_train_run *run, struct t5_err *err)
{
    const char *dir = run->options->output, *events = run->options->tensorboard;
    int64_t done = t5_trainer_position(run->trainer).step;
    run->saved_at = t5_now();
    if ((events && t5_train_log_events(&run->log, events, done + 1, err)) ||
        log_head(run, "start", err))
        return -1;
    run->hooks->began(run->settings.total_steps, done);
    int rc = train(run, err);
    if (rc <= 0)
        return rc < 0 ? t5_check_behind_end(&run->check, -1, err) : end_early(run, err);
    if (t5_train_save(run, 1, err) || t5_train_write_product(run, dir, err) ||
        t5_train_slots_trim(&run->slots, dir, (int)run->options->keep, err))
        return -1;
    t5_train_log_end(&run->log, "end", t5_trainer_position(run->trainer).step);
    return 1;
}
