/* optimizer.h - AdamW and gradient clipping over a model's flat parameters, on its device. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_OPTIMIZER_H
#define T5_T5_OPTIMIZER_H

#include "t5/model.h"

struct t5_optimizer_settings {
    double clip;         /* largest gradient norm; 0: no clipping */
    double weight_decay; /* norms and relative-position biases are exempt, as in transformers'
                            Trainer ... */
    double lora_plus;    /* B's learning rate is this times A's (arXiv:2402.12354); 0: as A's */
    int decay_all;       /* ... unless set: as torch.optim.AdamW given all parameters alike */
};

/* One tensor of the optimiser's state: what a checkpoint keeps. */
struct t5_optimizer_tensor {
    char name[136]; /* "m.NAME", "v.NAME" */
    enum t5_dtype type;
    int rank;
    int64_t shape[2], elements;
    int64_t offset; /* bytes from the state's start */
};

struct t5_optimizer {
    struct t5_model *model; /* borrowed */
    struct t5_optimizer_settings settings;
    char *state;                         /* device: all tensors */
    struct t5_optimizer_tensor *tensors; /* owned */
    int n_tensors;
    double *sum_squares; /* device */
    int64_t step;        /* updates made */
};

/* Betas 0.9 and 0.999, eps 1e-8. On failure too t5_optimizer_free must be called. */
int t5_optimizer_init(struct t5_optimizer *out, struct t5_model *model,
                      const struct t5_optimizer_settings *settings,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_optimizer_free(struct t5_optimizer *optimizer);
int64_t t5_optimizer_bytes(int64_t n_params); /* device memory it takes */
size_t t5_optimizer_tensor_bytes(const struct t5_optimizer_tensor *tensor);

/* One update from the model's gradients. *norm: of the gradients before clipping; where it is not
 * finite nothing was changed and no update is counted. */
int t5_optimizer_update(struct t5_optimizer *optimizer, double lr, double *norm,
                        struct t5_err *err) T5_MUST_CHECK;

#endif
