/* quantize.h - one pass over a model that writes it again with other types: weights to int8, all to
 * bf16 or f32, adapters merged in. Memory does not grow with the model. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_QUANTIZE_H
#define T5_IO_QUANTIZE_H

#include "io/atomic.h"
#include "io/checkpoint.h"
#include "io/peft.h"

struct t5_merge {
    struct t5_adapter adapter; /* owned by whoever made it */
    double weight;
};

struct t5_quantize_options {
    const char *type;        /* "int8", "fp8", "nf4", "bf16", "f32" */
    const char *const *keep; /* "PATTERN=TYPE", the last that matches counts */
    int n_keep;
    const struct t5_merge *merges; /* added in this order: w + sum of weight x scale x B A */
    int n_merges;
    int requantize;      /* what is quantised may be quantised again */
    const char *command; /* goes into the metadata, below what is there */
    void (*progress)(void *context, int64_t bytes_read); /* or NULL */
    void *context;
};

/* What becomes of one tensor. */
struct t5_quantize_step {
    const struct t5_tensor *in;
    int n_scales;            /* tensors behind it in the model that hold its scales */
    struct t5_matrix matrix; /* it with them */
    enum t5_dtype out;
    int merged; /* adapters have something to add */
    int copy;   /* its bytes (and its scales') go over as they are */
};

/* Decides for every tensor. int8, fp8, nf4: the projections become that, the rest stay as they are;
 * bf16, f32: everything becomes that. Patterns match whole dotted components of a name, anywhere in
 * it, `*` any one; one that matches nothing is a usage error. Caller frees *out. */
int t5_quantize_plan(struct t5_quantize_step **out, int *n, const struct t5_checkpoint *model,
                     const struct t5_quantize_options *options, struct t5_err *err) T5_MUST_CHECK;

/* "int8", "fp8", "nf4", or "" where a type is not quantised. */
const char *t5_quantize_name(enum t5_dtype type);
/* What the tensor takes in the output, scales included. */
int64_t t5_quantize_bytes(const struct t5_quantize_step *step);

/* The adapter's module for the tensor of that name, or NULL. */
const struct t5_lora_module *t5_quantize_find_lora(const struct t5_adapter *a, const char *name);

/* Writes the whole file to `file`, which the caller commits, and, where report is not NULL, a line
 * of JSON per tensor to it. A weight that is not finite is refused. */
int t5_quantize_run(struct t5_atomic *file, struct t5_atomic *report,
                    const struct t5_checkpoint *model, const struct t5_quantize_options *options,
                    struct t5_err *err) T5_MUST_CHECK;

/* Appends config.json's text with the type that HF keys dtype and torch_dtype name replaced. */
struct t5_buf;
int t5_config_with_dtype(struct t5_buf *out, const char *text, size_t n, const char *dtype,
                         struct t5_err *err) T5_MUST_CHECK;

#endif
