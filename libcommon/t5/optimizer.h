/* optimizer.h - AdamW, AdamW with 8-bit moments, Adafactor, and gradient clipping over a model's
 * flat parameters, on its device. The layout of the state: optimizer_state.c. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_OPTIMIZER_H
#define T5_T5_OPTIMIZER_H

#include "t5/model.h"

enum t5_optimizer_kind {
    T5_ADAMW,
    T5_ADAMW8,    /* bitsandbytes' AdamW8bit as transformers' Trainer sets it up: embeddings and
                     tensors of fewer than 4,096 elements keep 32 bits */
    T5_ADAFACTOR, /* transformers' Adafactor with scale_parameter and relative_step off */
};
#define T5_OPTIMIZERS 3
extern const char *const t5_optimizer_names[T5_OPTIMIZERS]; /* "adamw", "adamw8bit", "adafactor" */

struct t5_optimizer_settings {
    enum t5_optimizer_kind kind;
    double clip;         /* largest gradient norm; 0: no clipping */
    double weight_decay; /* norms and relative-position biases are exempt, as in transformers'
                            Trainer ... */
    double lora_plus;    /* B's learning rate is this times A's (arXiv:2402.12354); 0: as A's */
    int decay_all;       /* ... unless set: as torch.optim.AdamW given all parameters alike */
};

/* One tensor of the optimiser's state: what a checkpoint keeps. */
struct t5_optimizer_tensor {
    char name[136]; /* "m.NAME", "v.NAME", "m_scale.NAME", "row.NAME" ... */
    enum t5_dtype type;
    int rank;
    int64_t shape[2], elements;
    int64_t offset; /* bytes from the state's start */
};

/* Where the state of one parameter tensor lies: bytes from the start, -1 where it has no such part.
 */
struct t5_optimizer_place {
    int64_t first, second;             /* m and v; Adafactor: row and col, or v alone */
    int64_t first_scale, second_scale; /* 8 bits only */
};

/* What a step sums up on the device. */
enum { T5_SUM_SQUARES, T5_SUM_LOSS, T5_SUMS }; /* of the gradients; of the token losses */

struct t5_optimizer {
    struct t5_model *model; /* borrowed */
    struct t5_optimizer_settings settings;
    char *state;                         /* device: all tensors */
    struct t5_optimizer_tensor *tensors; /* owned */
    int n_tensors;
    struct t5_optimizer_place *places; /* owned: one a parameter tensor */
    float *maps;  /* device: t5_dynamic_maps, where there are 8 bits; or NULL */
    double *sums; /* device (T5_SUMS) */
    int64_t step; /* updates made */
};

/* Betas 0.9 and 0.999, eps 1e-8. On failure too t5_optimizer_free must be called. */
int t5_optimizer_init(struct t5_optimizer *out, struct t5_model *model,
                      const struct t5_optimizer_settings *settings,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_optimizer_free(struct t5_optimizer *optimizer);
/* Refuses (T5_USAGE) what a backend has no operator for. */
int t5_optimizer_check(enum t5_optimizer_kind kind, const struct t5_backend_handle *backend,
                       struct t5_err *err) T5_MUST_CHECK;

/* Queues one update from the model's gradients and leaves the sum of their squares before clipping
 * in sums: NaN where the loss there is not finite or above most_loss. Where it is not finite nothing is changed;
 * otherwise the caller counts the update in `step` before it queues the next one. */
void t5_optimizer_queue(struct t5_optimizer *optimizer, double lr, double most_loss);

/* ---- the state ---- */

/* Fills tensors, n_tensors and places from the model's parameters. *bytes: of the whole state. */
int t5_optimizer_describe(struct t5_optimizer *optimizer, int64_t *bytes,
                          struct t5_err *err) T5_MUST_CHECK;
/* The same number before a model is there, for training every weight of a config. */
int t5_optimizer_plan(int64_t *bytes, enum t5_optimizer_kind kind, const struct t5_config *config,
                      struct t5_err *err) T5_MUST_CHECK;
size_t t5_optimizer_tensor_bytes(const struct t5_optimizer_tensor *tensor);

#endif
