/* compare.c - two models, the same records. */
/* SPDX-License-Identifier: MIT */
#include "t5/compare.h"

#include <math.h>
#include <stdlib.h>

#include "base/buf.h"

void t5_comparison_add(struct t5_comparison *sum, const struct t5_comparison *one)
{
    sum->tokens += one->tokens;
    sum->agreed += one->agreed;
    sum->error2 += one->error2;
    sum->size2 += one->size2;
    sum->loss += one->loss;
    sum->original_loss += one->original_loss;
}

double t5_comparison_error(const struct t5_comparison *c)
{
    return sqrt(c->error2 / c->size2);
}

static int64_t likeliest(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static double token_loss(const float *x, int64_t n, int32_t label, int64_t top)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[top]);
    return log(sum) + (double)x[top] - (double)x[label];
}

/* One position. x: the original's logits (V) */
static struct t5_comparison compare_token(const float *x, const float *y, int64_t v, int32_t label)
{
    int64_t a = likeliest(x, v), b = likeliest(y, v);
    struct t5_comparison c = {.tokens = 1, .agreed = a == b};
    for (int64_t i = 0; i < v; i++) {
        double d = (double)y[i] - (double)x[i];
        c.error2 += d * d;
        c.size2 += (double)x[i] * (double)x[i];
    }
    c.original_loss = token_loss(x, v, label, a);
    c.loss = token_loss(y, v, label, b);
    return c;
}

int t5_compare_batch(struct t5_comparison *out, struct t5_model *original, struct t5_model *model,
                     const struct t5_batch *batch, struct t5_err *err)
{
    int64_t n = batch->label_offsets[batch->n_seqs], v = t5_model_config(original)->vocab;
    float *x = t5_alloc((size_t)(n * v), sizeof *x, "logits", err);
    float *y = t5_alloc((size_t)(n * v), sizeof *y, "logits", err);
    struct t5_comparison *tokens = t5_alloc((size_t)n, sizeof *tokens, "a comparison", err);
    int rc = -1;
    if (!x || !y || !tokens || t5_model_logits(original, batch, x, err) ||
        t5_model_logits(model, batch, y, err))
        goto out;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        tokens[i] = compare_token(x + i * v, y + i * v, v, batch->labels[i]);
    for (int64_t b = 0; b < batch->n_seqs; b++) {
        out[b] = (struct t5_comparison){0};
        for (int64_t i = batch->label_offsets[b]; i < batch->label_offsets[b + 1]; i++)
            t5_comparison_add(&out[b], &tokens[i]);
    }
    rc = 0;
out:
    free(x);
    free(y);
    free(tokens);
    return rc;
}

int t5_compare_run(struct t5_comparison *total, struct t5_model *original, struct t5_model *model,
                   const struct t5_dataset *data, int64_t batch_tokens, t5_compared *each,
                   void *context, struct t5_err *err)
{
    enum { SEQS = 32 };
    struct t5_comparison of[SEQS];
    struct t5_pass_limits limits = {0};
    struct t5_packer packer = {0};
    int rc = -1;
    *total = (struct t5_comparison){0};
    if (t5_limits_add(&limits, data, SEQS, batch_tokens, err) ||
        t5_model_reserve(original, &limits, err) || t5_model_reserve(model, &limits, err) ||
        t5_packer_init(&packer, &limits, batch_tokens, err))
        goto out;
    for (int64_t next = 0; next < data->n;) {
        int64_t first = next;
        t5_packer_clear(&packer);
        while (next < data->n && t5_packer_add(&packer, data, next))
            next++;
        if (t5_compare_batch(of, original, model, &packer.batch, err))
            goto out;
        for (int64_t i = first; i < next; i++) {
            t5_comparison_add(total, &of[i - first]);
            if (each(context, i, &of[i - first], err))
                goto out;
        }
    }
    rc = 0;
out:
    t5_packer_free(&packer);
    return rc;
}
