/* optimizer.c - AdamW (arXiv:1711.05101) as torch.optim.AdamW, with 8-bit moments as bitsandbytes',
 * and Adafactor as transformers'; clipping as torch clip_grad_norm_. The arithmetic is the
 * backend's: this file says which tensor is updated how. */
/* SPDX-License-Identifier: MIT */
#include "t5/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/dynamic_map.h"

const char *const t5_optimizer_names[T5_OPTIMIZERS] = {
    [T5_ADAMW] = "adamw", [T5_ADAMW8] = "adamw8bit", [T5_ADAFACTOR] = "adafactor"};

int t5_optimizer_check(enum t5_optimizer_kind kind, const struct t5_backend_handle *backend,
                       struct t5_err *err)
{
    const struct t5_backend *ops = &backend->ops;
    if ((kind == T5_ADAMW8 && !ops->adamw8) || (kind == T5_ADAFACTOR && !ops->adafactor))
        return t5_fail_as(err, T5_USAGE, "--optimizer %s: not on the %s backend",
                          t5_optimizer_names[kind], ops->name);
    return 0;
}

static int upload_maps(struct t5_optimizer *o, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    float maps[2 * T5_MAP];
    if (backend->ops.alloc(backend->dev, (void **)&o->maps, sizeof maps, "the optimiser", err))
        return -1;
    t5_dynamic_maps(maps);
    backend->ops.upload(backend->dev, o->maps, maps, sizeof maps);
    return backend->ops.sync(backend->dev, err);
}

int t5_optimizer_init(struct t5_optimizer *o, struct t5_model *model,
                      const struct t5_optimizer_settings *settings, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    const struct t5_backend *ops = &backend->ops;
    int64_t bytes;
    *o = (struct t5_optimizer){.model = model, .settings = *settings};
    if (t5_optimizer_describe(o, &bytes, err) ||
        ops->alloc(backend->dev, (void **)&o->state, (size_t)bytes, "the optimiser", err) ||
        ops->alloc(backend->dev, (void **)&o->sums, T5_SUMS * sizeof *o->sums, "the optimiser",
                   err) ||
        (settings->kind == T5_ADAMW8 && upload_maps(o, err)))
        return -1;
    ops->zero(backend->dev, o->state, (size_t)bytes);
    return ops->sync(backend->dev, err);
}

void t5_optimizer_free(struct t5_optimizer *o)
{
    if (!o->model)
        return;
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    backend->ops.release(backend->dev, o->state);
    backend->ops.release(backend->dev, o->maps);
    backend->ops.release(backend->dev, o->sums);
    free(o->tensors);
    free(o->places);
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

/* What one update is made with. */
struct update {
    struct t5_adamw adamw;
    struct t5_adafactor adafactor;
    double lr;
};

static void adamw_range(const struct t5_optimizer *o, int64_t from, int64_t to, struct t5_adamw how,
                        struct group group)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    float *m = (float *)o->state, *v = m + t5_model_n_params(o->model);
    how.lr = group.lr;
    how.weight_decay = group.decay;
    backend->ops.adamw(backend->dev, t5_model_params(o->model) + from,
                       t5_model_grads(o->model) + from, m + from, v + from, to - from, &how,
                       o->sums + T5_SUM_SQUARES);
}

static void adamw_all(const struct t5_optimizer *o, const struct update *u)
{
    int64_t from = 0;
    int count = t5_model_param_count(o->model);
    struct group last = {0}, mine;
    for (int i = 0; i < count; i++, last = mine) {
        const struct t5_param *p = t5_model_param(o->model, i);
        mine = group_of(o, p, u->lr);
        if (i == 0 || (mine.lr == last.lr && mine.decay == last.decay))
            continue;
        adamw_range(o, from, p->offset, u->adamw, last);
        from = p->offset;
    }
    adamw_range(o, from, t5_model_n_params(o->model), u->adamw, last);
}

static void adamw8_one(const struct t5_optimizer *o, const struct t5_param *p,
                       const struct t5_optimizer_place *at, struct t5_adamw how)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    float *x = t5_model_params(o->model) + p->offset, *g = t5_model_grads(o->model) + p->offset;
    char *m = o->state + at->first, *v = o->state + at->second;
    int64_t n = p->rows * p->cols;
    if (at->first_scale < 0)
        backend->ops.adamw(backend->dev, x, g, (float *)m, (float *)v, n, &how,
                           o->sums + T5_SUM_SQUARES);
    else
        backend->ops.adamw8(
            backend->dev, x, g, (uint8_t *)m, (uint8_t *)v, (float *)(o->state + at->first_scale),
            (float *)(o->state + at->second_scale), n, o->maps, &how, o->sums + T5_SUM_SQUARES);
}

static void adafactor_one(const struct t5_optimizer *o, const struct t5_param *p,
                          const struct t5_optimizer_place *at, const struct t5_adafactor *how)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    float *col = at->second < 0 ? NULL : (float *)(o->state + at->second);
    backend->ops.adafactor(backend->dev, t5_model_params(o->model) + p->offset,
                           t5_model_grads(o->model) + p->offset, (float *)(o->state + at->first),
                           col, p->rows, p->cols, how, o->sums + T5_SUM_SQUARES);
}

static void update_all(const struct t5_optimizer *o, struct update *u)
{
    if (o->settings.kind == T5_ADAMW) {
        adamw_all(o, u);
        return;
    }
    for (int i = 0; i < t5_model_param_count(o->model); i++) {
        const struct t5_param *p = t5_model_param(o->model, i);
        struct group group = group_of(o, p, u->lr);
        u->adamw.lr = u->adafactor.lr = group.lr;
        u->adamw.weight_decay = u->adafactor.weight_decay = group.decay;
        if (o->settings.kind == T5_ADAMW8)
            adamw8_one(o, p, &o->places[i], u->adamw);
        else
            adafactor_one(o, p, &o->places[i], &u->adafactor);
    }
}

void t5_optimizer_queue(struct t5_optimizer *o, double lr, double most_loss)
{
    const struct t5_backend_handle *backend = t5_model_backend(o->model);
    int64_t step = o->step + 1;
    float clip = (float)o->settings.clip;
    struct update u = {
        .adamw = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .clip = clip, .step = step},
        .adafactor = {.decay = (float)(1 - pow((double)step, -0.8)), .clip = clip},
        .lr = lr};
    backend->ops.sum_squares(backend->dev, o->sums + T5_SUM_SQUARES, t5_model_grads(o->model),
                             t5_model_n_params(o->model));
    backend->ops.spoil(backend->dev, o->sums + T5_SUM_SQUARES, o->sums + T5_SUM_LOSS, most_loss);
    update_all(o, &u);
    t5_model_refresh(o->model);
}
