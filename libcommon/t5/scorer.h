/* scorer.h - the log-probability of given targets: many pairs through t5_model_score, in batches
 * cut by tokens. Reads and writes nothing: see window.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SCORER_H
#define T5_T5_SCORER_H

#include "t5/model.h"

struct t5_scorer;

/* A batch holds at most batch_tokens tokens, sources and targets together; a pair that is more by
 * itself is a batch of its own. The model is borrowed. */
int t5_scorer_open(struct t5_scorer **out, struct t5_model *model, int64_t batch_tokens,
                   struct t5_err *err) T5_MUST_CHECK;
void t5_scorer_close(struct t5_scorer *scorer);
int64_t t5_scorer_batch_tokens(const struct t5_scorer *scorer);

struct t5_pair {
    const int32_t *ids;        /* the source's, the target's behind them */
    int64_t n_input, n_labels; /* at least 1 each */
    int32_t adapter;           /* of the model's, from 0; -1: none */
};
/* Called once a pair, in any order within its batch: logprobs (n_labels), natural logarithms, not
 * finite where the model's logits are not; borrowed for the call. 0, or -1 to stop. */
typedef int t5_scored(void *context, int64_t which, const float *logprobs, struct t5_err *err);
/* Called behind each batch. */
typedef int t5_score_batch_end(void *context, struct t5_err *err);

/* Scores every pair. Batches are packed, without padding, so they are cut in the order the pairs
 * come. */
int t5_scorer_run(struct t5_scorer *scorer, const struct t5_pair *pairs, int64_t n,
                  t5_scored *scored, t5_score_batch_end *batch_end, void *context,
                  struct t5_err *err) T5_MUST_CHECK;

#endif
