/* forward.c - the one forward pass, over packed sequences: training, scoring, and the encoder of
 * generation. HF: T5Stack, T5Block, T5LayerSelfAttention, T5LayerCrossAttention, T5LayerFF. */
/* SPDX-License-Identifier: MIT */
#include "base/rng.h"
#include "t5/layers.h"
#include "t5/sites.h"

void t5_run_init(struct t5_run *run, struct t5_model *m, const struct t5_pass *pass)
{
    *run = (struct t5_run){.m = m, .delta = m->ws.delta};
    if (!pass)
        return;
    run->dropout = pass->model_dropout;
    t5_rng_key(run->key, pass->seed, T5_RNG_DROPOUT, pass->epoch);
    for (int i = 0; m->n_adapters && i < m->n_linears; i++)
        for (int k = 0; k < m->linears[i]->sides[0].n_lora; k++) {
            struct t5_dropout *d = &m->linears[i]->sides[0].lora[k].dropout;
            d->p = pass->lora_dropout;
            d->key[0] = run->key[0];
            d->key[1] = run->key[1];
        }
}

struct t5_dropout t5_run_dropout(const struct t5_run *run, const struct t5_stack *stack,
                                 int64_t layer, int kind)
{
    return (struct t5_dropout){.p = run->dropout,
                               .key = {run->key[0], run->key[1]},
                               .site = t5_site(stack->is_decoder, layer, kind)};
}

/* Several adapters are inference: nobody reads u afterwards, nothing is dropped, so no pack. */
void t5_linear_run(const struct t5_run *run, struct t5_linear *l, act *y, int64_t ldy, act *u,
                   const act *x, int64_t ldx, const struct t5_packed *in)
{
    const struct t5_model *m = run->m;
    m->ops->linear_fwd(m->dev, y, ldy, x, ldx, l->w, in->pack.n_tokens);
    if (in->n_spans == 0 && m->n_adapters && l->sides[0].n_lora)
        m->ops->lora_fwd(m->dev, y, ldy, u, x, ldx, l->cols, l->sides[0].lora, l->sides[0].n_lora,
                         in->pack.n_tokens, &in->pack);
    for (int64_t i = 0; i < in->n_spans; i++) {
        const struct t5_span *s = &in->spans[i];
        const struct t5_side *side = s->adapter < 0 ? NULL : &l->sides[s->adapter];
        if (side && side->n_lora)
            m->ops->lora_fwd(m->dev, t5_at(m, y, s->begin * ldy), ldy, u,
                             t5_at(m, x, s->begin * ldx), ldx, l->cols, side->lora, side->n_lora,
                             s->n, NULL);
    }
}

struct t5_attention t5_attention_shape(const struct t5_run *run, const struct t5_stack *stack,
                                       int64_t layer, int cross, const struct t5_pack *q,
                                       const struct t5_pack *k)
{
    const struct t5_config *c = &run->m->config;
    return (struct t5_attention){
        .heads = c->n_heads,
        .d_kv = c->d_kv,
        .q_pack = q,
        .k_pack = k,
        .causal = stack->is_decoder && !cross,
        .bias = cross ? NULL : stack->bias.w,
        .bucket = stack->bucket,
        .buckets = c->buckets,
        .max_distance = c->max_distance,
        .dropout =
            t5_run_dropout(run, stack, layer, cross ? T5_SITE_CROSS_WEIGHTS : T5_SITE_SELF_WEIGHTS),
    };
}

/* Where the residual stream stands between sub-layers: x, and what is still to be added to it. */
struct stream {
    const float *x;
    const act *delta; /* or NULL */
    struct t5_dropout drop;
};

/* x_out = x + drop(delta); returns norm(x_out), for `next` to read, in `kept` or ws.y */
static const act *enter(const struct t5_run *run, struct stream *s, float *x_out, act *kept,
                        const struct t5_norm *norm, const struct t5_linear *next,
                        const struct t5_pack *pack)
{
    struct t5_model *m = run->m;
    struct t5_reader reader = t5_reader_of(next);
    act *y = kept ? kept : m->ws.y;
    m->ops->norm_fwd(m->dev, x_out, y, s->x, s->delta, norm->w, pack->n_tokens, m->config.d_model,
                     m->config.eps, pack, &s->drop, NULL, &reader);
    s->x = x_out;
    return y;
}

static void leave(const struct t5_run *run, struct stream *s, const struct t5_stack *stack,
                  int64_t layer, int kind)
{
    s->delta = run->delta;
    s->drop = t5_run_dropout(run, stack, layer, kind);
}

static void self_attention(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                           struct t5_tape_block *t, struct stream *s, const struct t5_packed *in)
{
    struct t5_model *m = run->m;
    struct t5_block *b = &stack->blocks[layer];
    const struct t5_pack *pack = &in->pack;
    int64_t D = m->config.d_model, inner = m->inner;
    struct t5_attention shape = t5_attention_shape(run, stack, layer, 0, pack, pack);
    const act *y = enter(run, s, t->x_self, t->y_self, &b->self_norm, &b->qkv, pack);
    t5_linear_run(run, &b->qkv, t->qkv, 3 * inner, t->u_qkv, y, D, in);
    m->ops->attention_fwd(m->dev, t->self_out, t->self_lse, t->qkv, 3 * inner,
                          t5_at(m, t->qkv, inner), 3 * inner, t5_at(m, t->qkv, 2 * inner),
                          3 * inner, &shape);
    t5_linear_run(run, &b->self_o, run->delta, D, t->u_self_o, t->self_out, inner, in);
    leave(run, s, stack, layer, T5_SITE_SELF_OUT);
}

static void cross_attention(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                            struct t5_tape_block *t, struct stream *s, const struct t5_packed *in)
{
    struct t5_model *m = run->m;
    struct t5_block *b = &stack->blocks[layer];
    const struct t5_packed *src = &m->ws.src;
    int64_t D = m->config.d_model, inner = m->inner;
    struct t5_attention shape = t5_attention_shape(run, stack, layer, 1, &in->pack, &src->pack);
    const act *y = enter(run, s, t->x_cross, t->y_cross, &b->cross_norm, &b->cross_q, &in->pack);
    t5_linear_run(run, &b->cross_q, t->cross_q, inner, t->u_cross_q, y, D, in);
    t5_linear_run(run, &b->cross_kv, t->cross_kv, 2 * inner, t->u_cross_kv, m->ws.encoder.hidden, D,
                  src);
    m->ops->attention_fwd(m->dev, t->cross_out, t->cross_lse, t->cross_q, inner, t->cross_kv,
                          2 * inner, t5_at(m, t->cross_kv, inner), 2 * inner, &shape);
    t5_linear_run(run, &b->cross_o, run->delta, D, t->u_cross_o, t->cross_out, inner, in);
    leave(run, s, stack, layer, T5_SITE_CROSS_OUT);
}

/* All of the feed-forward sub-layer that the tape keeps. */
static void feed_in(const struct t5_run *run, struct t5_block *b, struct t5_tape_block *t,
                    struct stream *s, const struct t5_packed *in)
{
    struct t5_model *m = run->m;
    const act *y = enter(run, s, t->x_ff, t->y_ff, &b->ff_norm, &b->wi, &in->pack);
    t5_linear_run(run, &b->wi, t->g, b->wi.rows, t->u_wi, y, m->config.d_model, in);
}

static void feed_forward(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                         struct t5_tape_block *t, struct stream *s, const struct t5_packed *in)
{
    struct t5_model *m = run->m;
    struct t5_block *b = &stack->blocks[layer];
    const struct t5_pack *pack = &in->pack;
    int64_t D = m->config.d_model, F = m->config.d_ff;
    struct t5_dropout inner_drop = t5_run_dropout(run, stack, layer, T5_SITE_FF_INNER);
    struct t5_reader reader = t5_reader_of(&b->wo);
    feed_in(run, b, t, s, in);
    m->ops->glu_fwd(m->dev, m->ws.h, t->g, pack->n_tokens, F, t5_glu_kind(&m->config),
                    m->config.gated, pack, &inner_drop, &reader);
    t5_linear_run(run, &b->wo, run->delta, D, t->u_wo, m->ws.h, F, in);
    leave(run, s, stack, layer, T5_SITE_FF_OUT);
}

static void forward_stack(const struct t5_run *run, struct t5_stack *stack, struct t5_tape *tape,
                          struct t5_packed *in)
{
    struct t5_model *m = run->m;
    const struct t5_pack *pack = &in->pack;
    struct t5_dropout embed = t5_run_dropout(run, stack, 0, T5_SITE_EMBED);
    struct t5_dropout last = t5_run_dropout(run, stack, 0, T5_SITE_FINAL);
    struct stream s = {.x = tape->blocks[0].x_self};
    m->ops->embed_fwd(m->dev, tape->blocks[0].x_self, m->shared.w, in->ids, pack, &embed);
    for (int64_t layer = 0; layer < stack->n_blocks; layer++) {
        struct t5_tape_block *t = &tape->blocks[layer];
        self_attention(run, stack, layer, t, &s, in);
        if (stack->is_decoder)
            cross_attention(run, stack, layer, t, &s, in);
        feed_forward(run, stack, layer, t, &s, in);
    }
    /* every decoder layer reads the encoder's */
    struct t5_reader reader = {.w = m->decoder.blocks[0].cross_kv.w, .lasting = 1};
    m->ops->norm_fwd(m->dev, tape->x_final, tape->hidden, s.x, s.delta, stack->final_norm.w,
                     pack->n_tokens, m->config.d_model, m->config.eps, pack, &s.drop, &last,
                     stack->is_decoder ? NULL : &reader);
}

void t5_block_again(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                    struct t5_tape_block *tape, const struct t5_packed *in)
{
    struct t5_run again = *run;
    struct stream s = {.x = tape->x_self};
    again.delta = run->m->ws.dy; /* ws.delta holds a gradient now */
    self_attention(&again, stack, layer, tape, &s, in);
    if (stack->is_decoder)
        cross_attention(&again, stack, layer, tape, &s, in);
    if (stack->blocks[layer].wo.ranks) /* its u is on the tape, too */
        feed_forward(&again, stack, layer, tape, &s, in);
    else
        feed_in(&again, &stack->blocks[layer], tape, &s, in);
}

void t5_encoder_forward(const struct t5_run *run)
{
    struct t5_workspace *ws = &run->m->ws;
    forward_stack(run, &run->m->encoder, &ws->encoder, &ws->src);
}

void t5_decoder_forward(const struct t5_run *run)
{
    struct t5_workspace *ws = &run->m->ws;
    forward_stack(run, &run->m->decoder, &ws->decoder, &ws->dst);
}
