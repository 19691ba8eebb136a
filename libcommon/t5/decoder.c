/* decoder.c - one decoding step over KV caches. The layers are those of forward.c, taken a position
 * at a time: HF T5Block with past_key_values. */
/* SPDX-License-Identifier: MIT */
#include "t5/decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t5/arena.h"
#include "t5/layers.h"

/* A step of so many rows as the device remembers it. Sizes come back: those of a batch until one of
 * its sequences is finished, and those of the next batch. */
#define RECORDED 8
#define SOURCE_ROUND 256 /* longest sources are rounded up to this, so that steps are the same */
struct recorded {
    int64_t n_rows, longest_source, sharing;
    int seen; /* run so often */
    struct t5_recording *recording;
};

struct t5_decoder {
    struct t5_model *m;
    struct t5_decoder_limits limits;
    void *memory;
    act **cross_kv;           /* a layer: (source tokens, 2HK) */
    act **k_cache, **v_cache; /* a layer: (slots, length, HK) */
    int32_t *rows;            /* (R x (5 + length)): a step's arrays, one behind the other */
    int32_t *token, *position, *slot, *begin, *count, *history; /* in rows, for n_rows of them */
    int32_t *edit_row, *edit_id;
    float *x;
    act *y, *qkv, *q, *attended, *delta, *g, *h, *u;
    float *logits;
    int32_t *top; /* (R x (2 x candidates + 1)): values, ids, log-sum-exps, for n_rows of them */
    int64_t n_rows, longest_source, sharing; /* of the last step */
    int pending;                             /* delta is to be added to x */
    int32_t *offsets;                        /* host: of the encoded sources */
    int32_t *adapter;                        /* host: theirs; mixed: whether it counts */
    int mixed;
    struct t5_packed step;         /* the rows of a step; host spans only */
    int32_t *host_rows, *host_top; /* as rows, top */
    struct recorded recorded[RECORDED];
    int next_recorded;
    void *stack_memory;         /* device */
    struct t5_stacked *stacked; /* the layers as one piece, or NULL */
};

static int64_t lay(struct t5_decoder *d, const struct t5_model *m,
                   const struct t5_decoder_limits *limits, char *base)
{
    const struct t5_config *c = &m->config;
    struct t5_arena a = {.base = base};
    int64_t R = limits->rows, wide = c->d_ff * (c->gated ? 2 : 1), ranks = 0;
    size_t e = m->act_size, f = sizeof(float), i4 = sizeof(int32_t);
    for (int i = 0; i < m->n_linears; i++)
        ranks = m->linears[i]->ranks > ranks ? m->linears[i]->ranks : ranks;
    for (int64_t l = 0; l < c->n_decoder; l++) {
        act *kv = t5_arena_take(&a, limits->source_tokens * 2 * m->inner, e);
        act *kc = t5_arena_take(&a, limits->slots * limits->length * m->inner, e);
        act *vc = t5_arena_take(&a, limits->slots * limits->length * m->inner, e);
        if (base)
            d->cross_kv[l] = kv, d->k_cache[l] = kc, d->v_cache[l] = vc;
    }
    d->rows = t5_arena_take(&a, R * (5 + limits->length), i4);
    d->edit_row = t5_arena_take(&a, R * limits->length, i4);
    d->edit_id = t5_arena_take(&a, R * limits->length, i4);
    d->x = t5_arena_take(&a, R * c->d_model, f);
    d->y = t5_arena_take(&a, R * c->d_model, e);
    d->qkv = t5_arena_take(&a, R * 3 * m->inner, e);
    d->q = t5_arena_take(&a, R * m->inner, e);
    d->attended = t5_arena_take(&a, R * m->inner, e);
    d->delta = t5_arena_take(&a, R * c->d_model, e);
    d->g = t5_arena_take(&a, R * wide, e);
    d->h = t5_arena_take(&a, R * c->d_ff, e);
    d->u = t5_arena_take(&a, R * ranks, e);
    d->logits = t5_arena_take(&a, R * c->vocab, f);
    d->top = t5_arena_take(&a, R * (2 * limits->candidates + 1), i4);
    if (m->ops->decode_stack)
        d->stack_memory = t5_arena_take(
            &a, m->ops->decode_stack_bytes(m->dev, c->n_decoder, c->d_model, m->inner, c->d_ff), 1);
    return a.used;
}

int64_t t5_decoder_bytes(const struct t5_model *m, const struct t5_decoder_limits *limits)
{
    struct t5_decoder counted = {0};
    struct t5_workspace ws = {0};
    struct t5_pass_limits pass = {.input_tokens = limits->source_tokens, .seqs = limits->sources};
    int64_t logits;
    return lay(&counted, m, limits, NULL) + t5_workspace_layout(&ws, m, &pass, NULL, &logits);
}

int t5_decoder_plan(int64_t *bytes, const struct t5_backend_handle *backend,
                    const struct t5_checkpoint *checkpoint, const struct t5_config *config,
                    const struct t5_adapter *adapter, enum t5_model_mode mode,
                    const struct t5_decoder_limits *limits, struct t5_err *err)
{
    struct t5_decoder counted = {0};
    struct t5_model m;
    int has_lm_head =
        checkpoint ? t5_checkpoint_find(checkpoint, "lm_head.weight") != NULL : !config->tied;
    int rc = t5_model_describe(&m, config, has_lm_head, adapter, mode, err);
    if (rc == 0) {
        m.act_size = backend->ops.activation_size(backend->dev);
        m.ops = &backend->ops, m.dev = backend->dev;
        *bytes = lay(&counted, &m, limits, NULL);
    }
    t5_model_undescribe(&m);
    return rc;
}

static const struct t5_linear *head(const struct t5_model *m)
{
    return m->tied ? &m->shared : &m->lm_head;
}

static float logit_scale(const struct t5_model *m)
{
    return m->config.scale_output ? 1 / sqrtf((float)m->config.d_model) : 1;
}

/* Whether some adapter adds to a product. */
static int is_adapted(const struct t5_model *m, const struct t5_linear *l)
{
    for (int i = 0; i < m->n_adapters; i++)
        if (l->sides[i].n_lora)
            return 1;
    return 0;
}

/* d->stacked, where the backend takes these layers in one piece. */
static int stack_layers(struct t5_decoder *d, struct t5_err *err)
{
    struct t5_model *m = d->m;
    struct t5_run run;
    struct t5_pass pass = {0};
    struct t5_decode_layer *layers;
    if (!m->ops->decode_stack || !m->config.gated || m->config.n_decoder == 0)
        return 0;
    layers = t5_alloc((size_t)m->config.n_decoder, sizeof *layers, "layers", err);
    if (!layers)
        return -1;
    int whole = 1;
    for (int64_t l = 0; l < m->config.n_decoder; l++) {
        const struct t5_block *b = &m->decoder.blocks[l];
        const struct t5_linear *products[] = {&b->qkv,     &b->self_o, &b->cross_q,
                                              &b->cross_o, &b->wi,     &b->wo};
        for (int i = 0; i < 6; i++)
            whole = whole && !is_adapted(m, products[i]);
        layers[l] =
            (struct t5_decode_layer){b->qkv.w,     b->self_o.w,   b->cross_q.w,   b->cross_o.w,
                                     b->wi.w,      b->wo.w,       b->self_norm.w, b->cross_norm.w,
                                     b->ff_norm.w, d->k_cache[l], d->v_cache[l],  d->cross_kv[l]};
    }
    t5_run_init(&run, m, &pass);
    struct t5_decode_stack stack = {.layers = layers,
                                    .n_layers = m->config.n_decoder,
                                    .d_model = m->config.d_model,
                                    .d_ff = m->config.d_ff,
                                    .self = t5_attention_shape(&run, &m->decoder, 0, 0, NULL, NULL),
                                    .kind = t5_glu_kind(&m->config),
                                    .eps = m->config.eps,
                                    .scale = logit_scale(m),
                                    .final_norm = m->decoder.final_norm.w,
                                    .head = head(m)->w};
    if (whole)
        d->stacked = m->ops->decode_stack_open(m->dev, d->stack_memory, &stack);
    free(layers);
    return 0;
}

int t5_decoder_open(struct t5_decoder **out, struct t5_model *m,
                    const struct t5_decoder_limits *limits, struct t5_err *err)
{
    struct t5_pass_limits pass = {.input_tokens = limits->source_tokens, .seqs = limits->sources};
    size_t layers = (size_t)m->config.n_decoder;
    struct t5_decoder *d = t5_alloc_zeroed(1, sizeof *d, "a decoder", err);
    *out = NULL;
    if (!d)
        return -1;
    d->m = m;
    d->limits = *limits;
    d->cross_kv = t5_alloc_zeroed(3 * layers, sizeof *d->cross_kv, "caches", err);
    d->offsets = t5_alloc((size_t)limits->sources + 1, sizeof *d->offsets, "sources", err);
    d->host_rows = t5_alloc((size_t)limits->rows,
                            (size_t)(5 + limits->length) * sizeof *d->host_rows, "rows", err);
    d->host_top = t5_alloc((size_t)limits->rows,
                           (size_t)(2 * limits->candidates + 1) * sizeof *d->host_top, "rows", err);
    d->adapter = t5_alloc((size_t)limits->sources, sizeof *d->adapter, "sources", err);
    d->step.spans = t5_alloc((size_t)limits->rows, sizeof *d->step.spans, "rows", err);
    if (!d->cross_kv || !d->offsets || !d->host_rows || !d->host_top || !d->adapter ||
        !d->step.spans)
        goto fail;
    d->k_cache = d->cross_kv + layers;
    d->v_cache = d->k_cache + layers;
    if (m->ops->alloc(m->dev, &d->memory, (size_t)lay(d, m, limits, NULL), "decoder caches", err))
        goto fail;
    lay(d, m, limits, d->memory);
    if (t5_model_reserve(m, &pass, err) || stack_layers(d, err))
        goto fail;
    *out = d;
    return 0;
fail:
    t5_decoder_close(d);
    return -1;
}

void t5_decoder_close(struct t5_decoder *d)
{
    if (!d)
        return;
    for (int i = 0; i < RECORDED; i++)
        if (d->recorded[i].recording)
            d->m->ops->recording_free(d->m->dev, d->recorded[i].recording);
    if (d->stacked)
        d->m->ops->decode_stack_close(d->m->dev, d->stacked);
    d->m->ops->release(d->m->dev, d->memory);
    free(d->cross_kv);
    free(d->offsets);
    free(d->host_rows);
    free(d->host_top);
    free(d->adapter);
    free(d->step.spans);
    free(d);
}

int t5_decoder_encode(struct t5_decoder *d, const int32_t *ids, const int32_t *offsets,
                      const int32_t *adapter, int64_t n_seqs, struct t5_err *err)
{
    struct t5_model *m = d->m;
    struct t5_workspace *ws = &m->ws;
    struct t5_run run;
    struct t5_pass pass = {0};
    if (n_seqs > d->limits.sources || offsets[n_seqs] > d->limits.source_tokens)
        return t5_fail_as(err, T5_ENVIRONMENT, "%lld sources of %lld tokens do not fit the decoder",
                          (long long)n_seqs, (long long)offsets[n_seqs]);
    memcpy(d->offsets, offsets, (size_t)(n_seqs + 1) * sizeof *offsets);
    d->mixed = adapter != NULL;
    if (adapter)
        memcpy(d->adapter, adapter, (size_t)n_seqs * sizeof *adapter);
    t5_packed_fill(&ws->src, &ws->host_src, m, ids, offsets, NULL, n_seqs, 0);
    t5_workspace_upload(ws, m);
    t5_packed_spans(&ws->src, adapter, offsets, n_seqs);
    t5_run_init(&run, m, &pass);
    t5_encoder_forward(&run);
    for (int64_t l = 0; l < m->config.n_decoder; l++) {
        struct t5_linear *kv = &m->decoder.blocks[l].cross_kv;
        t5_linear_run(&run, kv, d->cross_kv[l], 2 * m->inner, ws->decoder.blocks[l].u_cross_kv,
                      ws->encoder.hidden, m->config.d_model, &ws->src);
    }
    return m->ops->sync(m->dev, err);
}

/* The step's arrays go up in one piece. */
static void upload_rows(struct t5_decoder *d, const struct t5_decoder_rows *rows)
{
    struct t5_model *m = d->m;
    int64_t n = rows->n_rows, longest = 0, sources = 0, length = d->limits.length;
    int32_t **const place[] = {&d->token, &d->position, &d->slot,
                               &d->begin, &d->count,    &d->history};
    const int32_t *const given[] = {rows->token, rows->position, rows->slot};
    for (int i = 0; i < 6; i++)
        *place[i] = d->rows + i * n;
    for (int i = 0; i < 3; i++)
        memcpy(d->host_rows + i * n, given[i], (size_t)n * sizeof **given);
    int32_t *begin = d->host_rows + 3 * n, *count = begin + n;
    memcpy(count + n, rows->history, (size_t)(n * length) * sizeof *rows->history);
    d->step.pack.n_tokens = n;
    d->step.n_spans = 0;
    for (int64_t r = 0; r < n; r++) {
        begin[r] = d->offsets[rows->source[r]];
        count[r] = d->offsets[rows->source[r] + 1] - begin[r];
        longest = count[r] > longest ? count[r] : longest;
        sources += r == 0 || rows->source[r] != rows->source[r - 1];
        if (d->mixed)
            t5_packed_span(&d->step, d->adapter[rows->source[r]], 1);
    }
    d->longest_source = (longest + SOURCE_ROUND - 1) / SOURCE_ROUND * SOURCE_ROUND;
    d->sharing = 2 * sources <= n ? 4 : 1; /* two values, so that steps are the same */
    m->ops->upload(m->dev, d->rows, d->host_rows, (size_t)(n * (5 + length)) * sizeof *d->rows);
}

/* y = l(norm(x)), through the gated activation or not, after what is still to be added to x. next:
 * what is multiplied by then. */
static void enter(struct t5_decoder *d, const struct t5_run *run, const struct t5_norm *norm,
                  struct t5_linear *l, act *y, enum t5_step_end end, const struct t5_linear *next)
{
    struct t5_model *m = d->m;
    const struct t5_backend *ops = m->ops;
    enum t5_glu kind = t5_glu_kind(&m->config);
    struct t5_reader reader = t5_reader_of(l), behind = t5_reader_of(next);
    int64_t D = m->config.d_model;
    if (ops->norm_linear && !d->pending && !is_adapted(m, l) &&
        ops->norm_linear(m->dev, y, d->x, norm->w, m->config.eps, l->w, d->n_rows, end, kind, 1,
                         next->w))
        return;
    ops->norm_fwd(m->dev, d->x, d->y, d->x, d->pending ? d->delta : NULL, norm->w, d->n_rows, D,
                  m->config.eps, NULL, NULL, NULL, &reader);
    d->pending = 0;
    t5_linear_run(run, l, end == T5_STEP_GATED ? d->g : y, l->rows, d->u, d->y, D, &d->step);
    if (end == T5_STEP_GATED)
        ops->glu_fwd(m->dev, y, d->g, d->n_rows, m->config.d_ff, kind, 1, NULL, NULL, &behind);
}

/* Adds l(a) to x, now or, pending, as delta when x is next read. */
static void leave(struct t5_decoder *d, const struct t5_run *run, struct t5_linear *l, const act *a,
                  const struct t5_linear *next)
{
    struct t5_model *m = d->m;
    if (m->ops->linear_add && !is_adapted(m, l) &&
        m->ops->linear_add(m->dev, d->x, a, l->w, d->n_rows, next->w))
        return;
    t5_linear_run(run, l, d->delta, m->config.d_model, d->u, a, l->cols, &d->step);
    d->pending = 1;
}

static void step_block(struct t5_decoder *d, const struct t5_run *run, int64_t layer,
                       const struct t5_decode_rows *rows)
{
    struct t5_model *m = d->m;
    const struct t5_backend *ops = m->ops;
    struct t5_block *b = &m->decoder.blocks[layer];
    struct t5_attention self = t5_attention_shape(run, &m->decoder, layer, 0, NULL, NULL);
    struct t5_attention cross = t5_attention_shape(run, &m->decoder, layer, 1, NULL, NULL);

    const struct t5_linear *behind =
        layer + 1 < m->config.n_decoder ? &m->decoder.blocks[layer + 1].qkv : head(m);

    enter(d, run, &b->self_norm, &b->qkv, d->qkv, T5_STEP_ACT, &b->self_o);
    ops->decode_self(m->dev, d->attended, d->k_cache[layer], d->v_cache[layer], d->qkv, rows,
                     &self);
    leave(d, run, &b->self_o, d->attended, &b->cross_q);

    enter(d, run, &b->cross_norm, &b->cross_q, d->q, T5_STEP_ACT, &b->cross_o);
    ops->decode_cross(m->dev, d->attended, d->q, d->cross_kv[layer], rows, &cross);
    leave(d, run, &b->cross_o, d->attended, &b->wi);

    if (m->config.gated)
        enter(d, run, &b->ff_norm, &b->wi, d->h, T5_STEP_GATED, &b->wo);
    else {
        struct t5_reader reader = t5_reader_of(&b->wo);
        enter(d, run, &b->ff_norm, &b->wi, d->g, T5_STEP_ACT, &b->wo);
        ops->glu_fwd(m->dev, d->h, d->g, d->n_rows, m->config.d_ff, t5_glu_kind(&m->config), 0,
                     NULL, NULL, &reader);
    }
    leave(d, run, &b->wo, d->h, behind);
}

static void queue_logits(struct t5_decoder *d)
{
    struct t5_model *m = d->m;
    const struct t5_backend *ops = m->ops;
    int64_t D = m->config.d_model;
    const float *norm = m->decoder.final_norm.w;
    const struct t5_weight *w = head(m)->w;
    float scale = logit_scale(m);
    if (ops->norm_linear && !d->pending &&
        ops->norm_linear(m->dev, d->logits, d->x, norm, m->config.eps, w, d->n_rows, T5_STEP_LOGITS,
                         T5_GLU_RELU, scale, m->decoder.blocks[0].qkv.w))
        return;
    ops->norm_fwd(m->dev, d->x, d->y, d->x, d->pending ? d->delta : NULL, norm, d->n_rows, D,
                  m->config.eps, NULL, NULL, NULL, NULL);
    ops->logits_fwd(m->dev, d->logits, d->y, D, w, d->n_rows, scale);
}

/* From the rows on the device to their logits. */
static void queue_step(struct t5_decoder *d)
{
    struct t5_model *m = d->m;
    struct t5_run run;
    struct t5_pass pass = {0};
    struct t5_decode_rows rows = {.n_rows = d->n_rows,
                                  .length = d->limits.length,
                                  .slot = d->slot,
                                  .position = d->position,
                                  .history = d->history,
                                  .source_begin = d->begin,
                                  .source_count = d->count,
                                  .longest_source = d->longest_source,
                                  .sharing = d->sharing};
    t5_run_init(&run, m, &pass);
    m->ops->embed_fwd(m->dev, d->x, m->shared.w, d->token, &d->step.pack, NULL);
    d->pending = 0;
    if (d->stacked && m->ops->decode_stack(m->dev, d->stacked, d->x, d->logits, &rows, NULL))
        return;
    for (int64_t layer = 0; layer < m->config.n_decoder; layer++)
        step_block(d, &run, layer, &rows);
    queue_logits(d);
}

/* The place of such steps, the oldest's if it is a new one. */
static struct recorded *recall(struct t5_decoder *d)
{
    struct recorded *r = d->recorded;
    for (; r < d->recorded + RECORDED; r++)
        if (r->n_rows == d->n_rows && r->longest_source == d->longest_source &&
            r->sharing == d->sharing)
            return r;
    r = &d->recorded[d->next_recorded];
    d->next_recorded = (d->next_recorded + 1) % RECORDED;
    if (r->recording)
        d->m->ops->recording_free(d->m->dev, r->recording);
    *r = (struct recorded){d->n_rows, d->longest_source, d->sharing, 0, NULL};
    return r;
}

/* The same work as queue_step, from its third time on as one recorded piece. */
static void replay_step(struct t5_decoder *d)
{
    const struct t5_backend *ops = d->m->ops;
    struct recorded *r = recall(d);
    if (r->recording && ops->replay(d->m->dev, r->recording))
        return;
    if (r->seen++ >= 2) {
        if (r->recording)
            ops->recording_free(d->m->dev, r->recording);
        ops->record_begin(d->m->dev);
        queue_step(d);
        r->recording = ops->record_end(d->m->dev);
        if (r->recording)
            ops->replay(d->m->dev, r->recording);
        return; /* a failure is the device's, which the next download reports */
    }
    queue_step(d);
}

int t5_decoder_step(struct t5_decoder *d, const struct t5_decoder_rows *rows, struct t5_err *err)
{
    if (rows->n_rows > d->limits.rows)
        return t5_fail_as(err, T5_ENVIRONMENT, "%lld rows do not fit the decoder",
                          (long long)rows->n_rows);
    d->n_rows = rows->n_rows;
    upload_rows(d, rows);
    if (d->m->ops->record_begin && d->step.n_spans == 0)
        replay_step(d);
    else
        queue_step(d);
    return 0;
}

void t5_decoder_edit(struct t5_decoder *d, const int32_t *row, const int32_t *id, int64_t n,
                     float penalty)
{
    struct t5_model *m = d->m;
    int64_t room = d->limits.rows * d->limits.length;
    for (int64_t first = 0; first < n; first += room) {
        int64_t some = n - first < room ? n - first : room;
        m->ops->upload(m->dev, d->edit_row, row + first, (size_t)some * sizeof *row);
        m->ops->upload(m->dev, d->edit_id, id + first, (size_t)some * sizeof *id);
        m->ops->logits_edit(m->dev, d->logits, m->config.vocab, d->edit_row, d->edit_id, some,
                            penalty);
    }
}

int t5_decoder_topk(struct t5_decoder *d, float *value, int32_t *id, float *lse, int64_t k,
                    struct t5_err *err)
{
    struct t5_model *m = d->m;
    int64_t rows = d->n_rows, n = rows * k;
    int32_t *ids = d->top + n, *sums = ids + n;
    m->ops->topk(m->dev, (float *)d->top, ids, (float *)sums, d->logits, rows, m->config.vocab, k);
    if (m->ops->download(m->dev, d->host_top, d->top, (size_t)(2 * n + rows) * sizeof *d->top, err))
        return -1;
    memcpy(value, d->host_top, (size_t)n * sizeof *value);
    memcpy(id, d->host_top + n, (size_t)n * sizeof *id);
    memcpy(lse, d->host_top + 2 * n, (size_t)rows * sizeof *lse);
    return 0;
}

int t5_decoder_logits(struct t5_decoder *d, float *out, struct t5_err *err)
{
    struct t5_model *m = d->m;
    return m->ops->download(m->dev, out, d->logits,
                            (size_t)(d->n_rows * m->config.vocab) * sizeof *out, err);
}
