/* plan.c - what a run will take of a device's memory, counted from shapes alone. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "t5/layers.h"

static enum t5_dtype stored_type(const struct t5_checkpoint *checkpoint, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    const struct t5_tensor *t = checkpoint ? t5_checkpoint_find(checkpoint, full) : NULL;
    return t ? t->type : T5_F32;
}

static int64_t frozen_bytes(const struct t5_model *m, const struct t5_backend_handle *backend,
                            const struct t5_checkpoint *checkpoint, const struct t5_linear *l)
{
    return backend->ops.weight_bytes(backend->dev, stored_type(checkpoint, l->names[0]), l->rows,
                                     l->cols, t5_weight_use(m, l));
}

static int64_t weight_bytes(const struct t5_model *m, const struct t5_backend_handle *backend,
                            const struct t5_checkpoint *checkpoint)
{
    int64_t bytes = 0;
    if (m->mode == T5_TRAIN_FULL)
        return 0; /* they are the parameters */
    for (int i = 0; i < m->n_linears; i++)
        bytes += frozen_bytes(m, backend, checkpoint, m->linears[i]);
    for (int i = 0; i < m->n_norms; i++)
        bytes += t5_norm_size(m, m->norms[i]) * (int64_t)sizeof(float);
    bytes += frozen_bytes(m, backend, checkpoint, &m->shared);
    return bytes + (m->tied ? 0 : frozen_bytes(m, backend, checkpoint, &m->lm_head));
}

/* What the passes ask of the device's own memory. */
static struct t5_work work_of(const struct t5_model *m, const struct t5_pass_limits *limits)
{
    struct t5_work work = {.tokens = limits->input_tokens > limits->label_tokens
                                         ? limits->input_tokens
                                         : limits->label_tokens,
                           .seqs = limits->seqs,
                           .heads = m->config.n_heads,
                           .lasting = m->config.d_model};
    for (int i = 0; i < m->n_linears; i++) {
        const struct t5_linear *l = m->linears[i];
        int64_t wide = l->rows > l->cols ? l->rows : l->cols;
        work.widest = wide > work.widest ? wide : work.widest;
        work.ranks = l->ranks > work.ranks ? l->ranks : work.ranks;
        if ((t5_weight_use(m, l) & T5_USE_COMPACT) && l->rows * l->cols > work.compact)
            work.compact = l->rows * l->cols;
    }
    return work;
}

int t5_model_plan(struct t5_plan_row rows[T5_PLAN_ROWS], int *n,
                  const struct t5_backend_handle *backend, const struct t5_checkpoint *checkpoint,
                  const struct t5_config *config, const struct t5_adapter *adapter,
                  enum t5_model_mode mode, const struct t5_pass_limits *limits, struct t5_err *err)
{
    struct t5_model m;
    struct t5_workspace ws = {0};
    int has_lm_head =
        checkpoint ? t5_checkpoint_find(checkpoint, "lm_head.weight") != NULL : !config->tied;
    int rc = t5_model_describe(&m, config, has_lm_head, mode == T5_TRAIN_FULL ? NULL : adapter,
                               mode, err);
    if (rc == 0) {
        m.backend = backend;
        m.act_size = backend->ops.activation_size(backend->dev);
        int64_t params = m.n_params * (int64_t)sizeof(float), logits;
        int64_t all = t5_workspace_layout(&ws, &m, limits, NULL, &logits);
        struct t5_work work = work_of(&m, limits);
        int64_t taken, own = backend->ops.memory_own(backend->dev, &taken, &work);
        struct t5_plan_row plan[] = {
            {"weights", weight_bytes(&m, backend, checkpoint), 0},
            {"parameters", params, 0},
            {"gradients", mode == T5_INFER ? 0 : params, 0},
            {"optimiser", mode == T5_INFER ? 0 : 2 * params, 0},
            {"activations", all - logits, 0},
            {"logits", logits, 0},
            {"device", own, taken},
        };
        *n = (int)(sizeof plan / sizeof *plan);
        for (int i = 0; i < *n; i++)
            rows[i] = plan[i];
    }
    t5_model_undescribe(&m);
    return rc;
}
