/* rouge_stats.h - how far means of ROUGE can be trusted: percentile bootstrap intervals (Efron and
 * Tibshirani, "An introduction to the bootstrap", 1993, chapter 13).
 *
 * Draws come from base/rng.h: the same scores in the same order, number of resamples and seed give
 * the same result everywhere. A record is drawn whole, so that all measures see the same resamples.
 * Time is records x resamples; memory 96 bytes for each of both. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_STATS_H
#define T5_TEXT_ROUGE_STATS_H

#include "base/buf.h"
#include "text/rouge.h"

#define T5_ROUGE_LEVEL 0.95 /* of the intervals */
#define T5_ROUGE_MAX_RESAMPLES 100000

/* Scores of all records, in order. The caller's struct, zero-initialised; t5_rouge_sample_free. */
struct t5_rouge_sample {
    struct t5_buf rows; /* struct t5_rouge_scores, one a record; owned */
};
int t5_rouge_sample_add(struct t5_rouge_sample *sample, const struct t5_rouge_scores *scores,
                        struct t5_err *err) T5_MUST_CHECK;
size_t t5_rouge_sample_count(const struct t5_rouge_sample *sample);
void t5_rouge_sample_free(struct t5_rouge_sample *sample);

struct t5_rouge_interval {
    struct t5_rouge_scores low, high;
};

/* Where the mean of as many records, drawn with replacement, lies in 95 % of the resamples: the
 * 2.5th and 97.5th percentile, interpolated linearly. Needs at least one record and one resample. */
int t5_rouge_bootstrap(struct t5_rouge_interval *out, const struct t5_rouge_sample *sample,
                       int64_t resamples, uint64_t seed, struct t5_err *err) T5_MUST_CHECK;

#endif
