/* generator.c - batches of sources of like length. */
/* SPDX-License-Identifier: MIT */
#include "t5/generator.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t5/decoder.h"

#define TYPICAL_SOURCE 128 /* tokens; for the default batch alone */

struct t5_generator {
    struct t5_model *model;
    struct t5_search_options options;
    int64_t batch_tokens, target; /* target: positions that a source's rows take */
    struct t5_search *search;
    int64_t sources, source_tokens;   /* what the search holds; 0 before the first run */
    int32_t *ids, *offsets;           /* a batch, packed: (source_tokens), (sources + 1) */
    int32_t *adapter;                 /* (sources) */
    struct t5_hypothesis *hypotheses; /* (sources, returned) */
    int64_t failed;                   /* the prompt that a run failed at, or -1 */
};

/* One batch: entries [begin, end) of the sorted order. */
struct cut {
    int64_t begin, end, earliest;
};

struct sorted {
    int64_t n, which; /* tokens; index of the prompt */
    int32_t adapter;
};

static void close_search(struct t5_generator *g)
{
    t5_search_close(g->search);
    free(g->ids);
    free(g->offsets);
    free(g->adapter);
    free(g->hypotheses);
    g->search = NULL;
    g->ids = g->offsets = g->adapter = NULL;
    g->hypotheses = NULL;
}

static int open_search(struct t5_generator *g, int64_t sources, int64_t source_tokens,
                       struct t5_err *err)
{
    close_search(g);
    g->sources = sources;
    g->source_tokens = source_tokens;
    g->ids = t5_alloc((size_t)source_tokens, sizeof *g->ids, "a batch", err);
    g->offsets = t5_alloc((size_t)sources + 1, sizeof *g->offsets, "a batch", err);
    g->adapter = t5_alloc((size_t)sources, sizeof *g->adapter, "a batch", err);
    g->hypotheses =
        t5_alloc((size_t)(sources * g->options.returned), sizeof *g->hypotheses, "a batch", err);
    if (!g->ids || !g->offsets || !g->adapter || !g->hypotheses)
        return -1;
    return t5_search_open(&g->search, g->model, &g->options, sources, source_tokens, err);
}

int t5_generator_open(struct t5_generator **out, struct t5_model *model,
                      const struct t5_search_options *options, int64_t batch_tokens,
                      struct t5_err *err)
{
    struct t5_generator *g = t5_alloc_zeroed(1, sizeof *g, "a generator", err);
    *out = NULL;
    if (!g)
        return -1;
    g->model = model;
    g->options = *options;
    g->batch_tokens = batch_tokens;
    g->target = t5_search_rows(options) * options->max_new;
    *out = g;
    return 0;
}

int64_t t5_generator_default_tokens(const struct t5_model *model,
                                    const struct t5_search_options *options)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    int64_t rows = t5_search_rows(options), tokens = T5_BATCH_TOKENS_GPU;
    if (strcmp(backend->ops.name, "cuda") != 0)
        return T5_BATCH_TOKENS;
    for (; tokens > T5_BATCH_TOKENS / 8; tokens /= 2) {
        int64_t sources = tokens / (TYPICAL_SOURCE + rows * options->max_new) + 1;
        struct t5_decoder_limits limits = {.rows = sources * rows,
                                           .slots = sources * rows,
                                           .length = options->max_new,
                                           .sources = sources,
                                           .source_tokens = sources * TYPICAL_SOURCE,
                                           .candidates = 2 * rows};
        if (t5_decoder_bytes(model, &limits) <= backend->ops.memory_free(backend->dev) / 2)
            break;
    }
    return tokens;
}

void t5_generator_close(struct t5_generator *generator)
{
    if (!generator)
        return;
    close_search(generator);
    free(generator);
}

const struct t5_search_options *t5_generator_options(const struct t5_generator *g)
{
    return &g->options;
}

int64_t t5_generator_batch_tokens(const struct t5_generator *g)
{
    return g->batch_tokens;
}

static int longer_first(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    return x->which < y->which ? -1 : 1;
}

/* Within a batch those of one adapter stand side by side. */
static int by_adapter(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    return x->adapter != y->adapter ? (x->adapter < y->adapter ? -1 : 1) : longer_first(a, b);
}

static int earlier_first(const void *a, const void *b)
{
    const struct cut *x = a, *y = b;
    return x->earliest < y->earliest ? -1 : 1;
}

static int64_t cut_batches(const struct t5_generator *g, struct cut *cuts, struct sorted *order,
                           int64_t n)
{
    int64_t n_cuts = 0, positions = 0;
    qsort(order, (size_t)n, sizeof *order, longer_first);
    for (int64_t i = 0; i < n; i++) {
        int64_t more = order[i].n + g->target;
        struct cut *c = &cuts[n_cuts - 1];
        if (n_cuts == 0 || positions + more > g->batch_tokens) {
            cuts[n_cuts++] = (struct cut){i, i + 1, order[i].which};
            positions = more;
            continue;
        }
        positions += more;
        c->end = i + 1;
        if (order[i].which < c->earliest)
            c->earliest = order[i].which;
    }
    qsort(cuts, (size_t)n_cuts, sizeof *cuts, earlier_first);
    return n_cuts;
}

static int run_batch(struct t5_generator *g, const struct t5_prompt *prompts, struct sorted *order,
                     const struct cut *cut, t5_answer *answer, void *context, struct t5_err *err)
{
    int64_t n = cut->end - cut->begin;
    qsort(order + cut->begin, (size_t)n, sizeof *order, by_adapter);
    g->offsets[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct t5_prompt *p = &prompts[order[cut->begin + i].which];
        g->adapter[i] = p->adapter;
        memcpy(g->ids + g->offsets[i], p->ids, (size_t)p->n * sizeof *p->ids);
        g->offsets[i + 1] = g->offsets[i] + (int32_t)p->n;
    }
    if (t5_search_batch(g->search, g->hypotheses, g->ids, g->offsets, g->adapter, n, err)) {
        int64_t source = t5_search_failed(g->search);
        g->failed = source < 0 ? -1 : order[cut->begin + source].which;
        return -1;
    }
    for (int64_t i = 0; i < n; i++)
        if (answer(context, order[cut->begin + i].which, g->hypotheses + i * g->options.returned,
                   err))
            return -1;
    return 0;
}

/* Makes room for the largest of the batches; what there was room for stays for the next one. */
static int reserve(struct t5_generator *g, const struct sorted *order, const struct cut *cuts,
                   int64_t n_cuts, struct t5_err *err)
{
    int64_t sources = g->sources, source_tokens = g->source_tokens;
    for (int64_t c = 0; c < n_cuts; c++) {
        int64_t tokens = 0;
        for (int64_t i = cuts[c].begin; i < cuts[c].end; i++)
            tokens += order[i].n;
        if (cuts[c].end - cuts[c].begin > sources)
            sources = cuts[c].end - cuts[c].begin;
        if (tokens > source_tokens)
            source_tokens = tokens;
    }
    if (sources == g->sources && source_tokens == g->source_tokens)
        return 0;
    if (open_search(g, sources, source_tokens, err) == 0)
        return 0;
    close_search(g);
    g->sources = g->source_tokens = 0;
    return -1;
}

/* Cuts batches that there is room for; where memory runs out, halves of them from then on. Their
 * number, or -1. */
static int64_t fit_batches(struct t5_generator *g, struct cut *cuts, struct sorted *order,
                           int64_t n, struct t5_err *err)
{
    for (;; g->batch_tokens /= 2) {
        int64_t n_cuts = cut_batches(g, cuts, order, n);
        err->out_of_memory = 0;
        if (reserve(g, order, cuts, n_cuts, err) == 0)
            return n_cuts;
        if (!err->out_of_memory || n_cuts == n)
            return -1;
        err->text[0] = 0;
    }
}

int t5_generator_run(struct t5_generator *g, const struct t5_prompt *prompts, int64_t n,
                     t5_answer *answer, t5_batch_end *batch_end, void *context, struct t5_err *err)
{
    int rc = -1;
    struct sorted *order = t5_alloc((size_t)n, sizeof *order, "a window", err);
    struct cut *cuts = t5_alloc((size_t)n, sizeof *cuts, "a window", err);
    g->failed = -1;
    if (!order || !cuts)
        goto out;
    for (int64_t i = 0; i < n; i++)
        order[i] = (struct sorted){prompts[i].n, i, prompts[i].adapter};
    int64_t n_cuts = fit_batches(g, cuts, order, n, err);
    if (n_cuts < 0)
        goto out;
    for (int64_t i = 0; i < n_cuts; i++)
        if (run_batch(g, prompts, order, &cuts[i], answer, context, err) ||
            (batch_end && batch_end(context, err)))
            goto out;
    rc = 0;
out:
    free(order);
    free(cuts);
    return rc;
}

int64_t t5_generator_failed(const struct t5_generator *g)
{
    return g->failed;
}
