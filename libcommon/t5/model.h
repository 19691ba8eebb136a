/* model.h - a T5 model on a device: its weights, its trainable parameters, one forward and one
 * backward pass over packed batches. Knows backends only through the operator table. Does not
 * choose batches or step an optimiser (trainer.h), nor decode (decoder.h). */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_MODEL_H
#define T5_T5_MODEL_H

#include "backend/backend.h"
#include "io/checkpoint.h"
#include "io/peft.h"

enum t5_model_mode {
    T5_INFER,      /* frozen weights, an optional frozen adapter */
    T5_TRAIN_LORA, /* frozen weights, the adapter is trained */
    T5_TRAIN_FULL, /* every weight is trained; no adapter */
};

/* A trainable tensor inside the flat buffers. */
struct t5_param {
    char name[128];     /* HF name, or "MODULE.lora_A" / "MODULE.lora_B" */
    int64_t offset;     /* elements */
    int64_t rows, cols; /* cols 1 for a vector; vector says which */
    int vector;
};

struct t5_model;

/* Loads a checkpoint onto a device. adapter: NULL, or its modules are attached (T5_TRAIN_LORA needs
 * one). ops and device must outlive the model; checkpoint and adapter may go afterwards. A base
 * that is not finite is refused where it is trained. */
int t5_model_open(struct t5_model **out, const struct t5_backend_handle *backend,
                  const struct t5_checkpoint *checkpoint, const struct t5_adapter *adapter,
                  enum t5_model_mode mode, struct t5_err *err) T5_MUST_CHECK;
/* Inference: one more adapter beside those that are there, any rank, scale and modules. They are
 * numbered in the order they came, from 0 for t5_model_open's, and each sequence goes through the
 * one that t5_batch or t5_decoder_encode names. Called before anything is reserved or decoded. */
int t5_model_add_adapter(struct t5_model *model, const struct t5_adapter *adapter,
                         struct t5_err *err) T5_MUST_CHECK;
/* A model from scratch (mode T5_TRAIN_FULL), initialised as HF's T5PreTrainedModel._init_weights
 * with initializer factor 1, from counter-based draws keyed by seed. */
int t5_model_create(struct t5_model **out, const struct t5_backend_handle *backend,
                    const struct t5_config *config, uint64_t seed,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_model_close(struct t5_model *model);

const struct t5_config *t5_model_config(const struct t5_model *model);
const struct t5_backend_handle *t5_model_backend(const struct t5_model *model);

/* ---- trainable parameters: flat f32 buffers on the device, in the order of t5_model_param ---- */
int64_t t5_model_n_params(const struct t5_model *model); /* elements in all */
int t5_model_param_count(const struct t5_model *model);  /* tensors */
const struct t5_param *t5_model_param(const struct t5_model *model, int i);
float *t5_model_params(const struct t5_model *model); /* device */
float *t5_model_grads(const struct t5_model *model);  /* device; zeroed by the caller */
/* After the parameters changed: prepares what the products read. */
void t5_model_refresh(struct t5_model *model);
/* Copies between the flat buffer and host memory of n_params floats. */
int t5_model_get_params(const struct t5_model *model, float *host,
                        struct t5_err *err) T5_MUST_CHECK;
int t5_model_set_params(struct t5_model *model, const float *host,
                        struct t5_err *err) T5_MUST_CHECK;

/* ---- passes ---- */

/* B records, packed, on the host. Offsets start at 0 and have B + 1 entries. */
struct t5_batch {
    int64_t n_seqs;
    const int32_t *input; /* source ids */
    const int32_t *input_offsets;
    const int32_t *labels; /* target ids; the decoder is fed them shifted right */
    const int32_t *label_offsets;
    const uint32_t *record; /* record numbers, for dropout draws */
    /* (B) each one's adapter, -1 for none; NULL: the model's first, where it has one. Faster where
     * those of one adapter lie side by side. */
    const int32_t *adapter;
};

/* What the backward pass makes again instead of having kept it. */
enum t5_recompute {
    T5_RECOMPUTE_NONE,
    T5_RECOMPUTE_NORMS,  /* the norms' outputs: next to no time */
    T5_RECOMPUTE_BLOCKS, /* all of a block but its input: a third slower */
};

/* The most that one pass will hold; t5_model_reserve allocates for it, once. */
struct t5_pass_limits {
    int64_t input_tokens, label_tokens, seqs;
    enum t5_recompute recompute; /* training: the same gradients, bit for bit */
};
int t5_model_reserve(struct t5_model *model, const struct t5_pass_limits *limits,
                     struct t5_err *err) T5_MUST_CHECK;

struct t5_pass {
    float loss_scale;      /* gradient of loss_scale x sum of token losses: 1 / target tokens of the
                              whole batch */
    float label_smoothing; /* share of each target that goes to all tokens alike; 0: none */
    float model_dropout;   /* T5's own; 0: none */
    float lora_dropout;
    uint64_t seed, epoch; /* key the draws */
};
/* Adds the gradients of this (micro-)batch to t5_model_grads and the sum of its token losses to
 * *loss, on the device; `first` sets that instead. Waits for nothing: the batch may go at once. What
 * has failed by then, memory that an operator lacked above all, is told. */
int t5_model_queue(struct t5_model *model, const struct t5_batch *batch, const struct t5_pass *pass,
                   double *loss, int first, struct t5_err *err) T5_MUST_CHECK;
/* The same, waiting for the sum, which goes to the host. */
int t5_model_train(struct t5_model *model, const struct t5_batch *batch, const struct t5_pass *pass,
                   double *loss_sum, struct t5_err *err) T5_MUST_CHECK;
/* Log-probability of every label, without dropout: out (label tokens), host. */
int t5_model_score(struct t5_model *model, const struct t5_batch *batch, float *out,
                   struct t5_err *err) T5_MUST_CHECK;
/* Logits of every label position (label tokens, V), host; for tests and comparisons of small
 * models. */
int t5_model_logits(struct t5_model *model, const struct t5_batch *batch, float *out,
                    struct t5_err *err) T5_MUST_CHECK;

/* ---- the memory plan ---- */
struct t5_plan_row {
    const char *what; /* "weights", "parameters", "gradients", "optimiser", "activations", "logits",
                         "device", ... */
    int64_t bytes;
    int64_t taken; /* already, of these: by opening the device */
};
#define T5_PLAN_ROWS 10
/* What t5_model_open and t5_model_reserve will take on this device, without taking it. adapter may
 * be NULL. Fills rows[0..*n). */
int t5_model_plan(struct t5_plan_row rows[T5_PLAN_ROWS], int *n,
                  const struct t5_backend_handle *backend, const struct t5_checkpoint *checkpoint,
                  const struct t5_config *config, const struct t5_adapter *adapter,
                  enum t5_model_mode mode, const struct t5_pass_limits *limits,
                  struct t5_err *err) T5_MUST_CHECK;

#endif
