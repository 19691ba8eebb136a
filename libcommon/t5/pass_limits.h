/* pass_limits.h - the most that one pass of a run will hold. A run's batches are known beforehand,
 * by seed and order, so they are cut once without being packed. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_PASS_LIMITS_H
#define T5_T5_PASS_LIMITS_H

#include "t5/order.h"

/* What a run makes of its records; data sets are borrowed and may be empty. */
struct t5_passes {
    const struct t5_dataset *train, *eval;
    enum t5_order_kind order;
    uint64_t seed;
    int64_t batch;
    int64_t steps; /* of the whole run; 0: not known. Then, and beyond T5_PASSES_MOST records, the
                      bound is the longest records together */
    int64_t micro_tokens;
};
#define T5_PASSES_MOST ((int64_t)1 << 20)

/* *limits: its seqs is what t5_packer_init must be given for the passes to be these. */
int t5_passes_limits(struct t5_pass_limits *limits, const struct t5_passes *passes,
                     struct t5_err *err) T5_MUST_CHECK;

#endif
