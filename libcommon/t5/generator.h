/* generator.h - many sources through a search: sorted by length, cut into batches by tokens,
 * answered as their batches finish. Reads and writes nothing: see window.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_GENERATOR_H
#define T5_T5_GENERATOR_H

#include "t5/search.h"

#define T5_BATCH_TOKENS 4096      /* the default of --batch-tokens */
#define T5_BATCH_TOKENS_GPU 65536 /* on a GPU, where memory allows */

struct t5_generator;

/* A batch holds at most batch_tokens positions, where a source counts its tokens and max_new for
 * each of its rows: what keys and values are kept for. A source that is more than that by itself is
 * a batch of its own. Memory is taken when t5_generator_run has batches, for what they hold; where
 * it runs out, batch_tokens is halved. The model and options are borrowed. */
int t5_generator_open(struct t5_generator **out, struct t5_model *model,
                      const struct t5_search_options *options, int64_t batch_tokens,
                      struct t5_err *err) T5_MUST_CHECK;
/* A size of batches that suits the model's device: T5_BATCH_TOKENS; on a GPU, whose weights are
 * read once a step for all rows, what half of its free memory holds, up to T5_BATCH_TOKENS_GPU. */
int64_t t5_generator_default_tokens(const struct t5_model *model,
                                    const struct t5_search_options *options);
void t5_generator_close(struct t5_generator *generator);
const struct t5_search_options *t5_generator_options(const struct t5_generator *generator);
int64_t t5_generator_batch_tokens(const struct t5_generator *generator);

struct t5_prompt {
    const int32_t *ids;
    int64_t n;       /* at least 1 */
    int32_t adapter; /* of the model's, from 0; -1: none */
};
/* Called once a prompt, in no particular order: hypotheses (returned), borrowed for the call. 0, or
 * -1 to stop. */
typedef int t5_answer(void *context, int64_t which, const struct t5_hypothesis *hypotheses,
                      struct t5_err *err);
/* Called behind each batch, or NULL. */
typedef int t5_batch_end(void *context, struct t5_err *err);

/* Answers every prompt. Batches come in the order of the earliest prompt each holds. */
int t5_generator_run(struct t5_generator *generator, const struct t5_prompt *prompts, int64_t n,
                     t5_answer *answer, t5_batch_end *batch_end, void *context,
                     struct t5_err *err) T5_MUST_CHECK;
/* The prompt that the last run failed at, or -1: it was no prompt's fault. */
int64_t t5_generator_failed(const struct t5_generator *generator);

#endif
