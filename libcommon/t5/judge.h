/* judge.h - a model's greedy answers to a data set's records, scored by ROUGE against their labels
 * as text: evaluation during training. Decoding takes the model's workspace, so the caller reserves
 * its own again afterwards. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_JUDGE_H
#define T5_T5_JUDGE_H

#include <signal.h>

#include "t5/dataset.h"
#include "t5/train_plan.h"

#define T5_JUDGE_MEASURES 4
extern const char *const t5_judge_names[T5_JUDGE_MEASURES]; /* "rouge1" ... "rougeLsum" */
struct t5_judgement {
    double f[T5_JUDGE_MEASURES]; /* means of F, 0 to 1 */
};

struct t5_judge;

/* Reads the spiece.model that the labels' ids come from and writes the references. data is
 * borrowed. max_new: tokens of an answer. */
int t5_judge_open(struct t5_judge **out, const char *spiece, const struct t5_dataset *data,
                  int64_t vocab, int64_t max_new, struct t5_err *err) T5_MUST_CHECK;
void t5_judge_close(struct t5_judge *judge);
/* SHA-256 of the spiece.model, 64 hexadecimal digits. */
void t5_judge_digest(char out[65], const struct t5_judge *judge);

/* Means over all records, stemmed. 1: done; 0: *stop was set before the end. limits: what the model
 * is reserved for in training, and no more is taken for the sources. adapter: whether answers go
 * through the model's adapter. */
int t5_judge_run(struct t5_judge *judge, struct t5_judgement *out, struct t5_model *model,
                 int adapter, const struct t5_pass_limits *limits,
                 const volatile sig_atomic_t *stop, struct t5_err *err) T5_MUST_CHECK;
/* Device memory that takes beside the workspace. */
int t5_judge_plan(int64_t *bytes, const struct t5_train_shape *shape, int64_t max_new,
                  const struct t5_pass_limits *limits, struct t5_err *err) T5_MUST_CHECK;

#endif
