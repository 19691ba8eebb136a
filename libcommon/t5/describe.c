/* describe.c - a model's structure from its config and adapter: which HF matrices form which
 * product, the shapes, the adapters beside them, and the table of trainable parameters. Loads
 * nothing: see load.c. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t5/keep.h"
#include "t5/layers.h"
#include "t5/sites.h"

/* A product of the matrices PREFIX + leaves[0..n): each (rows, cols). site: of the first leaf's
 * LoRA. */
static void describe_linear(struct t5_model *m, struct t5_linear *l, const char *prefix,
                            const char *const *leaves, int n, int64_t rows, int64_t cols,
                            uint32_t site)
{
    l->n_parts = n;
    l->rows = rows * n;
    l->cols = cols;
    l->site = site;
    for (int i = 0; i < n; i++) {
        snprintf(l->names[i], sizeof l->names[i], "%s.%s", prefix, leaves[i]);
        l->part_rows[i] = rows;
    }
    m->linears[m->n_linears++] = l;
}

static void describe_norm(struct t5_model *m, struct t5_norm *norm, const char *prefix,
                          const char *rest)
{
    snprintf(norm->name, sizeof norm->name, "%s%s", prefix, rest);
    m->norms[m->n_norms++] = norm;
}

static void describe_block(struct t5_model *m, struct t5_stack *stack, int64_t layer)
{
    static const char *const qkv[] = {"q", "k", "v"}, *const o[] = {"o"}, *const wi[] = {"wi"},
                             *const gate[] = {"wi_0", "wi_1"}, *const wo[] = {"wo"};
    const struct t5_config *c = &m->config;
    struct t5_block *b = &stack->blocks[layer];
    const char *side = stack->is_decoder ? "decoder" : "encoder";
    uint32_t site = t5_site(stack->is_decoder, layer, T5_SITE_LORA);
    char prefix[72], sub[88];
    int ff = stack->is_decoder ? 2 : 1;

    snprintf(prefix, sizeof prefix, "%s.block.%d.layer", side, (int)layer);
    snprintf(sub, sizeof sub, "%s.0.SelfAttention", prefix);
    describe_linear(m, &b->qkv, sub, qkv, 3, m->inner, c->d_model, site);
    describe_linear(m, &b->self_o, sub, o, 1, c->d_model, m->inner, site + 3);
    if (layer == 0)
        describe_norm(m, &stack->bias, sub, ".relative_attention_bias.weight");
    describe_norm(m, &b->self_norm, prefix, ".0.layer_norm.weight");
    if (stack->is_decoder) {
        snprintf(sub, sizeof sub, "%s.1.EncDecAttention", prefix);
        describe_linear(m, &b->cross_q, sub, qkv, 1, m->inner, c->d_model, site + 4);
        describe_linear(m, &b->cross_kv, sub, qkv + 1, 2, m->inner, c->d_model, site + 5);
        describe_linear(m, &b->cross_o, sub, o, 1, c->d_model, m->inner, site + 7);
        describe_norm(m, &b->cross_norm, prefix, ".1.layer_norm.weight");
    }
    snprintf(sub, sizeof sub, "%s.%d.DenseReluDense", prefix, ff);
    if (c->gated)
        describe_linear(m, &b->wi, sub, gate, 2, c->d_ff, c->d_model, site + 8);
    else
        describe_linear(m, &b->wi, sub, wi, 1, c->d_ff, c->d_model, site + 8);
    describe_linear(m, &b->wo, sub, wo, 1, c->d_model, c->d_ff, site + 10);
    snprintf(sub, sizeof sub, ".%d.layer_norm.weight", ff);
    describe_norm(m, &b->ff_norm, prefix, sub);
}

static int describe_stack(struct t5_model *m, struct t5_stack *stack, int is_decoder,
                          struct t5_err *err)
{
    stack->is_decoder = is_decoder;
    stack->n_blocks = is_decoder ? m->config.n_decoder : m->config.n_encoder;
    stack->blocks = t5_alloc_zeroed((size_t)stack->n_blocks, sizeof *stack->blocks, "layers", err);
    if (!stack->blocks)
        return -1;
    for (int64_t i = 0; i < stack->n_blocks; i++)
        describe_block(m, stack, i);
    describe_norm(m, &stack->final_norm, is_decoder ? "decoder" : "encoder",
                  ".final_layer_norm.weight");
    return 0;
}

/* ---- parameters ---- */

const struct t5_param *t5_model_find_param(const struct t5_model *m, const char *name,
                                           const char *suffix)
{
    size_t n = strlen(name);
    for (int i = 0; i < m->n_table; i++)
        if (strncmp(m->table[i].name, name, n) == 0 && strcmp(m->table[i].name + n, suffix) == 0)
            return &m->table[i];
    return NULL;
}

static void add_param(struct t5_model *m, const char *name, const char *suffix, int64_t rows,
                      int64_t cols, int vector)
{
    struct t5_param *p = &m->table[m->n_table++];
    snprintf(p->name, sizeof p->name, "%s%s", name, suffix);
    p->offset = m->n_params;
    p->rows = rows;
    p->cols = cols;
    p->vector = vector;
    m->n_params += rows * cols;
}

/* Index of the adapter's module of that name, or -1. */
static int find_module(const struct t5_adapter *adapter, const char *name)
{
    for (int i = 0; i < adapter->n_modules; i++)
        if (strcmp(adapter->modules[i].module, name) == 0)
            return i;
    return -1;
}

static void describe_side(struct t5_linear *l, struct t5_side *side,
                          const struct t5_adapter *adapter, const int64_t *offsets)
{
    int64_t ranks = 0;
    *side = (struct t5_side){0};
    for (int i = 0; i < l->n_parts; i++) {
        int module = find_module(adapter, l->names[i]), k = side->n_lora;
        if (module < 0)
            continue;
        side->lora[k] = (struct t5_lora){.rank = adapter->rank,
                                         .rows = l->part_rows[i],
                                         .column = i * l->part_rows[i],
                                         .scale = (float)t5_adapter_scale(adapter),
                                         .dropout.site = l->site + (uint32_t)i};
        side->a[k] = offsets[module];
        side->b[k] = offsets[module] + adapter->rank * l->cols;
        side->n_lora++;
        ranks += adapter->rank;
    }
    l->ranks = ranks > l->ranks ? ranks : l->ranks;
}

int t5_model_describe_adapter(struct t5_model *m, const struct t5_adapter *adapter,
                              int64_t *n_params, struct t5_err *err)
{
    size_t n = (size_t)m->n_adapters + 1;
    int64_t *offsets =
        t5_alloc((size_t)adapter->n_modules, sizeof *offsets, "an adapter's layers", err);
    if (!offsets)
        return -1;
    *n_params = 0;
    for (int i = 0; i < adapter->n_modules; i++) {
        offsets[i] = *n_params;
        *n_params += adapter->rank * (adapter->modules[i].in + adapter->modules[i].out);
    }
    int rc = 0;
    for (int i = 0; rc == 0 && i < m->n_linears; i++) {
        struct t5_linear *l = m->linears[i];
        struct t5_side *sides = realloc(l->sides, n * sizeof *sides);
        if (!sides) {
            rc = t5_fail_memory(err, n * sizeof *sides, "an adapter's layers");
            break;
        }
        l->sides = sides;
        describe_side(l, &sides[m->n_adapters], adapter, offsets);
    }
    free(offsets);
    m->n_adapters += rc == 0;
    return rc;
}

static int describe_adapter_params(struct t5_model *m, const struct t5_adapter *adapter,
                                   struct t5_err *err)
{
    int64_t n_params;
    m->table = t5_alloc((size_t)adapter->n_modules * 2, sizeof *m->table, "parameters", err);
    if (!m->table)
        return -1;
    for (int i = 0; i < adapter->n_modules; i++) {
        const struct t5_lora_module *module = &adapter->modules[i];
        add_param(m, module->module, ".lora_A", adapter->rank, module->in, 0);
        add_param(m, module->module, ".lora_B", module->out, adapter->rank, 0);
    }
    return t5_model_describe_adapter(m, adapter, &n_params, err);
}

static int describe_full_params(struct t5_model *m, struct t5_err *err)
{
    struct t5_layout_entry *layout;
    int n;
    if (t5_layout(&layout, &n, &m->config, err))
        return -1;
    m->table = t5_alloc((size_t)n + 1, sizeof *m->table, "parameters", err);
    if (!m->table) {
        free(layout);
        return -1;
    }
    for (int i = 0; i < n; i++)
        add_param(m, layout[i].name, "", layout[i].shape[0],
                  layout[i].rank > 1 ? layout[i].shape[1] : 1, layout[i].rank == 1);
    if (!m->tied && !t5_model_find_param(m, "lm_head", ".weight"))
        add_param(m, "lm_head.weight", "", m->config.vocab, m->config.d_model, 0);
    free(layout);
    /* a stacked product is one matrix only if its parts lie one behind the other */
    for (int i = 0; i < m->n_linears; i++) {
        const struct t5_linear *l = m->linears[i];
        const struct t5_param *first = t5_model_find_param(m, l->names[0], ".weight");
        for (int part = 1; part < l->n_parts; part++) {
            const struct t5_param *p = t5_model_find_param(m, l->names[part], ".weight");
            if (!first || !p || p->offset != first->offset + part * l->part_rows[0] * l->cols)
                return t5_fail(err, "parameter %s.weight is out of place", l->names[part]);
        }
    }
    return 0;
}

int t5_model_describe(struct t5_model *m, const struct t5_config *config, int has_lm_head,
                      const struct t5_adapter *adapter, enum t5_model_mode mode, struct t5_err *err)
{
    *m = (struct t5_model){.config = *config, .mode = mode};
    m->inner = config->n_heads * config->d_kv;
    m->tied = config->tied && !has_lm_head;
    size_t linears = (size_t)(config->n_encoder * 4 + config->n_decoder * 7);
    size_t norms = (size_t)(config->n_encoder * 2 + config->n_decoder * 3 + 4);
    m->linears = t5_alloc(linears, sizeof *m->linears, "layers", err);
    m->norms = t5_alloc(norms, sizeof *m->norms, "layers", err);
    if (!m->linears || !m->norms || describe_stack(m, &m->encoder, 0, err) ||
        describe_stack(m, &m->decoder, 1, err))
        return -1;
    struct t5_linear table = {
        .n_parts = 1, .part_rows = {config->vocab}, .rows = config->vocab, .cols = config->d_model};
    m->shared = m->lm_head = table;
    snprintf(m->shared.names[0], sizeof m->shared.names[0], "shared");
    snprintf(m->lm_head.names[0], sizeof m->lm_head.names[0], "lm_head");
    if (mode == T5_TRAIN_FULL)
        return describe_full_params(m, err);
    return adapter ? describe_adapter_params(m, adapter, err) : 0;
}

void t5_model_undescribe(struct t5_model *m)
{
    for (int i = 0; i < m->n_linears; i++)
        free(m->linears[i]->sides);
    free(m->encoder.blocks);
    free(m->decoder.blocks);
    free(m->linears);
    free(m->norms);
    free(m->table);
}

int64_t t5_norm_size(const struct t5_model *m, const struct t5_norm *norm)
{
    if (norm == &m->encoder.bias || norm == &m->decoder.bias)
        return m->config.buckets * m->config.n_heads;
    return m->config.d_model;
}

/* All parts of a product share one matrix, so one that is named keeps the others. */
static int is_kept(const struct t5_model *m, const struct t5_linear *l)
{
    int kept = l == &m->lm_head;
    for (int i = 0; i < l->n_parts; i++)
        kept = kept || t5_keep_names(m->backend->keep_wide, l->names[i]);
    return kept;
}

/* Whether decode steps multiply by it: all of the decoder but what makes keys and values of the
 * source, and what makes logits. */
static int in_steps(const struct t5_model *m, const struct t5_linear *l)
{
    if (l == &m->shared || l == &m->lm_head)
        return l == &m->lm_head || m->tied;
    for (int64_t i = 0; i < m->decoder.n_blocks; i++)
        if (l == &m->decoder.blocks[i].cross_kv)
            return 0;
    return strncmp(l->names[0], "decoder.", 8) == 0;
}

unsigned t5_weight_use(const struct t5_model *m, const struct t5_linear *l)
{
    unsigned use = m->mode != T5_INFER ? T5_USE_FORWARD | T5_USE_INPUT_GRAD
                   : in_steps(m, l)    ? T5_USE_FORWARD | T5_USE_STEP
                                       : T5_USE_FORWARD;
    if (l == &m->shared)
        return m->tied ? use | T5_USE_GATHER : T5_USE_GATHER;
    use |= m->backend->compact ? T5_USE_COMPACT : 0;
    return is_kept(m, l) ? use | T5_USE_WIDE : use;
}
