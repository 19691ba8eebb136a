/* search_inside.h - what search.c (rows and their sequences) and candidates.c (what may come next)
 * share. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SEARCH_INSIDE_H
#define T5_T5_SEARCH_INSIDE_H

#include "t5/constraints.h"
#include "t5/decoder.h"
#include "t5/search.h"

/* Candidates asked of the device at a time; where a search needs more it takes all logits and sorts
 * here. */
#define DEVICE_CANDIDATES 1024

struct rows {
    int64_t n;
    int32_t *token, *source, *lane; /* (rows); lane: which of the source's rows, and of its slots */
    int32_t *sequence;              /* (rows, max_new + 1), the start token first */
    float *logprobs;  /* (rows, max_new + 1), of the sequence's tokens; none of the start's */
    int32_t *history; /* (rows, max_new): slot that holds a position */
};

struct ranked {
    float value;
    int32_t id;
};

struct t5_search {
    struct t5_search_options o;
    const struct t5_config *config;
    struct t5_decoder *decoder;
    struct t5_constraints constraints;
    struct t5_beam_rules beam_rules;
    struct t5_beam *beams;           /* (sources), beam search only */
    int64_t lanes;                   /* rows a source */
    int64_t sources, max_rows, most; /* most candidates of a row */
    struct rows now, next;
    int32_t *position, *slot; /* (rows) */
    int64_t n_edits;
    int32_t *edit_row, *edit_id;          /* (rows x edits a row) */
    float *value, *lse;                   /* (rows, most), (rows) */
    int32_t *id;                          /* (rows, most) */
    float *logits;                        /* (rows, V), where most is beyond DEVICE_CANDIDATES */
    struct ranked *ranked;                /* (V), likewise */
    struct t5_beam_candidate *candidates; /* (lanes x most) */
    double *p;                            /* (most) */
    struct t5_beam_candidate *on;         /* (lanes), likewise beam search only */
    uint64_t *hash;                       /* (sources) */
    int32_t *results;                     /* (sources x lanes, max_new), greedy and sampling */
    float *result_logprobs;               /* likewise */
    int64_t failed;                       /* the source that the last batch failed at, or -1 */
};

/* The most candidates that a row's choice may need. */
int64_t t5_search_most_candidates(const struct t5_search *s);
int64_t t5_search_n_bans(const struct t5_search *s);
/* The token that position t is forced to, or -1. Like transformers', what is forced beats every ban
 * and has a log-probability of 0. */
int32_t t5_search_forced(const struct t5_search *s, int64_t t);
/* The *k best of each row of the step at position t, after the rules (beam search's come later, on
 * log-probabilities): value, id (rows, *k), lse (rows). */
int t5_search_candidates(struct t5_search *s, int64_t *k, int64_t t,
                         struct t5_err *err) T5_MUST_CHECK;

#endif
