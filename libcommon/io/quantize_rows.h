/* quantize_rows.h - rows of one tensor from the model's type to another. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_QUANTIZE_ROWS_H
#define T5_IO_QUANTIZE_ROWS_H

#include "io/quantize.h"

/* What quantising cost, over the elements of one tensor, against its weights in f32 (after a
 * merge). */
struct t5_quantize_loss {
    double error2, weight2; /* sums of squares */
    double largest;         /* absolute error */
    int64_t not_finite;     /* among the output */
};

struct t5_quantize_lora { /* what one adapter adds: scale x B A */
    const struct t5_lora_module *module;
    int64_t rank;
    float scale;
};

struct t5_quantize_rows {
    const struct t5_quantize_step *step;
    int64_t rows, columns; /* a vector is one row */
    int64_t unit;          /* rows converted together: t5_quantize_unit */
    const struct t5_quantize_lora *loras;
    int n_loras;
    float *scratch;                /* (threads, 2, unit, columns) */
    float *scale;                  /* int8, fp8: (rows); nf4: (blocks), the largest of each */
    struct t5_quantize_loss *loss; /* (units of a block), or NULL: not asked for */
};

/* NF4's blocks run on from row to row: this many rows are whole blocks. 1 for other types. */
int64_t t5_quantize_unit(enum t5_dtype out, int64_t columns);

/* Converts rows [from, from + n): out has n x columns of step->out, from a unit's first row on;
 * their scales go to scale. In parallel over units; each is computed alone, so the result does not
 * depend on the threads. Returns -1, or the index in the tensor of the first weight that is not
 * finite. NF4's loss is measured later: its scales are made of all blocks. */
int64_t t5_quantize_rows(void *out, const struct t5_quantize_rows *job, int64_t from, int64_t n);
/* The loss of rows [from, from + n), read again, against `written`, the whole tensor as NF4. */
void t5_quantize_measure(const struct t5_quantize_rows *job, const struct t5_matrix *written,
                         int64_t from, int64_t n);
/* Index of the first of n floats of a floating type, from any alignment, that is
 * not finite, or -1. */
int64_t t5_data_not_finite(const void *bytes, enum t5_dtype type, int64_t n);

#endif
