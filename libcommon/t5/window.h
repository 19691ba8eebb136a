/* window.h - records read ahead, answered together, written in the order they came. Bounded: a
 * window is full after 16 batches' worth of tokens or 32 MiB of records, whichever comes first. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_WINDOW_H
#define T5_T5_WINDOW_H

#include <stdio.h>

#include "io/tokens.h"
#include "t5/generator.h"
#include "t5/scorer.h"

struct t5_window;

/* How records are answered: generator or scorer, the other NULL; both borrowed. */
struct t5_window_options {
    struct t5_generator *generator; /* makes targets */
    struct t5_scorer *scorer;       /* scores the records' labels */
    int logprobs;                   /* write each target token's log-probability, too */
};
int t5_window_open(struct t5_window **out, const struct t5_window_options *options,
                   struct t5_err *err) T5_MUST_CHECK;
void t5_window_close(struct t5_window *window);
/* Copies the record, which goes through that adapter of the model, or none (-1). A scorer's needs
 * labels. */
int t5_window_add(struct t5_window *window, const struct t5_token_record *record, int32_t adapter,
                  struct t5_err *err) T5_MUST_CHECK;
int t5_window_full(const struct t5_window *window);
int64_t t5_window_count(const struct t5_window *window); /* records waiting */

/* Called behind each batch: records answered and target tokens so far, over all windows. */
typedef void t5_window_progress(void *context, int64_t records, int64_t tokens);
/* Answers the records and writes each, in order and as early as that allows, to out: with
 * "output_ids", "finish" and, for beam search, "score" replaced or added; lists of them where the
 * search returns several. A scorer gives "score" alone. "logprobs" comes last where asked for.
 * Records of a packed file become {"index": ..., ...}. Empties the window; out is flushed. */
int t5_window_answer(struct t5_window *window, FILE *out, t5_window_progress *progress,
                     void *context, struct t5_err *err) T5_MUST_CHECK;

#endif
