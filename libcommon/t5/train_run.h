/* train_run.h - one training run from its options to its result: what it holds open, and the steps
 * that t5-train takes. Each part is a file: train_inputs.c, train_run.c (plan, settings, identity),
 * train_output.c (the directory), train_loop.c, train_eval.c. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAIN_RUN_H
#define T5_T5_TRAIN_RUN_H

#include <limits.h>

#include "t5/judge.h"
#include "t5/check_behind.h"
#include "t5/train_log.h"
#include "t5/train_options.h"
#include "t5/train_plan.h"
#include "t5/train_state.h"

struct t5_train_run;

/* How a run speaks to people, and how they stop it. The library itself prints nothing. */
struct t5_train_hooks {
    void (*warn)(const char *text);             /* one line */
    int (*pass_over)(const struct t5_err *err); /* 1: go on after this bad record */
    void (*began)(int64_t steps, int64_t done); /* in all, and by the runs before */
    void (*stepped)(const struct t5_train_run *run, const struct t5_step_report *report);
    const volatile sig_atomic_t *stop; /* not 0: save and end */
};

struct t5_train_run {
    const struct t5_train_options *options; /* borrowed, as the next */
    const struct t5_train_hooks *hooks;
    struct t5_backend_handle backend;
    struct t5_checkpoint *base;   /* NULL with --from-config */
    struct t5_check_behind check; /* of base, while all else is made ready */
    char *config_text;            /* --from-config: owned */
    struct t5_config config;
    char base_digest[65];
    struct t5_adapter adapter; /* LoRA */
    struct t5_dataset train, eval;
    struct t5_judge *judge;          /* NULL: evaluation is by loss alone */
    struct t5_token_settings tokens; /* of the training records; a LoRA run's go into its adapter */
    struct t5_train_settings settings;
    struct t5_train_plan plan;
    struct t5_ranges skips; /* --skip-batches, or what the checkpoint had */
    int64_t micro_tokens;   /* of the run, before memory ran out anywhere */
    struct t5_identity identity;
    struct t5_train_state state; /* where --resume goes on */
    struct t5_model *model;
    struct t5_trainer *trainer;
    struct t5_train_log log;
    int lock;
    struct t5_train_slots slots; /* the checkpoints on disk */
    int64_t saved;               /* the step of the newest one; -1: none */
    double saved_at;             /* t5_now() */
};

/* ---- for the program ---- */

/* Locks the directory, reads and checks all inputs but the weights, and plans. The options have
 * been checked. On failure too t5_train_run_close must be called. */
int t5_train_run_open(struct t5_train_run *run, const struct t5_train_options *options,
                      const struct t5_train_hooks *hooks, const struct t5_list *files,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_train_run_close(struct t5_train_run *run);
/* The plan as the log's one line, for --dry-run. */
int t5_train_run_describe(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;
/* Loads the weights, and a checkpoint where there is one. */
int t5_train_run_load(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;
/* Trains and writes the result. 1: done; 0: stopped, and a checkpoint holds the last whole step. */
int t5_train_run_work(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;

/* Bytes: this program's on the host, or what the run took on a card. */
int64_t t5_train_run_memory(const struct t5_train_run *run);

/* ---- between the files of a run ---- */

static inline int t5_train_run_is_lora(const struct t5_train_run *run)
{
    return !run->options->full;
}
static inline const struct t5_token_settings *t5_train_run_tokens(const struct t5_train_run *run)
{
    return t5_train_run_is_lora(run) ? &run->adapter.tokens : &run->tokens;
}
static inline int64_t t5_train_run_epoch_steps(const struct t5_train_run *run)
{
    return (run->train.n + run->options->batch - 1) / run->options->batch;
}

/* The base model's description and the adapter's first values. */
int t5_train_open_base(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;
int t5_train_read_data(struct t5_train_run *run, const struct t5_list *files,
                       struct t5_err *err) T5_MUST_CHECK;
/* The directory is ours before anything large is read. */
int t5_train_open_output(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;
/* Refuses a checkpoint of another run and a disk without room. */
int t5_train_check_output(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;
int64_t t5_train_checkpoint_bytes(const struct t5_train_run *run);
int t5_train_save(struct t5_train_run *run, int finished, struct t5_err *err) T5_MUST_CHECK;
/* DIR/best, created with `make`. */
int t5_train_best_dir(char path[PATH_MAX], const struct t5_train_run *run, int make,
                      struct t5_err *err) T5_MUST_CHECK;
/* The adapter or the model into dir, which exists. */
int t5_train_write_product(struct t5_train_run *run, const char *dir,
                           struct t5_err *err) T5_MUST_CHECK;
/* Evaluates after a step where that is due, and keeps the best result. 1: done, or not due; 0:
 * stopped, and the next run evaluates. */
int t5_train_evaluate(struct t5_train_run *run, struct t5_err *err) T5_MUST_CHECK;
/* struct t5_train_settings' cut: into the log and to people; context is the run. */
void t5_train_passes_cut(void *context, int64_t step, int64_t pass_tokens,
                         const struct t5_err *why);
/* Whether --early-stopping ends the run here. */
int t5_train_is_over(const struct t5_train_run *run);

#endif
