/* scorer.c - packed batches of sources and targets. */
/* SPDX-License-Identifier: MIT */
#include "t5/scorer.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct placed { /* a pair of the batch */
    int32_t adapter;
    int64_t which;
};

struct t5_scorer {
    struct t5_model *model;
    int64_t batch_tokens;
    struct t5_pass_limits limits;           /* what the model and the arrays below hold */
    int32_t *input, *labels;                /* (input_tokens), (label_tokens) */
    int32_t *input_offsets, *label_offsets; /* (seqs + 1) */
    int32_t *adapter;                       /* (seqs) */
    struct placed *order;                   /* (seqs) as they lie */
    float *logprobs;                        /* (label_tokens) */
};

static void release(struct t5_scorer *s)
{
    free(s->input);
    free(s->labels);
    free(s->input_offsets);
    free(s->label_offsets);
    free(s->logprobs);
    free(s->adapter);
    free(s->order);
    s->adapter = NULL;
    s->order = NULL;
    s->input = s->labels = s->input_offsets = s->label_offsets = NULL;
    s->logprobs = NULL;
}

static int reserve(struct t5_scorer *s, const struct t5_pass_limits *limits, struct t5_err *err)
{
    release(s);
    s->limits = *limits;
    if (!(s->input = t5_alloc((size_t)limits->input_tokens, sizeof *s->input, "a batch", err)) ||
        !(s->labels = t5_alloc((size_t)limits->label_tokens, sizeof *s->labels, "a batch", err)) ||
        !(s->input_offsets =
              t5_alloc((size_t)limits->seqs + 1, sizeof *s->input_offsets, "a batch", err)) ||
        !(s->label_offsets =
              t5_alloc((size_t)limits->seqs + 1, sizeof *s->label_offsets, "a batch", err)) ||
        !(s->adapter = t5_alloc((size_t)limits->seqs, sizeof *s->adapter, "a batch", err)) ||
        !(s->order = t5_alloc((size_t)limits->seqs, sizeof *s->order, "a batch", err)) ||
        !(s->logprobs =
              t5_alloc((size_t)limits->label_tokens, sizeof *s->logprobs, "a batch", err)))
        return -1;
    return t5_model_reserve(s->model, limits, err);
}

int t5_scorer_open(struct t5_scorer **out, struct t5_model *model, int64_t batch_tokens,
                   struct t5_err *err)
{
    struct t5_scorer *s = t5_alloc_zeroed(1, sizeof *s, "a scorer", err);
    *out = NULL;
    if (!s)
        return -1;
    s->model = model;
    s->batch_tokens = batch_tokens;
    *out = s;
    return 0;
}

void t5_scorer_close(struct t5_scorer *scorer)
{
    if (!scorer)
        return;
    release(scorer);
    free(scorer);
}

int64_t t5_scorer_batch_tokens(const struct t5_scorer *s)
{
    return s->batch_tokens;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Room grows with what batches need: a few short records do not take the memory of a full batch. */
static int make_room(struct t5_scorer *s, const struct t5_pass_limits *need, struct t5_err *err)
{
    struct t5_pass_limits most = {
        .input_tokens = larger(need->input_tokens, s->limits.input_tokens),
        .label_tokens = larger(need->label_tokens, s->limits.label_tokens),
        .seqs = larger(need->seqs, s->limits.seqs)};
    if (most.input_tokens == s->limits.input_tokens &&
        most.label_tokens == s->limits.label_tokens && most.seqs == s->limits.seqs)
        return 0;
    return reserve(s, &most, err);
}

static int by_adapter(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->adapter != y->adapter)
        return x->adapter < y->adapter ? -1 : 1;
    return x->which < y->which ? -1 : 1;
}

/* Packs pairs [first, first + n), those of one adapter side by side. */
static void pack(struct t5_scorer *s, const struct t5_pair *pairs, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        s->order[i] = (struct placed){pairs[first + i].adapter, first + i};
    qsort(s->order, (size_t)n, sizeof *s->order, by_adapter);
    s->input_offsets[0] = s->label_offsets[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct t5_pair *p = &pairs[s->order[i].which];
        int32_t *in = &s->input_offsets[i], *label = &s->label_offsets[i];
        memcpy(s->input + *in, p->ids, (size_t)p->n_input * sizeof *p->ids);
        memcpy(s->labels + *label, p->ids + p->n_input, (size_t)p->n_labels * sizeof *p->ids);
        in[1] = in[0] + (int32_t)p->n_input;
        label[1] = label[0] + (int32_t)p->n_labels;
        s->adapter[i] = p->adapter;
    }
}

static int run_batch(struct t5_scorer *s, const struct t5_pair *pairs, int64_t first, int64_t end,
                     t5_scored *scored, void *context, struct t5_err *err)
{
    struct t5_pass_limits need = {.seqs = end - first};
    for (int64_t i = first; i < end; i++) {
        need.input_tokens += pairs[i].n_input;
        need.label_tokens += pairs[i].n_labels;
    }
    if (make_room(s, &need, err))
        return -1;
    pack(s, pairs, first, need.seqs);
    const struct t5_batch batch = {.n_seqs = need.seqs,
                                   .input = s->input,
                                   .input_offsets = s->input_offsets,
                                   .labels = s->labels,
                                   .label_offsets = s->label_offsets,
                                   .adapter = s->adapter};
    if (t5_model_score(s->model, &batch, s->logprobs, err))
        return -1;
    for (int64_t i = 0; i < need.seqs; i++)
        if (scored(context, s->order[i].which, s->logprobs + s->label_offsets[i], err))
            return -1;
    return 0;
}

int t5_scorer_run(struct t5_scorer *s, const struct t5_pair *pairs, int64_t n, t5_scored *scored,
                  t5_score_batch_end *batch_end, void *context, struct t5_err *err)
{
    for (int64_t first = 0, end; first < n; first = end) {
        int64_t tokens = 0;
        for (end = first; end < n; end++) {
            tokens += pairs[end].n_input + pairs[end].n_labels;
            if (end > first && tokens > s->batch_tokens)
                break;
        }
        if (run_batch(s, pairs, first, end, scored, context, err) || batch_end(context, err))
            return -1;
    }
    return 0;
}
