/* compare.h - how far one model is from another on the same records: its logits, its likeliest
 * tokens, its loss. What the two are (types of weights, arithmetic, devices) is the caller's. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_COMPARE_H
#define T5_T5_COMPARE_H

#include "t5/dataset.h"

/* Sums over label positions. */
struct t5_comparison {
    int64_t tokens, agreed;     /* agreed: both find the same token likeliest */
    double error2, size2;       /* squares: of the logits' difference, of the original's logits */
    double loss, original_loss; /* of the tokens, in nats */
};

void t5_comparison_add(struct t5_comparison *sum, const struct t5_comparison *one);
/* sqrt(error2 / size2) */
double t5_comparison_error(const struct t5_comparison *c);

/* Both models on one batch; both have reserved room for it, and have one vocabulary. out (n_seqs).
 */
int t5_compare_batch(struct t5_comparison *out, struct t5_model *original, struct t5_model *model,
                     const struct t5_batch *batch, struct t5_err *err) T5_MUST_CHECK;

/* Called for each record in order; record from 0. 0, or -1 to stop. */
typedef int t5_compared(void *context, int64_t record, const struct t5_comparison *c,
                        struct t5_err *err);
/* On all records, packed up to batch_tokens at a time. The models have reserved nothing yet. */
int t5_compare_run(struct t5_comparison *total, struct t5_model *original, struct t5_model *model,
                   const struct t5_dataset *data, int64_t batch_tokens, t5_compared *each,
                   void *context, struct t5_err *err) T5_MUST_CHECK;

#endif
