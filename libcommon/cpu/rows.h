/* rows.h - everything the CPU backend does to one row at a time, one table an instruction set. Rows
 * need no alignment and may have any length; a result's bits depend on the row alone. exp and the
 * activations are accurate to about 2e-7 relative. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CPU_ROWS_H
#define T5_CPU_ROWS_H

#include "backend/backend.h"

/* Where a row's dropout draws begin: columns first, first + 1, ... of (record, position). */
struct t5_place {
    uint32_t record, position, first; /* first: a multiple of 4 */
};

/* AdamW's constants of one step, worked out in double. */
struct t5_adamw_row {
    float gradient; /* clip coefficient */
    float beta1, rest1, beta2, rest2;
    float keep; /* 1 - lr x weight decay */
    float rate; /* lr / (1 - beta1^step) */
    float root; /* 1 / sqrt(1 - beta2^step) */
    float eps;
};

struct t5_rows_isa {
    /* out = in x mask; may be the same. in NULL: the mask itself. */
    void (*drop)(float *out, const float *in, int64_t n, const struct t5_dropout *drop,
                 struct t5_place at);
    void (*add)(float *out, const float *a, const float *b, int64_t n); /* may be the same */
    void (*scale)(float *out, const float *in, float by, int64_t n);    /* may be the same */
    float (*dot)(const float *a, const float *b, int64_t n);
    double (*sum)(const float *x, int64_t n);
    double (*sum_squares)(const float *x, int64_t n);

    /* y = x r w */
    void (*norm)(float *y, const float *x, const float *w, float r, int64_t n);
    /* sum of dy w x */
    float (*norm_dot)(const float *dy, const float *w, const float *x, int64_t n);
    /* dx += r w dy - c x */
    void (*norm_grad)(float *dx, const float *dy, const float *w, const float *x, float r, float c,
                      int64_t n);
    /* dw += r x dy */
    void (*norm_weight)(float *dw, const float *dy, const float *x, float r, int64_t n);

    /* h = f(gate) x up; up NULL: 1 */
    void (*glu)(float *h, const float *gate, const float *up, int64_t n, enum t5_glu kind);
    /* dgate = dh up f'(gate), dup = dh f(gate); up and dup NULL: not gated */
    void (*glu_grad)(float *dgate, float *dup, const float *dh, const float *gate, const float *up,
                     int64_t n, enum t5_glu kind);

    float (*max)(const float *x, int64_t n); /* NaN where one stands in the row */
    /* out = exp(x - top), may be the same or NULL; returns the sum */
    float (*exp_sum)(float *out, const float *x, float top, int64_t n);
    /* first index from `from` on whose element is above `level`, or n */
    int64_t (*find_above)(const float *x, int64_t from, int64_t n, float level);

    /* Softmax's gradient with dropout: ds = p (dp mask - mean) into dp, p mask into p. mask NULL: 1
     */
    void (*softmax_grad)(float *p, float *dp, const float *mask, float mean, int64_t n);
    /* s[j] = q . k_j for n keys ldk apart */
    void (*scores)(float *s, const float *q, const float *k, int64_t ldk, int64_t n, int64_t d);
    /* out += sum of p[j] v_j, j ascending */
    void (*mix)(float *out, const float *p, const float *v, int64_t ldv, int64_t n, int64_t d);

    void (*adamw)(float *p, const float *g, float *m, float *v, int64_t n,
                  const struct t5_adamw_row *how);
};

extern const struct t5_rows_isa t5_rows_avx512, t5_rows_avx2, t5_rows_portable;

#endif
