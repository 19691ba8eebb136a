/* model.c - the public face of a model: parameters, and the passes that training and scoring make.
 * Layers: forward.c and backward.c. Loading: load.c. */
/* SPDX-License-Identifier: MIT */
#include "t5/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t5/layers.h"

const struct t5_config *t5_model_config(const struct t5_model *m)
{
    return &m->config;
}
const struct t5_backend_handle *t5_model_backend(const struct t5_model *m)
{
    return m->backend;
}

int64_t t5_model_n_params(const struct t5_model *m)
{
    return m->n_params;
}
int t5_model_param_count(const struct t5_model *m)
{
    return m->n_table;
}
const struct t5_param *t5_model_param(const struct t5_model *m, int i)
{
    return &m->table[i];
}
float *t5_model_params(const struct t5_model *m)
{
    return m->params;
}
float *t5_model_grads(const struct t5_model *m)
{
    return m->grads;
}

void t5_model_refresh(struct t5_model *m)
{
    if (m->mode != T5_TRAIN_FULL)
        return; /* adapters are read where they lie */
    for (int i = 0; i < m->n_linears; i++)
        m->ops->weight_refresh(m->dev, m->linears[i]->w);
    m->ops->weight_refresh(m->dev, m->shared.w);
    if (!m->tied)
        m->ops->weight_refresh(m->dev, m->lm_head.w);
}

int t5_model_get_params(const struct t5_model *m, float *host, struct t5_err *err)
{
    return m->ops->download(m->dev, host, m->params, (size_t)m->n_params * sizeof *host, err);
}

int t5_model_set_params(struct t5_model *m, const float *host, struct t5_err *err)
{
    m->ops->upload(m->dev, m->params, host, (size_t)m->n_params * sizeof *host);
    t5_model_refresh(m);
    return m->ops->sync(m->dev, err);
}

int t5_model_reserve(struct t5_model *m, const struct t5_pass_limits *limits, struct t5_err *err)
{
    t5_workspace_close(&m->ws, m);
    return t5_workspace_open(&m->ws, m, limits, err);
}

/* Uploads a batch that fits what was reserved. */
static int begin(struct t5_model *m, const struct t5_batch *batch, struct t5_err *err)
{
    const struct t5_pass_limits *limits = &m->ws.limits;
    int64_t src = batch->input_offsets[batch->n_seqs], dst = batch->label_offsets[batch->n_seqs];
    if (batch->n_seqs > limits->seqs || src > limits->input_tokens || dst > limits->label_tokens)
        return t5_fail_as(err, T5_ENVIRONMENT,
                          "a batch of %lld records, %lld and %lld tokens is larger than reserved",
                          (long long)batch->n_seqs, (long long)src, (long long)dst);
    struct t5_workspace *ws = &m->ws;
    t5_packed_fill(&ws->src, &ws->host_src, m, batch->input, batch->input_offsets, batch->record,
                   batch->n_seqs, 0);
    t5_packed_fill(&ws->dst, &ws->host_dst, m, batch->labels, batch->label_offsets, batch->record,
                   batch->n_seqs, 1);
    memcpy(ws->host_labels, batch->labels, (size_t)dst * sizeof *batch->labels);
    t5_packed_spans(&ws->src, batch->adapter, batch->input_offsets, batch->n_seqs);
    t5_packed_spans(&ws->dst, batch->adapter, batch->label_offsets, batch->n_seqs);
    t5_workspace_upload(ws, m);
    return 0;
}

static struct t5_linear *head(struct t5_model *m)
{
    return m->tied ? &m->shared : &m->lm_head;
}

/* v1.0 scales the decoder's output by D^-1/2 before lm_head (HF: scale_decoder_outputs). */
static float output_scale(const struct t5_model *m)
{
    return m->config.scale_output ? 1 / sqrtf((float)m->config.d_model) : 1;
}

/* Logits of label positions [first, first + n) into ws.logits. */
static void make_logits(struct t5_model *m, int64_t first, int64_t n)
{
    int64_t D = m->config.d_model;
    m->ops->logits_fwd(m->dev, m->ws.logits, t5_at(m, m->ws.decoder.hidden, first * D), D,
                       head(m)->w, n, output_scale(m));
}

/* Token losses into ws.nll, and, for training, the gradient of the hidden into ws.dy. */
static void loss(struct t5_model *m, float loss_scale, float smoothing, int with_gradient)
{
    struct t5_workspace *ws = &m->ws;
    int64_t T = ws->dst.pack.n_tokens, D = m->config.d_model, V = m->config.vocab;
    struct t5_linear *l = head(m);
    float scale =
        loss_scale * output_scale(m); /* of dlogits, on its way back through the hidden's scale */
    for (int64_t first = 0; first < T; first += ws->logit_rows) {
        int64_t n = T - first < ws->logit_rows ? T - first : ws->logit_rows;
        make_logits(m, first, n);
        m->ops->cross_entropy(m->dev, ws->nll + first, with_gradient ? ws->dlogits : NULL,
                              ws->logits, ws->labels + first, n, V, scale, smoothing);
        if (!with_gradient)
            continue;
        m->ops->linear_bwd_input(m->dev, t5_at(m, ws->dy, first * D), D, ws->dlogits, V, l->w, n,
                                 0);
        if (l->dw)
            m->ops->linear_bwd_weight(m->dev, l->dw, ws->dlogits, V,
                                      t5_at(m, ws->decoder.hidden, first * D), D, V, D, n);
    }
}

int t5_model_queue(struct t5_model *m, const struct t5_batch *batch, const struct t5_pass *pass,
                   double *loss_sum, int first, struct t5_err *err)
{
    struct t5_run run;
    if (begin(m, batch, err))
        return -1;
    t5_run_init(&run, m, pass);
    t5_encoder_forward(&run);
    t5_decoder_forward(&run);
    loss(m, pass->loss_scale, pass->label_smoothing, 1);
    m->ops->sum(m->dev, loss_sum, m->ws.nll, m->ws.dst.pack.n_tokens, !first);
    t5_backward(&run);
    return m->ops->check(m->dev, err);
}

int t5_model_train(struct t5_model *m, const struct t5_batch *batch, const struct t5_pass *pass,
                   double *loss_sum, struct t5_err *err)
{
    if (t5_model_queue(m, batch, pass, m->ws.loss, 1, err))
        return -1;
    return m->ops->download(m->dev, loss_sum, m->ws.loss, sizeof *loss_sum, err);
}

static int forward_only(struct t5_model *m, const struct t5_batch *batch, struct t5_err *err)
{
    struct t5_run run;
    struct t5_pass pass = {0};
    if (begin(m, batch, err))
        return -1;
    t5_run_init(&run, m, &pass);
    t5_encoder_forward(&run);
    t5_decoder_forward(&run);
    return 0;
}

int t5_model_score(struct t5_model *m, const struct t5_batch *batch, float *out, struct t5_err *err)
{
    if (forward_only(m, batch, err))
        return -1;
    int64_t n = m->ws.dst.pack.n_tokens;
    loss(m, 0, 0, 0);
    if (m->ops->download(m->dev, out, m->ws.nll, (size_t)n * sizeof *out, err))
        return -1;
    for (int64_t i = 0; i < n; i++)
        out[i] = -out[i];
    return 0;
}

int t5_model_logits(struct t5_model *m, const struct t5_batch *batch, float *out,
                    struct t5_err *err)
{
    if (forward_only(m, batch, err))
        return -1;
    int64_t T = m->ws.dst.pack.n_tokens, V = m->config.vocab, rows = m->ws.logit_rows;
    for (int64_t first = 0; first < T; first += rows) {
        int64_t n = T - first < rows ? T - first : rows;
        make_logits(m, first, n);
        if (m->ops->download(m->dev, out + first * V, m->ws.logits, (size_t)(n * V) * sizeof *out,
                             err))
            return -1;
    }
    return 0;
}
