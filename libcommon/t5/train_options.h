/* train_options.h - what a training run is asked to do: the values behind t5-train's options, their
 * defaults, and which of them go together. Opens nothing: train_run.h does. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAIN_OPTIONS_H
#define T5_T5_TRAIN_OPTIONS_H

#include "base/program.h"
#include "t5/trainer.h"

/* Strings are borrowed, NULL where not given. Numbers below 0 mean "not given" where it says so. */
struct t5_train_options {
    const char *preset; /* "recipe" */
    const char *model, *output;
    /* the adapter */
    int64_t rank;          /* not given: 16 */
    double alpha, dropout; /* not given: 32, 0.05 */
    const char *targets;   /* not given: q,v */
    int rslora;
    double lora_plus; /* 0: B learns as fast as A */
    const char *init;
    /* every weight */
    int full;
    const char *from_config, *save_as;
    /* steps */
    int64_t epochs, max_steps, batch;
    double lr;
    const char *schedule;
    struct t5_amount warmup, decay; /* of the run's steps */
    const char *optimizer;
    double label_smoothing, clip, weight_decay, model_dropout;
    int64_t seed;
    const char *order;
    int64_t tolerate, micro_tokens;
    double spike_z;       /* 0: no loss is a spike */
    int64_t spike_window; /* not given: 50 */
    const char *on_spike; /* "log" or "skip"; not given: log */
    const char *skip_batches;
    /* evaluation and checkpoints */
    const char *eval;
    int eval_generate;
    const char *tokenizer;
    int64_t eval_max_new; /* not given: 128 */
    const char *best;
    int64_t early_stopping; /* 0: never */
    int64_t eval_every, save_every, keep;
    double save_minutes; /* 0: steps alone count */
    int resume;
    /* records */
    int64_t max_source, max_target; /* not given: 0, no limit */
    int64_t max_line;
    int truncate;
    /* where */
    const char *tensorboard; /* a directory */
    const char *compute;     /* NULL: by device */
    const char *keep_bf16;   /* with int8 and fp8 */
    int no_tuning;
    const char *device;
    int64_t threads;
    int64_t max_memory; /* bytes; 0: all there are */
    int dry_run;
};

#define T5_TRAIN_DEFAULTS                                                                          \
    {                                                                                              \
        .rank = -1, .alpha = -1, .dropout = -1, .save_as = "f32", .epochs = 5, .max_steps = -1,    \
        .batch = 8, .lr = 1e-3, .schedule = "linear", .optimizer = "adamw", .decay = {10, 1},      \
        .clip = 1, .model_dropout = -1, .seed = 42, .order = "shuffle", .micro_tokens = -1,        \
        .spike_window = -1, .max_source = -1, .max_target = -1, .eval_max_new = -1,                \
        .save_every = 500, .keep = 1, .max_line = (int64_t)T5_MAX_LINE, .device = "auto"           \
    }

/* Refuses (T5_USAGE) what contradicts itself, and fills in what follows from other options.
 * n_files: operands. */
int t5_train_options_check(struct t5_train_options *options, int n_files,
                           struct t5_err *err) T5_MUST_CHECK;

enum t5_optimizer_kind t5_train_options_optimizer(const struct t5_train_options *options);
/* The learning rate's course over so many steps. */
struct t5_schedule t5_train_options_schedule(const struct t5_train_options *options, int64_t total);

#endif
