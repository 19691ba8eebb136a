/* load.c - brings a described model onto its device: from a checkpoint and an adapter, or from
 * initial draws. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "t5/layers.h"

#define TAU 6.28318530717958647692

/* ---- from a checkpoint ---- */

/* Copies a matrix to device floats, a slice at a time, refusing what is not finite. */
static int upload_matrix(struct t5_model *m, float *to, const struct t5_matrix *from,
                         const char *name, struct t5_err *err)
{
    int64_t slice = 1 + (1 << 20) / from->cols, rc = -1;
    float *host = t5_alloc((size_t)(slice * from->cols), sizeof *host, "a tensor", err);
    if (!host)
        return -1;
    for (int64_t first = 0; first < from->rows; first += slice) {
        int64_t n = from->rows - first < slice ? from->rows - first : slice;
        t5_matrix_read_rows(host, from, first, n);
        for (int64_t i = 0; i < n * from->cols; i++)
            if (!isfinite(host[i])) {
                t5_fail(err, "tensor '%s': element %lld is not finite", name,
                        (long long)(first * from->cols + i));
                goto out;
            }
        m->ops->upload(m->dev, to + first * from->cols, host,
                       (size_t)(n * from->cols) * sizeof *host);
    }
    rc = m->ops->sync(m->dev, err);
out:
    free(host);
    return (int)rc;
}

static int freeze_linear(struct t5_model *m, struct t5_linear *l,
                         const struct t5_checkpoint *checkpoint, struct t5_err *err)
{
    struct t5_matrix parts[3];
    char name[128];
    for (int i = 0; i < l->n_parts; i++) {
        snprintf(name, sizeof name, "%s.weight", l->names[i]);
        if (t5_checkpoint_find_matrix(&parts[i], checkpoint, name, l->part_rows[i], l->cols, err))
            return -1;
    }
    return m->ops->weight_freeze(m->dev, &l->w, parts, l->n_parts, t5_weight_use(m, l), err);
}

static int load_frozen(struct t5_model *m, const struct t5_checkpoint *checkpoint,
                       struct t5_err *err)
{
    int64_t total = 0;
    for (int i = 0; i < m->n_norms; i++)
        total += t5_norm_size(m, m->norms[i]);
    if (m->ops->alloc(m->dev, (void **)&m->vectors, (size_t)total * sizeof(float), "norms", err))
        return -1;
    float *at = m->vectors;
    for (int i = 0; i < m->n_norms; i++) {
        struct t5_norm *norm = m->norms[i];
        int64_t n = t5_norm_size(m, norm);
        struct t5_matrix from;
        if (t5_checkpoint_find_matrix(&from, checkpoint, norm->name, 1, n, err) ||
            upload_matrix(m, at, &from, norm->name, err))
            return -1;
        norm->w = at;
        at += n;
    }
    for (int i = 0; i < m->n_linears; i++)
        if (freeze_linear(m, m->linears[i], checkpoint, err))
            return -1;
    if (freeze_linear(m, &m->shared, checkpoint, err))
        return -1;
    return m->tied ? 0 : freeze_linear(m, &m->lm_head, checkpoint, err);
}

/* ---- the flat parameters ---- */

static int alloc_params(struct t5_model *m, struct t5_err *err)
{
    size_t bytes = (size_t)m->n_params * sizeof(float);
    if (m->n_params == 0)
        return 0;
    if (m->ops->alloc(m->dev, (void **)&m->params, bytes, "parameters", err))
        return -1;
    if (m->mode == T5_INFER)
        return 0;
    if (m->ops->alloc(m->dev, (void **)&m->grads, bytes, "gradients", err))
        return -1;
    m->ops->zero(m->dev, m->grads, bytes);
    return 0;
}

/* Points the sides of adapter `which` at its parameters; grads NULL: frozen. */
static void attach_loras(struct t5_model *m, int which, float *params, float *grads)
{
    for (int i = 0; i < m->n_linears; i++) {
        struct t5_side *s = &m->linears[i]->sides[which];
        for (int k = 0; k < s->n_lora; k++) {
            s->lora[k].a = params + s->a[k];
            s->lora[k].b = params + s->b[k];
            s->lora[k].da = grads ? grads + s->a[k] : NULL;
            s->lora[k].db = grads ? grads + s->b[k] : NULL;
        }
    }
}

static int upload_adapter(struct t5_model *m, float *to, const struct t5_adapter *adapter,
                          struct t5_err *err)
{
    for (int i = 0; i < adapter->n_modules; i++) {
        const struct t5_lora_module *module = &adapter->modules[i];
        int64_t a = adapter->rank * module->in, b = adapter->rank * module->out;
        m->ops->upload(m->dev, to, module->a, (size_t)a * sizeof *to);
        m->ops->upload(m->dev, to + a, module->b, (size_t)b * sizeof *to);
        to += a + b;
    }
    return m->ops->sync(m->dev, err);
}

static int load_adapter(struct t5_model *m, const struct t5_adapter *adapter, struct t5_err *err)
{
    if (alloc_params(m, err))
        return -1;
    attach_loras(m, 0, m->params, m->grads);
    return upload_adapter(m, m->params, adapter, err);
}

int t5_model_add_adapter(struct t5_model *m, const struct t5_adapter *adapter, struct t5_err *err)
{
    size_t bytes = ((size_t)m->n_added + 1) * sizeof *m->added;
    float **added = realloc(m->added, bytes), *params;
    int64_t n;
    if (!added)
        return t5_fail_memory(err, bytes, "adapters");
    m->added = added;
    if (t5_model_describe_adapter(m, adapter, &n, err) ||
        m->ops->alloc(m->dev, (void **)&params, (size_t)n * sizeof *params, "an adapter", err))
        return -1;
    added[m->n_added++] = params;
    attach_loras(m, m->n_adapters - 1, params, NULL);
    return upload_adapter(m, params, adapter, err);
}

static int bind_linear(struct t5_model *m, struct t5_linear *l, struct t5_err *err)
{
    const struct t5_param *p = t5_model_find_param(m, l->names[0], ".weight");
    if (!p)
        return t5_fail(err, "the model has no tensor '%s.weight'", l->names[0]);
    l->dw = m->grads + p->offset;
    return m->ops->weight_bind(m->dev, &l->w, m->params + p->offset, l->rows, l->cols, err);
}

static int bind_all(struct t5_model *m, struct t5_err *err)
{
    for (int i = 0; i < m->n_norms; i++) {
        const struct t5_param *p = t5_model_find_param(m, m->norms[i]->name, "");
        if (!p)
            return t5_fail(err, "the model has no tensor '%s'", m->norms[i]->name);
        m->norms[i]->w = m->params + p->offset;
        m->norms[i]->dw = m->grads + p->offset;
    }
    for (int i = 0; i < m->n_linears; i++)
        if (bind_linear(m, m->linears[i], err))
            return -1;
    if (bind_linear(m, &m->shared, err))
        return -1;
    return m->tied ? 0 : bind_linear(m, &m->lm_head, err);
}

static int load_full(struct t5_model *m, const struct t5_checkpoint *checkpoint, struct t5_err *err)
{
    for (int i = 0; i < m->n_table; i++) {
        const struct t5_param *p = &m->table[i];
        struct t5_matrix from;
        if (t5_checkpoint_find_matrix(&from, checkpoint, p->name, p->rows, p->cols, err) ||
            upload_matrix(m, m->params + p->offset, &from, p->name, err))
            return -1;
    }
    return 0;
}

/* ---- from scratch ---- */

/* Standard deviation by HF's T5PreTrainedModel._init_weights with factor 1; 0: a norm, which starts
 * at 1. */
static double initial_deviation(const struct t5_model *m, const char *name)
{
    double d = (double)m->config.d_model, k = (double)m->config.d_kv;
    size_t n = strlen(name);
    struct {
        const char *ending;
        double deviation;
    } const rules[] = {
        {"shared.weight", 1},
        {"lm_head.weight", 1},
        {".q.weight", pow(d * k, -.5)},
        {".k.weight", pow(d, -.5)},
        {".v.weight", pow(d, -.5)},
        {".o.weight", pow((double)m->inner, -.5)},
        {".wi.weight", pow(d, -.5)},
        {".wi_0.weight", pow(d, -.5)},
        {".wi_1.weight", pow(d, -.5)},
        {".wo.weight", pow((double)m->config.d_ff, -.5)},
        {".relative_attention_bias.weight", pow(d, -.5)},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        size_t e = strlen(rules[i].ending);
        if (n >= e && strcmp(name + n - e, rules[i].ending) == 0)
            return rules[i].deviation;
    }
    return 0;
}

/* Box-Muller over pairs of counter-based draws; element i of tensor `which` is the same everywhere.
 */
static void draw_normal(float *out, int64_t n, double deviation, uint64_t seed, uint64_t which)
{
    uint32_t key[2];
    t5_rng_key(key, seed, T5_RNG_INIT, which);
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0};
        struct t5_philox draw = t5_philox(counter, key);
        for (int64_t k = 0; k < 4 && i + k < n; k++) {
            double u = ((double)draw.v[k & 2] + 0.5) * 0x1p-32, v = (double)draw.v[k | 1] * 0x1p-32;
            double radius = sqrt(-2 * log(u)), angle = TAU * v;
            out[i + k] = (float)(deviation * radius * (k & 1 ? sin(angle) : cos(angle)));
        }
    }
}

static int load_initial(struct t5_model *m, uint64_t seed, struct t5_err *err)
{
    int rc = -1;
    float *host = t5_alloc((size_t)m->n_params, sizeof *host, "parameters", err);
    if (!host)
        return -1;
    for (int i = 0; i < m->n_table; i++) {
        const struct t5_param *p = &m->table[i];
        int64_t n = p->rows * p->cols;
        double deviation = initial_deviation(m, p->name);
        if (deviation > 0)
            draw_normal(host + p->offset, n, deviation, seed, (uint64_t)i);
        else
            for (int64_t k = 0; k < n; k++)
                host[p->offset + k] = 1;
    }
    rc = t5_model_set_params(m, host, err);
    free(host);
    return rc;
}

/* ---- buckets ---- */

/* HF T5Attention._relative_position_bucket, in float as there: half the buckets are exact, the rest
 * logarithmic up to max_distance. relative = key position - query position. */
static int32_t bucket_of(int64_t relative, int bidirectional, int64_t buckets, int64_t max_distance)
{
    int64_t bucket = 0, distance;
    if (bidirectional) {
        buckets /= 2;
        bucket = relative > 0 ? buckets : 0;
        distance = relative < 0 ? -relative : relative;
    } else {
        distance = relative < 0 ? -relative : 0;
    }
    int64_t exact = buckets / 2;
    if (distance < exact)
        return (int32_t)(bucket + distance);
    float where = logf((float)distance / (float)exact) /
                  (float)log((double)max_distance / (double)exact) * (float)(buckets - exact);
    int64_t far = exact + (int64_t)where;
    return (int32_t)(bucket + (far < buckets - 1 ? far : buckets - 1));
}

static int load_buckets(struct t5_model *m, struct t5_stack *stack, struct t5_err *err)
{
    int64_t far = m->config.max_distance, n = 2 * far + 1;
    int rc = -1;
    int32_t *host = t5_alloc((size_t)n, sizeof *host, "buckets", err);
    if (!host)
        return -1;
    for (int64_t i = 0; i < n; i++)
        host[i] = bucket_of(i - far, !stack->is_decoder, m->config.buckets, far);
    if (m->ops->alloc(m->dev, (void **)&stack->bucket, (size_t)n * sizeof *host, "buckets", err) ==
        0) {
        m->ops->upload(m->dev, stack->bucket, host, (size_t)n * sizeof *host);
        rc = m->ops->sync(m->dev, err);
    }
    free(host);
    return rc;
}

/* ---- open and close ---- */

static int open_described(struct t5_model **out, const struct t5_backend_handle *backend,
                          const struct t5_config *config, int has_lm_head,
                          const struct t5_adapter *adapter, enum t5_model_mode mode,
                          struct t5_err *err)
{
    struct t5_model *m = t5_alloc_zeroed(1, sizeof *m, "a model", err);
    *out = m;
    if (!m || t5_model_describe(m, config, has_lm_head, adapter, mode, err))
        return -1;
    m->backend = backend;
    m->ops = &backend->ops;
    m->dev = backend->dev;
    m->act_size = m->ops->activation_size(m->dev);
    return load_buckets(m, &m->encoder, err) || load_buckets(m, &m->decoder, err) ? -1 : 0;
}

int t5_model_open(struct t5_model **out, const struct t5_backend_handle *backend,
                  const struct t5_checkpoint *checkpoint, const struct t5_adapter *adapter,
                  enum t5_model_mode mode, struct t5_err *err)
{
    int has_lm_head = t5_checkpoint_find(checkpoint, "lm_head.weight") != NULL;
    if (mode == T5_TRAIN_FULL)
        adapter = NULL;
    if (open_described(out, backend, t5_checkpoint_config(checkpoint), has_lm_head, adapter, mode,
                       err))
        goto fail;
    if (mode == T5_TRAIN_FULL) {
        if (alloc_params(*out, err) || load_full(*out, checkpoint, err) || bind_all(*out, err))
            goto fail;
        t5_model_refresh(*out);
    } else if (load_frozen(*out, checkpoint, err) ||
               (adapter && load_adapter(*out, adapter, err))) {
        goto fail;
    }
    if ((*out)->ops->sync((*out)->dev, err) == 0)
        return 0;
fail:
    t5_model_close(*out);
    *out = NULL;
    return -1;
}

int t5_model_create(struct t5_model **out, const struct t5_backend_handle *backend,
                    const struct t5_config *config, uint64_t seed, struct t5_err *err)
{
    if (open_described(out, backend, config, !config->tied, NULL, T5_TRAIN_FULL, err) == 0 &&
        alloc_params(*out, err) == 0 && bind_all(*out, err) == 0 &&
        load_initial(*out, seed, err) == 0)
        return 0;
    t5_model_close(*out);
    *out = NULL;
    return -1;
}

void t5_model_close(struct t5_model *m)
{
    if (!m)
        return;
    if (m->ops) {
        t5_workspace_close(&m->ws, m);
        for (int i = 0; i < m->n_linears; i++)
            m->ops->weight_free(m->dev, m->linears[i]->w);
        m->ops->weight_free(m->dev, m->shared.w);
        m->ops->weight_free(m->dev, m->lm_head.w);
        m->ops->release(m->dev, m->encoder.bucket);
        m->ops->release(m->dev, m->decoder.bucket);
        m->ops->release(m->dev, m->vectors);
        m->ops->release(m->dev, m->params);
        for (int i = 0; i < m->n_added; i++)
            m->ops->release(m->dev, m->added[i]);
        m->ops->release(m->dev, m->grads);
    }
    t5_model_undescribe(m);
    free(m->added);
    free(m);
}
