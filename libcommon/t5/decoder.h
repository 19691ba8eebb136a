/* decoder.h - incremental decoding on a device: encode sources once, then one step at a time with
 * KV caches. Chooses no tokens: search.h does, from the logits' top candidates. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_DECODER_H
#define T5_T5_DECODER_H

#include "t5/model.h"

struct t5_decoder;

/* What the buffers must hold: rows of one step, slots (a slot is one row's worth of keys and
 * values), positions of a slot, sources and their tokens encoded at a time, most candidates asked
 * of t5_decoder_topk. */
struct t5_decoder_limits {
    int64_t rows, slots, length, sources, source_tokens, candidates;
};
int t5_decoder_open(struct t5_decoder **out, struct t5_model *model,
                    const struct t5_decoder_limits *limits, struct t5_err *err) T5_MUST_CHECK;
void t5_decoder_close(struct t5_decoder *decoder);
/* Bytes t5_decoder_open takes for such limits. */
int64_t t5_decoder_bytes(const struct t5_model *model, const struct t5_decoder_limits *limits);
/* The caches and step buffers alone, before a model is loaded: what t5_decoder_open takes beside a
 * workspace. */
int t5_decoder_plan(int64_t *bytes, const struct t5_backend_handle *backend,
                    const struct t5_checkpoint *checkpoint, const struct t5_config *config,
                    const struct t5_adapter *adapter, enum t5_model_mode mode,
                    const struct t5_decoder_limits *limits, struct t5_err *err) T5_MUST_CHECK;

/* Encodes n_seqs sources, packed (offsets from 0), and keeps the cross-attention keys and values of
 * every layer. adapter (n_seqs): which adapter a source and its rows go through, -1 for none; NULL:
 * the model's first, where it has one. What was encoded before is gone. */
int t5_decoder_encode(struct t5_decoder *decoder, const int32_t *ids, const int32_t *offsets,
                      const int32_t *adapter, int64_t n_seqs, struct t5_err *err) T5_MUST_CHECK;

/* One step, host arrays. Row r feeds token[r] at position[r] (the start token at 0) and attends to
 * source[r]. Its keys and values go to slot[r]; those of its earlier positions s lie in history[r *
 * length + s]. Rows may share histories (beams) but not slots. Leaves logits (rows, V) on the
 * device. */
struct t5_decoder_rows {
    int64_t n_rows;
    const int32_t *token, *position, *slot, *source; /* (n_rows) */
    const int32_t *history;                          /* (n_rows, length), length as in the limits */
};
int t5_decoder_step(struct t5_decoder *decoder, const struct t5_decoder_rows *rows,
                    struct t5_err *err) T5_MUST_CHECK;

/* logits[row][id] = -inf for n distinct pairs, or with penalty not 0 x penalty where negative and /
 * penalty where not. */
void t5_decoder_edit(struct t5_decoder *decoder, const int32_t *row, const int32_t *id, int64_t n,
                     float penalty);
/* The k largest logits of each row of the last step (larger first, equal ones by smaller id) and
 * the row's log-sum-exp: value, id (rows, k), lse (rows), host. */
int t5_decoder_topk(struct t5_decoder *decoder, float *value, int32_t *id, float *lse, int64_t k,
                    struct t5_err *err) T5_MUST_CHECK;
/* All logits of the last step (rows, V), host: for sampling without top-k. */
int t5_decoder_logits(struct t5_decoder *decoder, float *out, struct t5_err *err) T5_MUST_CHECK;

#endif
