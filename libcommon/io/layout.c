/* layout.c - the tensors of a T5 model, from its config, in HF's names and order. */
/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "io/checkpoint.h"

struct list {
    struct t5_layout_entry *items;
    int n;
};

static void add(struct list *list, int rank, int64_t rows, int64_t columns, const char *fmt, ...)
    T5_PRINTF(5, 6);
static void add(struct list *list, int rank, int64_t rows, int64_t columns, const char *fmt, ...)
{
    struct t5_layout_entry *e = &list->items[list->n++];
    va_list ap;
    *e = (struct t5_layout_entry){.rank = rank, .shape = {rows, columns}};
    va_start(ap, fmt);
    vsnprintf(e->name, sizeof e->name, fmt, ap);
    va_end(ap);
}

/* q, k, v, o of one attention; bias: the table that layer 0 holds for its whole stack. */
static void add_attention(struct list *list, const struct t5_config *c, const char *at, int bias)
{
    int64_t inner = c->n_heads * c->d_kv;
    add(list, 2, inner, c->d_model, "%s.q.weight", at);
    add(list, 2, inner, c->d_model, "%s.k.weight", at);
    add(list, 2, inner, c->d_model, "%s.v.weight", at);
    add(list, 2, c->d_model, inner, "%s.o.weight", at);
    if (bias)
        add(list, 2, c->buckets, c->n_heads, "%s.relative_attention_bias.weight", at);
}

static void add_feed_forward(struct list *list, const struct t5_config *c, const char *at)
{
    if (c->gated) {
        add(list, 2, c->d_ff, c->d_model, "%s.wi_0.weight", at);
        add(list, 2, c->d_ff, c->d_model, "%s.wi_1.weight", at);
    } else
        add(list, 2, c->d_ff, c->d_model, "%s.wi.weight", at);
    add(list, 2, c->d_model, c->d_ff, "%s.wo.weight", at);
}

static void add_stack(struct list *list, const struct t5_config *c, int decoder)
{
    const char *stack = decoder ? "decoder" : "encoder";
    int layers = (int)(decoder ? c->n_decoder : c->n_encoder);
    char at[80];
    for (int i = 0; i < layers; i++) {
        int sub = 0;
        snprintf(at, sizeof at, "%s.block.%d.layer.%d.SelfAttention", stack, i, sub);
        add_attention(list, c, at, i == 0);
        add(list, 1, c->d_model, 0, "%s.block.%d.layer.%d.layer_norm.weight", stack, i, sub++);
        if (decoder) {
            snprintf(at, sizeof at, "%s.block.%d.layer.%d.EncDecAttention", stack, i, sub);
            add_attention(list, c, at, 0);
            add(list, 1, c->d_model, 0, "%s.block.%d.layer.%d.layer_norm.weight", stack, i, sub++);
        }
        snprintf(at, sizeof at, "%s.block.%d.layer.%d.DenseReluDense", stack, i, sub);
        add_feed_forward(list, c, at);
        add(list, 1, c->d_model, 0, "%s.block.%d.layer.%d.layer_norm.weight", stack, i, sub);
    }
    add(list, 1, c->d_model, 0, "%s.final_layer_norm.weight", stack);
}

int t5_layout(struct t5_layout_entry **out, int *n, const struct t5_config *config,
              struct t5_err *err)
{
    /* at most 5 + 1 + 4 in an encoder layer, 5 more with cross-attention; norms, embeddings, head
     */
    size_t most = (size_t)(10 * config->n_encoder + 15 * config->n_decoder + 4);
    struct list list = {.items = t5_alloc(most, sizeof *list.items, "the list of tensors", err)};
    *out = NULL;
    *n = 0;
    if (!list.items)
        return -1;
    add(&list, 2, config->vocab, config->d_model, "shared.weight");
    add_stack(&list, config, 0);
    add_stack(&list, config, 1);
    if (!config->tied)
        add(&list, 2, config->vocab, config->d_model, "lm_head.weight");
    *out = list.items;
    *n = list.n;
    return 0;
}
