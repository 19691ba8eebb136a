/* rouge_stats.h - how far means of ROUGE can be trusted: percentile bootstrap intervals (Efron and
 * Tibshirani, "An introduction to the bootstrap", 1993, chapter 13), and whether two systems
 * differ: the paired bootstrap, centred (the same, chapter 16), and approximate randomisation
 * (Noreen, "Computer-intensive methods for testing hypotheses", 1989).
 *
 * Draws come from base/rng.h: the same scores in the same order, number of resamples and seed give
 * the same result everywhere. A record is drawn whole, so that all measures see the same resamples.
 * Time is records x resamples; memory 24 bytes a measure for each of both. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_STATS_H
#define T5_TEXT_ROUGE_STATS_H

#include "base/buf.h"
#include "text/rouge.h"

#define T5_ROUGE_LEVEL 0.95 /* of the intervals */
#define T5_ROUGE_MAX_RESAMPLES 100000

/* Scores of all records, in order. The caller's struct, zero but for measures;
 * t5_rouge_sample_free.
 */
struct t5_rouge_sample {
    int measures;       /* how many are kept, the first ones */
    struct t5_buf rows; /* struct t5_prf (records, measures); owned */
};
int t5_rouge_sample_add(struct t5_rouge_sample *sample, const struct t5_rouge_scores *scores,
                        struct t5_err *err) T5_MUST_CHECK;
size_t t5_rouge_sample_count(const struct t5_rouge_sample *sample);
void t5_rouge_sample_free(struct t5_rouge_sample *sample);

struct t5_rouge_interval {
    struct t5_rouge_scores low, high;
};

/* Where the mean of as many records, drawn with replacement, lies in 95 % of the resamples: the
 * 2.5th and 97.5th percentile, interpolated linearly. Needs at least one record, one resample. */
int t5_rouge_bootstrap(struct t5_rouge_interval *out, const struct t5_rouge_sample *sample,
                       int64_t resamples, uint64_t seed, struct t5_err *err) T5_MUST_CHECK;

/* a - b, record by record. p values are two-sided and never 0: (1 + resamples at least as far out)
 * / (1 + resamples). */
struct t5_rouge_comparison {
    struct t5_rouge_scores difference; /* of the means */
    struct t5_rouge_interval interval; /* of the difference, as t5_rouge_bootstrap's */
    struct t5_rouge_scores p_bootstrap, p_randomisation;
};

/* Both samples hold the same measures of the same records in the same order, at least one. Under
 * the null hypothesis the bootstrap's p is below 0.05 in a little more than 5 % of all cases when
 * records are few (5.9 % at 60), randomisation's in 5 % at the most. */
int t5_rouge_compare(struct t5_rouge_comparison *out, const struct t5_rouge_sample *a,
                     const struct t5_rouge_sample *b, int64_t resamples, uint64_t seed,
                     struct t5_err *err) T5_MUST_CHECK;

#endif
