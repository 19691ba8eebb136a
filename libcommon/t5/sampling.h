/* sampling.h - drawing one of a row's candidates: temperature, top-p and the counter-based draw. The order of
 * the filters is transformers': temperature, top-k, top-p. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SAMPLING_H
#define T5_T5_SAMPLING_H

#include <stdint.h>

/* Asked for beside top_k, so that candidates as good as the k-th are seen: they stay, as in transformers. */
#define T5_SAMPLING_EQUALS 8

struct t5_sampling {
    double temperature;
    int64_t top_k; /* 0: all */
    double top_p;
};
/* p (n): probabilities of the candidates, given with the larger logit first, summing to 1 over those kept. Returns
 * how many are kept, at least 1: the top_k largest and their equals; of these the least likely are dropped while
 * together they weigh at most 1 - top_p (transformers' TopPLogitsWarper). logit[0] must be finite; -infinity
 * weighs nothing. */
int64_t t5_sampling_filter(double *p, const float *logit, int64_t n, const struct t5_sampling *how);
/* The first index whose cumulative probability exceeds u, in [0, 1). */
int64_t t5_sampling_pick(const double *p, int64_t n, double u);

/* Names a record by its source, so that a draw does not depend on where the record stands. */
uint64_t t5_sampling_hash(const int32_t *ids, int64_t n);
/* Uniform in [0, 1), 53 bits. */
double t5_sampling_uniform(uint64_t seed, uint64_t hash, uint32_t sample, uint32_t position);

#endif
