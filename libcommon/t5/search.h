/* search.h - the search for output ids, one batch of sources at a time: greedy, beam, sampling.
 * Drives a decoder; the rules are in constraints.h, sampling.h and beam.h. Does not choose batches:
 * see generator.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SEARCH_H
#define T5_T5_SEARCH_H

#include "t5/beam.h"
#include "t5/id_lists.h"
#include "t5/model.h"
#include "t5/sampling.h"

enum t5_search_kind { T5_GREEDY, T5_BEAM, T5_SAMPLE };

/* As transformers' generation options of these names. */
struct t5_search_options {
    enum t5_search_kind kind;
    int64_t returned; /* sequences a source: 1 where greedy, at most beams where beam */
    int64_t max_new, min_new;
    int64_t no_repeat;              /* n-gram size; 0: none */
    double repetition_penalty;      /* 1: none */
    const struct t5_id_lists *bans; /* bad_words_ids; NULL: none; borrowed */
    const int32_t *prefix;          /* (n_prefix) every sequence's first tokens, each forced as
                                       transformers' forced_bos_token_id is; borrowed */
    int64_t n_prefix;               /* at most max_new */
    int force_eos;                  /* </s> at max_new: forced_eos_token_id */
    int64_t beams;                  /* beam only, as the next two */
    double length_penalty;
    enum t5_early_stopping early;
    struct t5_sampling sampling; /* sampling only, as the next */
    uint64_t seed;
};

/* Rows that one source takes in a step. */
int64_t t5_search_rows(const struct t5_search_options *options);

struct t5_hypothesis {
    const int32_t *ids; /* new tokens, </s> included; borrowed until the next batch, as the next */
    /* (n) log-softmax of each token's logits after the rules, before sampling's filters; for beam
     * search the log-probability after the rules, which act on those there */
    const float *logprobs;
    int64_t n;   /* 0 only where the rules left nothing to say */
    int eos;     /* ended by itself, not by max_new */
    float score; /* beam only: sum of log-probabilities / n^length_penalty */
};

struct t5_search;

/* The search holds at most `sources` sources of together source_tokens tokens. model and options
 * are borrowed. */
int t5_search_open(struct t5_search **out, struct t5_model *model,
                   const struct t5_search_options *options, int64_t sources, int64_t source_tokens,
                   struct t5_err *err) T5_MUST_CHECK;
void t5_search_close(struct t5_search *search);
/* Searches for n sources, packed (offsets (n + 1) from 0), each through its adapter (adapter (n) or
 * NULL, as in t5_decoder_encode). Fills out (n, returned), best first. A source's result does not
 * depend on the others beside it. */
int t5_search_batch(struct t5_search *search, struct t5_hypothesis *out, const int32_t *ids,
                    const int32_t *offsets, const int32_t *adapter, int64_t n,
                    struct t5_err *err) T5_MUST_CHECK;
/* The source that the last batch failed at, or -1: it was no source's fault. */
int64_t t5_search_failed(const struct t5_search *search);

#endif
