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

struct t5_decoder {
    struct t5_model *m;
    struct t5_decoder_limits limits;
    void *memory;
    act **cross_kv;           /* a layer: (source tokens, 2HK) */
    act **k_cache, **v_cache; /* a layer: (slots, length, HK) */
    int32_t *token, *position, *slot, *begin, *count, *history, *edit_row, *edit_id;
    float *x;
    act *y, *qkv, *q, *attended, *delta, *g, *h, *u;
    float *logits, *value, *lse;
    int32_t *id;
    int64_t n_rows;   /* of the last step */
    int32_t *offsets; /* host: of the encoded sources */
    int32_t *adapter; /* host: theirs; mixed: whether it counts */
    int mixed;
    struct t5_packed step; /* the rows of a step; host spans only */
    int32_t *host_begin, *host_count;
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
    d->token = t5_arena_take(&a, R, i4);
    d->position = t5_arena_take(&a, R, i4);
    d->slot = t5_arena_take(&a, R, i4);
    d->begin = t5_arena_take(&a, R, i4);
    d->count = t5_arena_take(&a, R, i4);
    d->history = t5_arena_take(&a, R * limits->length, i4);
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
    d->value = t5_arena_take(&a, R * limits->candidates, f);
    d->id = t5_arena_take(&a, R * limits->candidates, i4);
    d->lse = t5_arena_take(&a, R, f);
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
        *bytes = lay(&counted, &m, limits, NULL);
    }
    t5_model_undescribe(&m);
    return rc;
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
    d->host_begin = t5_alloc(2 * (size_t)limits->rows, sizeof *d->host_begin, "rows", err);
    d->adapter = t5_alloc((size_t)limits->sources, sizeof *d->adapter, "sources", err);
    d->step.spans = t5_alloc((size_t)limits->rows, sizeof *d->step.spans, "rows", err);
    if (!d->cross_kv || !d->offsets || !d->host_begin || !d->adapter || !d->step.spans)
        goto fail;
    d->k_cache = d->cross_kv + layers;
    d->v_cache = d->k_cache + layers;
    d->host_count = d->host_begin + limits->rows;
    if (m->ops->alloc(m->dev, &d->memory, (size_t)lay(d, m, limits, NULL), "decoder caches", err))
        goto fail;
    lay(d, m, limits, d->memory);
    if (t5_model_reserve(m, &pass, err))
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
    d->m->ops->release(d->m->dev, d->memory);
    free(d->cross_kv);
    free(d->offsets);
    free(d->host_begin);
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

/* Returns the longest source among them. */
static int64_t upload_rows(struct t5_decoder *d, const struct t5_decoder_rows *rows)
{
    struct t5_model *m = d->m;
    size_t bytes = (size_t)rows->n_rows * sizeof(int32_t);
    int64_t longest = 0;
    d->step.pack.n_tokens = rows->n_rows;
    d->step.n_spans = 0;
    for (int64_t r = 0; r < rows->n_rows; r++) {
        int32_t first = d->offsets[rows->source[r]];
        if (d->mixed)
            t5_packed_span(&d->step, d->adapter[rows->source[r]], 1);
        d->host_begin[r] = first;
        d->host_count[r] = d->offsets[rows->source[r] + 1] - first;
        longest = d->host_count[r] > longest ? d->host_count[r] : longest;
    }
    m->ops->upload(m->dev, d->token, rows->token, bytes);
    m->ops->upload(m->dev, d->position, rows->position, bytes);
    m->ops->upload(m->dev, d->slot, rows->slot, bytes);
    m->ops->upload(m->dev, d->begin, d->host_begin, bytes);
    m->ops->upload(m->dev, d->count, d->host_count, bytes);
    m->ops->upload(m->dev, d->history, rows->history, bytes * (size_t)d->limits.length);
    return longest;
}

static void step_block(struct t5_decoder *d, const struct t5_run *run, int64_t layer,
                       const act *delta, const struct t5_decode_rows *rows)
{
    struct t5_model *m = d->m;
    const struct t5_backend *ops = m->ops;
    struct t5_block *b = &m->decoder.blocks[layer];
    int64_t n = rows->n_rows, D = m->config.d_model, F = m->config.d_ff, inner = m->inner;
    float eps = m->config.eps;
    struct t5_attention self = t5_attention_shape(run, &m->decoder, layer, 0, NULL, NULL);
    struct t5_attention cross = t5_attention_shape(run, &m->decoder, layer, 1, NULL, NULL);

    ops->norm_fwd(m->dev, d->x, d->y, d->x, delta, b->self_norm.w, n, D, eps, NULL, NULL, NULL);
    t5_linear_run(run, &b->qkv, d->qkv, 3 * inner, d->u, d->y, D, &d->step);
    ops->decode_self(m->dev, d->attended, d->k_cache[layer], d->v_cache[layer], d->qkv, rows,
                     &self);
    t5_linear_run(run, &b->self_o, d->delta, D, d->u, d->attended, inner, &d->step);

    ops->norm_fwd(m->dev, d->x, d->y, d->x, d->delta, b->cross_norm.w, n, D, eps, NULL, NULL, NULL);
    t5_linear_run(run, &b->cross_q, d->q, inner, d->u, d->y, D, &d->step);
    ops->decode_cross(m->dev, d->attended, d->q, d->cross_kv[layer], rows, &cross);
    t5_linear_run(run, &b->cross_o, d->delta, D, d->u, d->attended, inner, &d->step);

    ops->norm_fwd(m->dev, d->x, d->y, d->x, d->delta, b->ff_norm.w, n, D, eps, NULL, NULL, NULL);
    t5_linear_run(run, &b->wi, d->g, b->wi.rows, d->u, d->y, D, &d->step);
    ops->glu_fwd(m->dev, d->h, d->g, n, F, t5_glu_kind(&m->config), m->config.gated, NULL, NULL);
    t5_linear_run(run, &b->wo, d->delta, D, d->u, d->h, F, &d->step);
}

int t5_decoder_step(struct t5_decoder *d, const struct t5_decoder_rows *rows, struct t5_err *err)
{
    struct t5_model *m = d->m;
    int64_t D = m->config.d_model;
    struct t5_run run;
    struct t5_pass pass = {0};
    struct t5_decode_rows on_device = {.n_rows = rows->n_rows,
                                       .length = d->limits.length,
                                       .slot = d->slot,
                                       .position = d->position,
                                       .history = d->history,
                                       .source_begin = d->begin,
                                       .source_count = d->count};
    if (rows->n_rows > d->limits.rows)
        return t5_fail_as(err, T5_ENVIRONMENT, "%lld rows do not fit the decoder",
                          (long long)rows->n_rows);
    d->n_rows = rows->n_rows;
    on_device.longest_source = upload_rows(d, rows);
    t5_run_init(&run, m, &pass);
    m->ops->embed_fwd(m->dev, d->x, m->shared.w, d->token, &d->step.pack, NULL);
    for (int64_t layer = 0; layer < m->config.n_decoder; layer++)
        step_block(d, &run, layer, layer > 0 ? d->delta : NULL, &on_device);
    m->ops->norm_fwd(m->dev, d->x, d->y, d->x, d->delta, m->decoder.final_norm.w, d->n_rows, D,
                     m->config.eps, NULL, NULL, NULL);
    m->ops->logits_fwd(m->dev, d->logits, d->y, D, m->tied ? m->shared.w : m->lm_head.w, d->n_rows,
                       m->config.scale_output ? 1 / sqrtf((float)D) : 1);
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
    size_t n = (size_t)(d->n_rows * k);
    m->ops->topk(m->dev, d->value, d->id, d->lse, d->logits, d->n_rows, m->config.vocab, k);
    if (m->ops->download(m->dev, value, d->value, n * sizeof *value, err) ||
        m->ops->download(m->dev, id, d->id, n * sizeof *id, err))
        return -1;
    return m->ops->download(m->dev, lse, d->lse, (size_t)d->n_rows * sizeof *lse, err);
}

int t5_decoder_logits(struct t5_decoder *d, float *out, struct t5_err *err)
{
    struct t5_model *m = d->m;
    return m->ops->download(m->dev, out, d->logits,
                            (size_t)(d->n_rows * m->config.vocab) * sizeof *out, err);
}
