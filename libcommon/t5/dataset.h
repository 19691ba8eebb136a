/* dataset.h - token records in memory, and the packed batches cut from them. Reads no files:
 * io/tokens.h does. Their order in an epoch: order.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_DATASET_H
#define T5_T5_DATASET_H

#include "io/tokens.h"
#include "t5/model.h"

/* Ragged arrays: record i is input[input_offsets[i] .. input_offsets[i + 1]), labels likewise.
 * Zero-initialised by the caller. */
struct t5_dataset {
    int64_t n; /* records */
    int32_t *input, *labels;
    int64_t *input_offsets, *label_offsets;                /* (n + 1); NULL while n is 0 */
    int64_t longest_input, longest_labels, longest_record; /* tokens; of a record: both together */
    int64_t input_capacity, label_capacity, capacity;
};

int t5_dataset_add(struct t5_dataset *data, const struct t5_token_record *record,
                   struct t5_err *err) T5_MUST_CHECK;
void t5_dataset_free(struct t5_dataset *data);
/* SHA-256, 64 hex digits, over the lengths and ids of all records in their order. */
void t5_dataset_digest(char out[65], const struct t5_dataset *data);
static inline int64_t t5_dataset_inputs(const struct t5_dataset *data, int64_t i)
{
    return data->input_offsets[i + 1] - data->input_offsets[i];
}
static inline int64_t t5_dataset_labels(const struct t5_dataset *data, int64_t i)
{
    return data->label_offsets[i + 1] - data->label_offsets[i];
}

/* What one pass must hold when up to `seqs` records of these data sets are packed while their
 * tokens, inputs and labels together, stay within micro_tokens (a longer record passes alone).
 * Grows *limits. */
int t5_limits_add(struct t5_pass_limits *limits, const struct t5_dataset *data, int64_t seqs,
                  int64_t micro_tokens, struct t5_err *err) T5_MUST_CHECK;

/* A packed batch being filled; its arrays are allocated once. */
struct t5_packer {
    int64_t micro_tokens, max_seqs;
    int32_t *input, *input_offsets, *labels, *label_offsets; /* owned */
    uint32_t *record;
    struct t5_packed_record *sorted; /* scratch */
    struct t5_batch batch;           /* borrows the above */
};
int t5_packer_init(struct t5_packer *packer, const struct t5_pass_limits *limits,
                   int64_t micro_tokens, struct t5_err *err) T5_MUST_CHECK;
void t5_packer_free(struct t5_packer *packer);
void t5_packer_clear(struct t5_packer *packer);
/* 1: record i was added; 0: it belongs to the next batch. */
int t5_packer_add(struct t5_packer *packer, const struct t5_dataset *data, int64_t i);
/* Puts the batch's records in order, the longest inputs first: a device that takes sequences in
 * turn then does not end on a long one. */
void t5_packer_longest_first(struct t5_packer *packer, const struct t5_dataset *data);

#endif
