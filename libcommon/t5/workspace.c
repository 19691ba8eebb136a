/* workspace.c - the working memory of a model: one allocation, laid out by one list that both
 * counts and assigns, so that the plan is exact. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t5/arena.h"
#include "t5/layers.h"

#define LOGIT_BYTES ((int64_t)64 << 20) /* logits are made this much at a time */

static void lay_packed(struct t5_arena *a, struct t5_packed *p, int64_t tokens, int64_t seqs)
{
    p->offsets = t5_arena_take(a, seqs + 1, sizeof *p->offsets);
    p->record = t5_arena_take(a, seqs, sizeof *p->record);
    p->seq = t5_arena_take(a, tokens, sizeof *p->seq);
    p->ids = t5_arena_take(a, tokens, sizeof *p->ids);
}

/* The norm's output before a product, where a gradient will read it: else it goes to ws.y. */
static act *lay_norm(struct t5_arena *a, const struct t5_model *m, const struct t5_linear *next,
                     int64_t n, int keep)
{
    int read = m->mode == T5_TRAIN_FULL || next->ranks > 0;
    return keep == T5_KEEP_ALL && read ? t5_arena_take(a, n * m->config.d_model, m->act_size)
                                       : NULL;
}

/* First in memory, and alike on host and device. */
static void lay_batch(struct t5_arena *a, struct t5_packed *src, struct t5_packed *dst,
                      int32_t **labels, const struct t5_pass_limits *limits)
{
    lay_packed(a, src, limits->input_tokens, limits->seqs);
    lay_packed(a, dst, limits->label_tokens, limits->seqs);
    *labels = t5_arena_take(a, limits->label_tokens, sizeof **labels);
}

/* What one block keeps. n: tokens of its own stack; src: tokens of the encoder. x: a residual
 * stream to share, or NULL to keep each. */
static void lay_block(struct t5_arena *a, struct t5_tape_block *t, const struct t5_model *m,
                      const struct t5_block *b, int is_decoder, int64_t n, int64_t src, float *x,
                      int keep)
{
    int64_t D = m->config.d_model, H = m->config.n_heads;
    int64_t wide = m->config.d_ff * (m->config.gated ? 2 : 1);
    size_t f = sizeof(float), e = m->act_size;
    t->x_self = keep ? t5_arena_take(a, n * D, f) : x;
    t->y_self = lay_norm(a, m, &b->qkv, n, keep);
    t->qkv = t5_arena_take(a, n * 3 * m->inner, e);
    t->u_qkv = t5_arena_take(a, n * b->qkv.ranks, e);
    t->self_out = t5_arena_take(a, n * m->inner, e);
    t->u_self_o = t5_arena_take(a, n * b->self_o.ranks, e);
    t->self_lse = keep ? t5_arena_take(a, n * H, f) : NULL;
    if (is_decoder) {
        t->x_cross = keep ? t5_arena_take(a, n * D, f) : x;
        t->y_cross = lay_norm(a, m, &b->cross_q, n, keep);
        t->cross_q = t5_arena_take(a, n * m->inner, e);
        t->cross_kv = t5_arena_take(a, src * 2 * m->inner, e);
        t->cross_out = t5_arena_take(a, n * m->inner, e);
        t->u_cross_q = t5_arena_take(a, n * b->cross_q.ranks, e);
        t->u_cross_kv = t5_arena_take(a, src * b->cross_kv.ranks, e);
        t->u_cross_o = t5_arena_take(a, n * b->cross_o.ranks, e);
        t->cross_lse = keep ? t5_arena_take(a, n * H, f) : NULL;
    }
    t->x_ff = keep ? t5_arena_take(a, n * D, f) : x;
    t->y_ff = lay_norm(a, m, &b->wi, n, keep);
    t->g = t5_arena_take(a, n * wide, e);
    t->u_wi = t5_arena_take(a, n * b->wi.ranks, e);
    t->u_wo = t5_arena_take(a, n * b->wo.ranks, e);
}

/* The block whose products have the widest adapters: what a shared tape must hold. */
static struct t5_block widest_adapters(const struct t5_stack *stack)
{
    struct t5_block widest = stack->blocks[0];
    for (int64_t i = 1; i < stack->n_blocks; i++) {
        const struct t5_block *b = &stack->blocks[i];
        struct t5_linear *to[] = {&widest.qkv,      &widest.self_o,  &widest.cross_q,
                                  &widest.cross_kv, &widest.cross_o, &widest.wi,
                                  &widest.wo};
        const struct t5_linear *from[] = {&b->qkv,     &b->self_o, &b->cross_q, &b->cross_kv,
                                          &b->cross_o, &b->wi,     &b->wo};
        for (int k = 0; k < 7; k++)
            if (from[k]->ranks > to[k]->ranks)
                to[k]->ranks = from[k]->ranks;
    }
    return widest;
}

static void lay_tape(struct t5_arena *a, struct t5_tape *tape, const struct t5_model *m,
                     const struct t5_stack *stack, int64_t n, int64_t src, enum t5_keep keep)
{
    int64_t D = m->config.d_model;
    struct t5_tape_block counted, shared = {0};
    float *x = keep ? NULL : t5_arena_take(a, n * D, sizeof(float));
    struct t5_block widest = widest_adapters(stack);
    int shared_by_all = keep == T5_KEEP_NONE || keep == T5_KEEP_STREAM;
    if (shared_by_all)
        lay_block(a, &shared, m, &widest, stack->is_decoder, n, src, x, keep);
    for (int64_t i = 0; i < stack->n_blocks; i++) {
        struct t5_tape_block *t = tape->blocks ? &tape->blocks[i] : &counted;
        if (!shared_by_all)
            lay_block(a, t, m, &stack->blocks[i], stack->is_decoder, n, src, NULL, keep);
        else
            *t = shared;
        if (keep == T5_KEEP_STREAM && i > 0)
            t->x_self = t5_arena_take(a, n * D, sizeof(float));
    }
    tape->x_final = keep ? t5_arena_take(a, n * D, sizeof(float)) : x;
    tape->hidden = t5_arena_take(a, n * D, m->act_size);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t most_ranks(const struct t5_model *m)
{
    int64_t most = 0;
    for (int i = 0; i < m->n_linears; i++)
        most = larger(most, m->linears[i]->ranks);
    return most;
}

int64_t t5_workspace_layout(struct t5_workspace *ws, const struct t5_model *m,
                            const struct t5_pass_limits *limits, char *base, int64_t *logit_bytes)
{
    static const enum t5_keep kept[] = {[T5_RECOMPUTE_NONE] = T5_KEEP_ALL,
                                        [T5_RECOMPUTE_NORMS] = T5_KEEP_TAPES,
                                        [T5_RECOMPUTE_BLOCKS] = T5_KEEP_STREAM};
    enum t5_keep keep = m->mode == T5_INFER ? T5_KEEP_NONE : kept[limits->recompute];
    const struct t5_config *c = &m->config;
    struct t5_arena a = {.base = base};
    int64_t src = limits->input_tokens, dst = limits->label_tokens, n = larger(src, dst);
    int64_t D = c->d_model, wide = c->d_ff * (c->gated ? 2 : 1);
    int64_t rows = larger(1, LOGIT_BYTES / (c->vocab * (int64_t)sizeof(float)));
    size_t f = sizeof(float), e = m->act_size;

    ws->limits = *limits;
    ws->keep = keep;
    ws->logit_rows = rows < dst ? rows : dst;
    lay_batch(&a, &ws->src, &ws->dst, &ws->labels, limits);
    ws->batch_bytes = a.used;
    lay_tape(&a, &ws->encoder, m, &m->encoder, src, src, keep);
    lay_tape(&a, &ws->decoder, m, &m->decoder, dst, src, keep);
    ws->y = t5_arena_take(&a, n * D, e);
    ws->delta = t5_arena_take(&a, n * D, e);
    ws->h = t5_arena_take(&a, n * larger(c->d_ff, m->inner), e);
    if (keep) {
        ws->dx = t5_arena_take(&a, n * D, f);
        ws->dy = t5_arena_take(&a, n * D, e);
        ws->dbig = t5_arena_take(&a, n * larger(wide, 3 * m->inner), e);
        ws->dsmall = t5_arena_take(&a, n * larger(c->d_ff, m->inner), e);
        ws->denc = t5_arena_take(&a, src * D, e);
        ws->du = t5_arena_take(&a, n * most_ranks(m), e);
    }
    int64_t before = a.used;
    ws->logits = t5_arena_take(&a, ws->logit_rows * c->vocab, f);
    ws->dlogits =
        keep && e != f ? t5_arena_take(&a, ws->logit_rows * c->vocab, e) : (act *)ws->logits;
    ws->nll = t5_arena_take(&a, dst, f);
    ws->loss = t5_arena_take(&a, 1, sizeof *ws->loss);
    *logit_bytes = a.used - before;
    return a.used;
}

int t5_workspace_open(struct t5_workspace *ws, struct t5_model *m,
                      const struct t5_pass_limits *limits, struct t5_err *err)
{
    int64_t logits;
    int64_t bytes = t5_workspace_layout(ws, m, limits, NULL, &logits);
    size_t blocks = (size_t)(m->encoder.n_blocks + m->decoder.n_blocks);
    ws->encoder.blocks = t5_alloc_zeroed(blocks, sizeof *ws->encoder.blocks, "tapes", err);
    ws->staging = t5_alloc_zeroed((size_t)ws->batch_bytes, 1, "a batch", err);
    ws->spans = t5_alloc(2 * (size_t)limits->seqs, sizeof *ws->spans, "a batch", err);
    if (!ws->encoder.blocks || !ws->staging || !ws->spans ||
        m->ops->alloc(m->dev, &ws->memory, (size_t)bytes, "activations", err)) {
        t5_workspace_close(ws, m);
        return -1;
    }
    ws->decoder.blocks = ws->encoder.blocks + m->encoder.n_blocks;
    t5_workspace_layout(ws, m, limits, ws->memory, &logits);
    struct t5_arena host = {.base = ws->staging};
    lay_batch(&host, &ws->host_src, &ws->host_dst, &ws->host_labels, limits);
    ws->src.spans = ws->spans;
    ws->dst.spans = ws->spans + limits->seqs;
    return 0;
}

void t5_workspace_close(struct t5_workspace *ws, struct t5_model *m)
{
    m->ops->release(m->dev, ws->memory);
    free(ws->encoder.blocks);
    free(ws->staging);
    free(ws->spans);
    *ws = (struct t5_workspace){0};
}

void t5_packed_span(struct t5_packed *p, int adapter, int64_t n)
{
    struct t5_span *last = p->n_spans ? &p->spans[p->n_spans - 1] : NULL;
    if (last && last->adapter == adapter)
        last->n += n;
    else
        p->spans[p->n_spans++] = (struct t5_span){last ? last->begin + last->n : 0, n, adapter};
}

void t5_packed_spans(struct t5_packed *p, const int32_t *adapter, const int32_t *offsets,
                     int64_t n_seqs)
{
    p->n_spans = 0;
    for (int64_t b = 0; adapter && b < n_seqs; b++)
        t5_packed_span(p, adapter[b], offsets[b + 1] - offsets[b]);
}

void t5_packed_fill(struct t5_packed *p, const struct t5_packed *host, const struct t5_model *m,
                    const int32_t *ids, const int32_t *offsets, const uint32_t *record,
                    int64_t n_seqs, int shift)
{
    int64_t n = offsets[n_seqs], longest = 0;
    memcpy(host->offsets, offsets, (size_t)(n_seqs + 1) * sizeof *offsets);
    if (record)
        memcpy(host->record, record, (size_t)n_seqs * sizeof *record);
    for (int64_t b = 0; b < n_seqs; b++) {
        longest = larger(longest, offsets[b + 1] - offsets[b]);
        for (int64_t i = offsets[b]; i < offsets[b + 1]; i++) {
            host->seq[i] = (int32_t)b;
            host->ids[i] = !shift ? ids[i] : i == offsets[b] ? m->config.decoder_start : ids[i - 1];
        }
    }
    p->pack = (struct t5_pack){.n_tokens = n,
                               .n_seqs = n_seqs,
                               .longest = longest,
                               .offsets = p->offsets,
                               .seq = p->seq,
                               .record = p->record};
}

void t5_workspace_upload(const struct t5_workspace *ws, const struct t5_model *m)
{
    m->ops->upload(m->dev, ws->memory, ws->staging, (size_t)ws->batch_bytes);
}
