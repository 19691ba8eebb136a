/* trainer.h - the training loop, one optimiser step a call: batches in their order, micro-batches
 * cut by tokens, loss, gradients, update. Writes nothing: checkpoints are train_state.h's, logs the
 * program's. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAINER_H
#define T5_T5_TRAINER_H

#include <signal.h>

#include "t5/optimizer.h"
#include "t5/order.h"
#include "t5/pass_limits.h"
#include "t5/ranges.h"
#include "t5/schedule.h"
#include "t5/spike.h"

struct t5_train_settings {
    int64_t batch;        /* records a step; the last step of an epoch may have fewer */
    int64_t micro_tokens; /* inputs and labels together of one pass, see t5_limits_add */
    int64_t total_steps;  /* t5_total_steps */
    struct t5_schedule schedule;
    struct t5_optimizer_settings optimizer;
    double model_dropout, lora_dropout;
    double label_smoothing; /* of the steps' loss; evaluation has none */
    uint64_t seed;
    enum t5_order_kind order;
    int64_t tolerate; /* steps in a row whose gradients are not finite and that are passed over; the
                         next one ends the run */
    double spike_z;   /* t5_spike_init's; steps are found to be spikes ... */
    int64_t spike_window;
    int spike_skip;               /* ... and left out, as if they had not been finite */
    const struct t5_ranges *skip; /* borrowed: steps, from 1, that are not made at all; or NULL */
    const volatile sig_atomic_t *stop; /* not 0: stop between two passes; or NULL */
    const struct t5_dataset *eval; /* borrowed: what t5_trainer_evaluate will be given; or NULL */
    /* Passes have become smaller, because of *why; or NULL. */
    void (*cut)(void *context, int64_t step, int64_t pass_tokens, const struct t5_err *why);
    void *context;
};

/* epochs x ceil(n / batch), or max_steps where that is not 0. */
int64_t t5_total_steps(int64_t n, int64_t batch, int64_t epochs, int64_t max_steps);

/* Where a run stands; all of it is in a checkpoint. */
struct t5_train_position {
    int64_t step;        /* steps done, passed-over ones included */
    int64_t updates;     /* updates made: AdamW's step */
    int64_t bad_in_row;  /* the guard: steps passed over since the last update */
    int64_t bad;         /* and in all */
    int64_t pass_tokens; /* settings.micro_tokens, or what is left of it since memory ran out */
    /* the program's, which the trainer only keeps: */
    int64_t evaluated;  /* the step after which it last evaluated */
    int64_t best_step;  /* of the best evaluation; 0: none yet */
    double best;        /* what was measured there */
    int64_t since_best; /* evaluations since then */
};

struct t5_step_report {
    int64_t step;                          /* from 1 */
    double epoch;                          /* epochs done after it */
    double loss;                           /* mean over the batch's label tokens */
    double lr, grad_norm;                  /* norm before clipping */
    int64_t records, tokens, label_tokens; /* tokens: inputs and labels */
    int passed_over; /* loss or gradients were not finite, or it was a spike: nothing was changed */
    int spike;
    double z;    /* of a spike: standard deviations above the losses before */
    int skipped; /* it was not made: there are neither loss nor tokens */
};

struct t5_trainer;

/* Borrows model, data and settings->stop. limits: of passes of settings->micro_tokens; the model
 * has been reserved for them, or t5_trainer_reserve does it.
 *
 * Where a pass finds the device without memory, passes are cut to half of it (pass_tokens), the
 * model is reserved anew for such passes, which gives memory back, and the batch is begun again:
 * the same step but for rounding. A pass of one record that finds none is the end. */
int t5_trainer_open(struct t5_trainer **out, struct t5_model *model, const struct t5_dataset *data,
                    const struct t5_pass_limits *limits, const struct t5_train_settings *settings,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_trainer_close(struct t5_trainer *trainer);
/* Reserves the model for the passes to come, cut if need be. */
int t5_trainer_reserve(struct t5_trainer *trainer, struct t5_err *err) T5_MUST_CHECK;
const struct t5_pass_limits *t5_trainer_limits(const struct t5_trainer *trainer); /* borrowed */
/* 1: a step was made; 0: all steps are made, or *settings->stop was set: then the parameters are
 * those after the last whole step, and the batch that was begun is forgotten. T5_NOT_FINITE names
 * step and first bad tensor. */
int t5_trainer_step(struct t5_trainer *trainer, struct t5_step_report *report,
                    struct t5_err *err) T5_MUST_CHECK;
/* Mean loss over all label tokens of a data set, without dropout. 1: done; 0: stopped before its
 * end. */
int t5_trainer_evaluate(struct t5_trainer *trainer, const struct t5_dataset *data, double *loss,
                        int64_t *label_tokens, struct t5_err *err) T5_MUST_CHECK;

struct t5_train_position t5_trainer_position(const struct t5_trainer *trainer);
void t5_trainer_set_position(struct t5_trainer *trainer, const struct t5_train_position *position);
struct t5_optimizer *t5_trainer_optimizer(struct t5_trainer *trainer); /* borrowed */
struct t5_spike *t5_trainer_spike(struct t5_trainer *trainer);         /* borrowed */

/* The first trainable tensor that has a value that is not finite among `values`, the model's
 * n_params parameters or gradients on the device. NULL: none, or the device failed and filled *err,
 * which must come empty. */
const char *t5_first_not_finite(const struct t5_model *model, const float *values,
                                struct t5_err *err);

#endif
