/* train_log.h - the metrics of a run: a JSON object a line, each handed to the system in one piece;
 * and TensorBoard's events beside it.
 * A log that can no longer be written never ends a run: what went wrong is kept for the program to
 * say at the end. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAIN_LOG_H
#define T5_T5_TRAIN_LOG_H

#include "io/event_file.h"
#include "t5/judge.h"
#include "t5/train_plan.h"
#include "t5/train_state.h"

struct t5_train_log {
    int fd;      /* borrowed */
    int failure; /* errno of the first write that failed; then nothing more is written. EPIPE: the
                    reader left */
    double started, last;         /* t5_now() */
    struct t5_event_file *events; /* owned; NULL: none, or it failed: */
    struct t5_err events_failure; /* text is empty otherwise */
};

void t5_train_log_start(struct t5_train_log *log, int fd);
/* Figures of steps and evaluations go to an event file in dir, too; first_step: the next one. */
int t5_train_log_events(struct t5_train_log *log, const char *dir, int64_t first_step,
                        struct t5_err *err) T5_MUST_CHECK;
void t5_train_log_close(struct t5_train_log *log);
/* What the first line of a run says. */
struct t5_train_head {
    const char *model, *output, *mode; /* "lora" or "full" */
    const char *device;                /* "cpu" */
    int64_t records, eval_records;
    int64_t steps, epoch_steps; /* in all, and an epoch */
    int64_t resumed;            /* the step this run goes on from; -1: from the start */
    int64_t checkpoint_bytes;
    const struct t5_identity *settings; /* all that the result depends on */
};
/* event is "start", or "plan" for --dry-run. */
int t5_train_log_head(struct t5_train_log *log, const char *event, const struct t5_train_head *head,
                      const struct t5_train_plan *plan, struct t5_err *err) T5_MUST_CHECK;
void t5_train_log_step(struct t5_train_log *log, const struct t5_step_report *report);
struct t5_eval_report {
    int64_t step;
    double epoch, loss, seconds;
    int64_t label_tokens;
    int judged;                /* by decoding, too: */
    struct t5_judgement rouge; /* logged in percent */
    int best;                  /* better than all before, by the measure asked for */
};
void t5_train_log_eval(struct t5_train_log *log, const struct t5_eval_report *report);
/* The device ran out of memory in that step, and passes were cut. */
void t5_train_log_cut(struct t5_train_log *log, int64_t step, int64_t pass_tokens);
/* event: "end", or "stopped" by a signal. */
void t5_train_log_end(struct t5_train_log *log, const char *event, int64_t step);

#endif
