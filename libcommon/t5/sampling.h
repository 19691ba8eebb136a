/* sampling.h - drawing one of a row's candidates: temperature, the filters and the counter-based
 * draw. Their order is transformers': temperature, top-k, top-p, min-p, typical; each sees what the
 * one before left. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SAMPLING_H
#define T5_T5_SAMPLING_H

#include <stdint.h>

/* Asked for beside top_k, so that candidates as good as the k-th are seen: they stay, as in
 * transformers. */
#define T5_SAMPLING_EQUALS 8

struct t5_sampling {
    double temperature;
    int64_t top_k;  /* 0: all */
    double top_p;   /* 1: all */
    double min_p;   /* 0: all */
    double typical; /* 0 and 1: all */
};
/* p (n): probabilities of the candidates, given with the larger logit first, summing to 1 over
 * those kept. Returns a number, at least 1, of candidates that hold all that are kept:
 * - the top_k largest and their equals;
 * - of these all but the least likely that together weigh at most 1 - top_p (transformers'
 * TopPLogitsWarper);
 * - of these the ones at least min_p times as likely as the first (MinPLogitsWarper);
 * - of these the ones whose surprise, -log p, is nearest to its mean, the entropy, up to a mass of
 * `typical`, and those as near (TypicalLogitsWarper, arXiv:2202.00666). This drops likely ones,
 * too: their p is 0. logit[0] must be finite; -infinity weighs nothing. */
int64_t t5_sampling_filter(double *p, const float *logit, int64_t n, const struct t5_sampling *how);
/* The first index whose cumulative probability exceeds u, in [0, 1). */
int64_t t5_sampling_pick(const double *p, int64_t n, double u);

/* Names a record by its source, so that a draw does not depend on where the record stands. */
uint64_t t5_sampling_hash(const int32_t *ids, int64_t n);
/* Uniform in [0, 1), 53 bits. */
double t5_sampling_uniform(uint64_t seed, uint64_t hash, uint32_t sample, uint32_t position);

#endif
