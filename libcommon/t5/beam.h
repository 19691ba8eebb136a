/* beam.h - the bookkeeping of one source's beam search, as transformers does it: which candidates
 * go on, which are finished, when nothing better can come. Knows no model: the caller brings each
 * step's candidates.
 *
 * A finished sequence scores sum of log-probabilities / length^length_penalty, the length counting
 * new tokens with
 * </s> and without the start token. Each step takes the 2 x beams best continuations of all running
 * beams; one that ends counts only if it is among the first `beams`; at the last position all of
 * those end. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_BEAM_H
#define T5_T5_BEAM_H

#include <stdint.h>

#include "base/err.h"

enum t5_early_stopping {
    T5_EARLY_FALSE, /* stop when the best running beam, ending now, could not enter the finished
                       ones */
    T5_EARLY_TRUE,  /* stop as soon as `beams` sequences are finished */
    T5_EARLY_NEVER, /* as FALSE, but suppose the length that favours the running beam most */
};

struct t5_beam_rules {
    int64_t beams, max_new;
    double length_penalty;
    enum t5_early_stopping early;
    int32_t eos;
};

struct t5_beam_candidate {
    float score;      /* sum of log-probabilities with this token */
    int32_t beam, id; /* which running beam it continues, with what */
    float logprob;    /* of this token */
};

struct t5_beam_hypothesis {
    float score;
    int64_t n;
    int32_t *ids;    /* (max_new) new tokens, </s> included where it ended so */
    float *logprobs; /* (max_new) of each */
};

struct t5_beam {
    const struct t5_beam_rules *rules; /* borrowed */
    float *running;                    /* (beams) sums of log-probabilities, best first */
    int64_t n_running;
    struct t5_beam_hypothesis *finished; /* (beams) best first; owned */
    int64_t n_finished;
    int32_t *ids; /* memory of the hypotheses, as the next */
    float *logprobs;
};

int t5_beam_init(struct t5_beam *beam, const struct t5_beam_rules *rules,
                 struct t5_err *err) T5_MUST_CHECK;
void t5_beam_free(struct t5_beam *beam);
/* Forgets the last source: one running beam of score 0. */
void t5_beam_start(struct t5_beam *beam);
/* One step. candidates (n, any order, sorted here, -infinity left out): at least the 2 x beams best
 * continuations. sequences (running beams, stride): their tokens, the start token first; logprobs
 * (running beams, stride): those of the same places; length: new tokens counting the candidate's.
 * Fills next (beams), the candidates that go on, and returns how many; 0: the search is over. */
int64_t t5_beam_advance(struct t5_beam *beam, struct t5_beam_candidate *next,
                        struct t5_beam_candidate *candidates, int64_t n, const int32_t *sequences,
                        const float *logprobs, int64_t stride, int64_t length);

#endif
