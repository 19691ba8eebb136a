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
    const struct t5_quantize_lora *loras;
    int n_loras;
    float *scratch;                /* (threads, 2, columns) */
    struct t5_quantize_loss *loss; /* (rows of a block), or NULL: not asked for */
};

/* Converts rows [from, from + n): out (n, columns) of step->out; scale (n) where that is int8. In
 * parallel over rows; each row is computed alone, so the result does not depend on the threads.
 * Returns -1, or the index in the tensor of the first weight that is not finite. */
int64_t t5_quantize_rows(void *out, float *scale, const struct t5_quantize_rows *job, int64_t from,
                         int64_t n);
/* Index of the first of n floats of a floating type, from any alignment, that is
 * not finite, or -1. */
int64_t t5_data_not_finite(const void *bytes, enum t5_dtype type, int64_t n);

#endif
