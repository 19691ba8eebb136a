/* optimizer.c - AdamW (arXiv:1711.05101) as torch.optim.AdamW, clipping as torch clip_grad_norm_.
 * The arithmetic is the backend's: this file keeps the moments and says which tensors decay. */
/* SPDX-License-Identifier: MIT */
#include "t5/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

int64_t t5_optimizer_bytes(int64_t n_params)
{
    return 2 * n_params * (int64_t)sizeof(float);
}

size_t t5_optimizer_tensor_bytes(const struct t5_optimizer_tensor *t)
{
    return (size_t)t->elements * t5_dtype_size(t->type);
}

/* The moments of all parameters, first m, then v, each in the order of the flat buffer. */
static int describe(struct t5_optimizer *o, struct t5_err *err)
{
    static const char *const kinds[] = {"m", "v"};
    int count = t5_model_param_count(o->model);
    int64_t n = t5_model_n_params(o->model);
    o->tensors = t5_alloc_zeroed(2 * (size_t)count, sizeof *o->tensors, "the optimiser", err);
    if (!o->tensors)
        return -1;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < count; i++) {
            const struct t5_param *p = t5_model_param(o->model, i);
            struct t5_optimizer_tensor *t = &o->tensors[o->n_tensors++];
            *t = (struct t5_optimizer_tensor){.type = T5_F32,
                                              .rank = p->vector ? 1 : 2,
                                              .shape = {p->rows, p->cols},
                                              .elements = p->rows * p->cols,
                                              .offset = 4 * (k * n + p->offset)};
            snprintf(t->name, sizeof t->name, "%s.%s", kinds[k], p->name);
        }
    return 0;
}

int t5_optimizer_init(struct t5_optimizer *o, struct t5_model *model,
                      const struct t5_optimizer_settings *settings, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    const struct t5_backend *ops = &backend->ops;
    size_t bytes = (size_t)t5_optimizer_bytes(t5_model_n_params(model));
    *o = (struct t5_optimizer){.model = model, .settings = *settings};
    if (describe(o, err) ||
        ops->alloc(backend->dev, (void **)&o->state, bytes, "the optimiser", err) ||
        ops->alloc(backend->dev, (void **)&o->sum_squares, sizeof(double), "the optimiser", err))
        return -1;
    ops->zero(backend->dev, o->state, bytes);
    return ops->sync(backend->dev, err);
}

void t5_optimizer_free(struct t5_optimizer *o)
{
    if (!o->model)
        return;
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    backend->ops.release(backend->dev, o->state);
    backend->ops.release(backend->dev, o->sum_squares);
    free(o->tensors);
    *o = (struct t5_optimizer){0};
}

/* transformers' Trainer.get_decay_parameter_names: neither norms nor anything called "bias". */
static int decays(const struct t5_optimizer *o, const struct t5_param *p)
{
    return o->settings.decay_all || (!p->vector && !strstr(p->name, "bias"));
}

/* How one tensor is updated; runs of tensors alike go to the device as one range. */
struct group {
    float lr, decay;
};

static struct group group_of(const struct t5_optimizer *o, const struct t5_param *p, double lr)
{
    const char *dot = strrchr(p->name, '.');
    int is_b = dot && strcmp(dot, ".lora_B") == 0;
    return (struct group){
        .lr = (float)(o->settings.lora_plus > 0 && is_b ? lr * o->settings.lora_plus : lr),
        .decay = decays(o, p) ? (float)o->settings.weight_decay : 0};
}

static void update_range(const struct t5_optimizer *o, int64_t from, int64_t to,
                         struct t5_adamw how, struct group group)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    float *m = (float *)o->state, *v = m + t5_model_n_params(o->model);
    how.lr = group.lr;
    how.weight_decay = group.decay;
    backend->ops.adamw(backend->dev, t5_model_params(o->model) + from,
                       t5_model_grads(o->model) + from, m + from, v + from, to - from, &how,
                       o->sum_squares);
}

static void update_all(const struct t5_optimizer *o, const struct t5_adamw *how, double lr)
{
    int64_t from = 0;
    int count = t5_model_param_count(o->model);
    struct group last = {0}, mine;
    for (int i = 0; i < count; i++, last = mine) {
        const struct t5_param *p = t5_model_param(o->model, i);
        mine = group_of(o, p, lr);
        if (i == 0 || (mine.lr == last.lr && mine.decay == last.decay))
            continue;
        update_range(o, from, p->offset, *how, last);
        from = p->offset;
    }
    update_range(o, from, t5_model_n_params(o->model), *how, last);
}

int t5_optimizer_update(struct t5_optimizer *o, double lr, double *norm, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    struct t5_adamw how = {.beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = 1e-8f,
                           .clip = (float)o->settings.clip,
                           .step = o->step + 1};
    double squares;
    backend->ops.sum_squares(backend->dev, o->sum_squares, t5_model_grads(o->model),
                             t5_model_n_params(o->model));
    update_all(o, &how, lr);
    if (backend->ops.download(backend->dev, &squares, o->sum_squares, sizeof squares, err))
        return -1;
    *norm = sqrt(squares);
    if (!isfinite(squares))
        return 0;
    o->step++;
    t5_model_refresh(o->model);
    return 0;
}
