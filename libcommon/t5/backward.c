/* backward.c - the one backward pass: forward.c in reverse, sub-layer by sub-layer. What forward.c
 * did not keep (the gated activation; where memory is short, all of a block but its input) is made
 * again from what it did. */
/* SPDX-License-Identifier: MIT */
#include "t5/layers.h"
#include "t5/sites.h"

/* A model that is trained has one adapter or none. */
static int trained(const struct t5_linear *l)
{
    return l->dw || (l->sides && l->sides[0].n_lora);
}

/* dx (= or +=) dy W + adapters; parameter gradients from the product's input x. */
static void linear_backward(const struct t5_run *run, struct t5_linear *l, act *dx, int accumulate,
                            const act *dy, int64_t lddy, const act *u, const act *x, int64_t n,
                            const struct t5_pack *pack)
{
    struct t5_model *m = run->m;
    if (dx)
        m->ops->linear_bwd_input(m->dev, dx, l->cols, dy, lddy, l->w, n, accumulate);
    if (l->dw)
        m->ops->linear_bwd_weight(m->dev, l->dw, dy, lddy, x, l->cols, l->rows, l->cols, n);
    if (l->sides && l->sides[0].n_lora)
        m->ops->lora_bwd(m->dev, dx, l->cols, m->ws.du, dy, lddy, u, x, l->cols, l->cols,
                         l->sides[0].lora, l->sides[0].n_lora, n, pack);
}

/* The norm's output: kept, or made again where a gradient needs it. */
static const act *norm_again(const struct t5_run *run, const struct t5_norm *norm, float *x,
                             const act *kept, int64_t n, int needed)
{
    struct t5_model *m = run->m;
    if (kept)
        return kept;
    if (needed)
        m->ops->norm_fwd(m->dev, x, m->ws.y, x, NULL, norm->w, n, m->config.d_model, m->config.eps,
                         NULL, NULL, NULL, NULL);
    return m->ws.y;
}

/* Back through a norm: ws.dx is the stream's gradient; ws.delta becomes that of the sub-layer
 * below, whose output was dropped at `below` (NULL: there is none below). made_by: the product
 * that made that output, where nothing comes before its own way back; else NULL. */
static void norm_backward(const struct t5_run *run, const struct t5_norm *norm, const float *x,
                          const act *dy, const struct t5_pack *pack, const struct t5_dropout *below,
                          const struct t5_linear *made_by, const struct t5_dropout *on_y)
{
    struct t5_model *m = run->m;
    struct t5_reader reader = made_by ? t5_reader_of(made_by) : (struct t5_reader){0};
    m->ops->norm_bwd(m->dev, m->ws.dx, below ? m->ws.delta : NULL, norm->dw, dy, x, norm->w,
                     pack->n_tokens, m->config.d_model, m->config.eps, pack, below, on_y,
                     made_by ? &reader : NULL);
}

static void feed_forward(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                         struct t5_tape_block *t, const struct t5_pack *pack)
{
    struct t5_model *m = run->m;
    struct t5_workspace *ws = &m->ws;
    struct t5_block *b = &stack->blocks[layer];
    int64_t n = pack->n_tokens, F = m->config.d_ff;
    enum t5_glu kind = t5_glu_kind(&m->config);
    struct t5_reader reader = t5_reader_of(&b->wi);
    struct t5_dropout inner_drop = t5_run_dropout(run, stack, layer, T5_SITE_FF_INNER);
    struct t5_dropout below =
        t5_run_dropout(run, stack, layer, stack->is_decoder ? T5_SITE_CROSS_OUT : T5_SITE_SELF_OUT);
    if (trained(&b->wo))
        m->ops->glu_fwd(m->dev, ws->h, t->g, n, F, kind, m->config.gated, pack, &inner_drop, NULL);
    linear_backward(run, &b->wo, ws->dsmall, 0, ws->delta, m->config.d_model, t->u_wo, ws->h, n,
                    pack);
    const act *y = norm_again(run, &b->ff_norm, t->x_ff, t->y_ff, n, trained(&b->wi));
    m->ops->glu_bwd(m->dev, ws->dbig, ws->dsmall, t->g, n, F, kind, m->config.gated, pack,
                    &inner_drop, &reader);
    linear_backward(run, &b->wi, ws->dy, 0, ws->dbig, b->wi.rows, t->u_wi, y, n, pack);
    norm_backward(run, &b->ff_norm, t->x_ff, ws->dy, pack, &below,
                  stack->is_decoder ? &b->cross_o : &b->self_o, NULL);
}

static void cross_attention(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                            struct t5_tape_block *t, const struct t5_pack *pack)
{
    struct t5_model *m = run->m;
    struct t5_workspace *ws = &m->ws;
    struct t5_block *b = &stack->blocks[layer];
    const struct t5_pack *src = &ws->src.pack;
    int64_t n = pack->n_tokens, inner = m->inner;
    struct t5_attention shape = t5_attention_shape(run, stack, layer, 1, pack, src);
    struct t5_dropout below = t5_run_dropout(run, stack, layer, T5_SITE_SELF_OUT);
    linear_backward(run, &b->cross_o, ws->dsmall, 0, ws->delta, m->config.d_model, t->u_cross_o,
                    t->cross_out, n, pack);
    /* the gradients of the encoder's keys and values go to dbig, that of q to h, which is free here
     */
    act *dkv = ws->dbig, *dq = ws->h;
    m->ops->attention_bwd(m->dev, dq, inner, dkv, 2 * inner, t5_at(m, dkv, inner), 2 * inner, NULL,
                          ws->dsmall, t->cross_out, t->cross_lse, t->cross_q, inner, t->cross_kv,
                          2 * inner, t5_at(m, t->cross_kv, inner), 2 * inner, &shape);
    linear_backward(run, &b->cross_kv, ws->denc, layer < stack->n_blocks - 1, dkv, 2 * inner,
                    t->u_cross_kv, ws->encoder.hidden, src->n_tokens, src);
    const act *y = norm_again(run, &b->cross_norm, t->x_cross, t->y_cross, n, trained(&b->cross_q));
    linear_backward(run, &b->cross_q, ws->dy, 0, dq, inner, t->u_cross_q, y, n, pack);
    norm_backward(run, &b->cross_norm, t->x_cross, ws->dy, pack, &below, &b->self_o, NULL);
}

/* The product that made a feed-forward sub-layer's output; NULL where its input is made again
 * before its way back, or there is no such layer. */
static const struct t5_linear *feed_out(const struct t5_stack *stack, int64_t layer)
{
    const struct t5_linear *wo = layer < 0 ? NULL : &stack->blocks[layer].wo;
    return wo && !trained(wo) ? wo : NULL;
}

/* Returns with the gradient of the embedding in ws.dx where it is wanted. */
static void self_attention(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                           struct t5_tape_block *t, const struct t5_pack *pack)
{
    struct t5_model *m = run->m;
    struct t5_workspace *ws = &m->ws;
    struct t5_block *b = &stack->blocks[layer];
    int64_t n = pack->n_tokens, inner = m->inner;
    struct t5_attention shape = t5_attention_shape(run, stack, layer, 0, pack, pack);
    struct t5_dropout below = t5_run_dropout(run, stack, layer - 1, T5_SITE_FF_OUT);
    int more_below = layer > 0 || m->mode == T5_TRAIN_FULL;
    linear_backward(run, &b->self_o, ws->dsmall, 0, ws->delta, m->config.d_model, t->u_self_o,
                    t->self_out, n, pack);
    m->ops->attention_bwd(m->dev, ws->dbig, 3 * inner, t5_at(m, ws->dbig, inner), 3 * inner,
                          t5_at(m, ws->dbig, 2 * inner), 3 * inner, stack->bias.dw, ws->dsmall,
                          t->self_out, t->self_lse, t->qkv, 3 * inner, t5_at(m, t->qkv, inner),
                          3 * inner, t5_at(m, t->qkv, 2 * inner), 3 * inner, &shape);
    const act *y = norm_again(run, &b->self_norm, t->x_self, t->y_self, n, trained(&b->qkv));
    linear_backward(run, &b->qkv, more_below ? ws->dy : NULL, 0, ws->dbig, 3 * inner, t->u_qkv, y,
                    n, pack);
    if (more_below)
        norm_backward(run, &b->self_norm, t->x_self, ws->dy, pack, layer > 0 ? &below : NULL,
                      ws->keep == T5_KEEP_STREAM ? NULL : feed_out(stack, layer - 1), NULL);
}

/* From the gradient of the stack's hidden (dy) to its parameters. */
static void backward_stack(const struct t5_run *run, struct t5_stack *stack, struct t5_tape *tape,
                           struct t5_packed *in, const act *dy)
{
    struct t5_model *m = run->m;
    const struct t5_pack *pack = &in->pack;
    int64_t D = m->config.d_model;
    struct t5_dropout last = t5_run_dropout(run, stack, 0, T5_SITE_FINAL);
    struct t5_dropout below = t5_run_dropout(run, stack, stack->n_blocks - 1, T5_SITE_FF_OUT);
    m->ops->zero(m->dev, m->ws.dx, (size_t)(pack->n_tokens * D) * sizeof(float));
    norm_backward(run, &stack->final_norm, tape->x_final, dy, pack, &below,
                  feed_out(stack, stack->n_blocks - 1), &last);
    for (int64_t layer = stack->n_blocks - 1; layer >= 0; layer--) {
        struct t5_tape_block *t = &tape->blocks[layer];
        if (m->ws.keep == T5_KEEP_STREAM && layer < stack->n_blocks - 1) /* the top one is there */
            t5_block_again(run, stack, layer, t, in);
        feed_forward(run, stack, layer, t, pack);
        if (stack->is_decoder)
            cross_attention(run, stack, layer, t, pack);
        self_attention(run, stack, layer, t, pack);
    }
    if (m->mode == T5_TRAIN_FULL) {
        struct t5_dropout embed = t5_run_dropout(run, stack, 0, T5_SITE_EMBED);
        m->ops->embed_bwd(m->dev, m->shared.dw, m->ws.dx, in->ids, m->config.vocab, D, pack,
                          &embed);
    }
}

void t5_backward(const struct t5_run *run)
{
    struct t5_workspace *ws = &run->m->ws;
    backward_stack(run, &run->m->decoder, &ws->decoder, &ws->dst, ws->dy);
    backward_stack(run, &run->m->encoder, &ws->encoder, &ws->src, ws->denc);
}
