/* trainer.c - one optimiser step at a time. Nothing is allocated between t5_trainer_open and close.
 */
/* SPDX-License-Identifier: MIT */
#include "t5/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Places [first, last) of an epoch. */
struct span {
    int64_t epoch, first, last;
};

struct t5_trainer {
    struct t5_model *model;
    const struct t5_dataset *data;
    struct t5_train_settings settings;
    struct t5_optimizer optimizer;
    struct t5_order order;
    struct t5_packer packer;      /* its micro_tokens: what passes are cut to */
    struct t5_pass_limits limits; /* of such passes */
    struct t5_spike spike;
    float *scores;       /* (label tokens of a pass) */
    int64_t epoch_steps; /* steps an epoch */
    struct t5_train_position at;
    struct span begun;  /* the batch whose gradients are queued or made, ... */
    int64_t begun_step; /* ... and its step, from 0; -1: none */
};

int64_t t5_total_steps(int64_t n, int64_t batch, int64_t epochs, int64_t max_steps)
{
    return max_steps > 0 ? max_steps : epochs * ((n + batch - 1) / batch);
}

int t5_trainer_open(struct t5_trainer **out, struct t5_model *model, const struct t5_dataset *data,
                    const struct t5_pass_limits *limits, const struct t5_train_settings *settings,
                    struct t5_err *err)
{
    struct t5_trainer *t = t5_alloc_zeroed(1, sizeof *t, "a trainer", err);
    *out = NULL;
    if (!t)
        return -1;
    t->model = model;
    t->data = data;
    t->settings = *settings;
    t->begun_step = -1;
    t->limits = *limits;
    t->epoch_steps = (data->n + settings->batch - 1) / settings->batch;
    t->scores = t5_alloc((size_t)limits->label_tokens, sizeof *t->scores, "scores", err);
    if (!t->scores ||
        t5_order_init(&t->order, settings->order, settings->seed, data, settings->batch, err) ||
        t5_optimizer_init(&t->optimizer, model, &settings->optimizer, err) ||
        t5_packer_init(&t->packer, limits, settings->micro_tokens, err) ||
        t5_spike_init(&t->spike, settings->spike_z, settings->spike_window, err)) {
        t5_trainer_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

void t5_trainer_close(struct t5_trainer *t)
{
    if (!t)
        return;
    t5_optimizer_free(&t->optimizer);
    t5_order_free(&t->order);
    t5_packer_free(&t->packer);
    t5_spike_free(&t->spike);
    free(t->scores);
    free(t);
}

struct t5_train_position t5_trainer_position(const struct t5_trainer *t)
{
    struct t5_train_position at = t->at;
    at.updates = t->optimizer.step;
    at.pass_tokens = t->packer.micro_tokens;
    return at;
}

void t5_trainer_set_position(struct t5_trainer *t, const struct t5_train_position *position)
{
    if (position->step != t->at.step)
        t->begun_step = -1;
    t->at = *position;
    t->optimizer.step = position->updates;
    if (position->pass_tokens > 0)
        t->packer.micro_tokens = position->pass_tokens;
}

struct t5_optimizer *t5_trainer_optimizer(struct t5_trainer *t)
{
    return &t->optimizer;
}

struct t5_spike *t5_trainer_spike(struct t5_trainer *t)
{
    return &t->spike;
}

static int stopped(const struct t5_trainer *t)
{
    return t->settings.stop && *t->settings.stop;
}

/* ---- what is not finite ---- */

const char *t5_first_not_finite(const struct t5_model *model, const float *values,
                                struct t5_err *err)
{
    enum { PIECE = 1 << 14 };
    float piece[PIECE];
    const struct t5_backend_handle *backend = t5_model_backend(model);
    for (int i = 0; i < t5_model_param_count(model); i++) {
        const struct t5_param *p = t5_model_param(model, i);
        int64_t n = p->rows * p->cols;
        for (int64_t at = 0; at < n; at += PIECE) {
            int64_t k = n - at < PIECE ? n - at : PIECE;
            if (backend->ops.download(backend->dev, piece, values + p->offset + at,
                                      (size_t)k * sizeof *piece, err))
                return NULL;
            for (int64_t j = 0; j < k; j++)
                if (!isfinite(piece[j]))
                    return p->name;
        }
    }
    return NULL;
}

static int fail_not_finite(struct t5_trainer *t, const struct t5_step_report *r, struct t5_err *err)
{
    err->text[0] = 0;
    const char *what = "parameter",
               *name = t5_first_not_finite(t->model, t5_model_params(t->model), err);
    if (!name && !err->text[0]) {
        what = "gradient of";
        name = t5_first_not_finite(t->model, t5_model_grads(t->model), err);
    }
    if (err->text[0])
        return -1;
    if (!name)
        return t5_fail_as(err, T5_NOT_FINITE, "step %lld: loss %g, gradient norm %g: not finite",
                          (long long)r->step, r->loss, r->grad_norm);
    return t5_fail_as(err, T5_NOT_FINITE,
                      "step %lld: loss %g, gradient norm %g: %s '%s' is not finite",
                      (long long)r->step, r->loss, r->grad_norm, what, name);
}

/* ---- memory ---- */

const struct t5_pass_limits *t5_trainer_limits(const struct t5_trainer *t)
{
    return &t->limits;
}

static int find_limits(struct t5_trainer *t, struct t5_err *err)
{
    static const struct t5_dataset none;
    const struct t5_train_settings *s = &t->settings;
    struct t5_passes passes = {.train = t->data,
                               .eval = s->eval ? s->eval : &none,
                               .order = s->order,
                               .seed = s->seed,
                               .batch = s->batch,
                               .steps = s->total_steps,
                               .micro_tokens = t->packer.micro_tokens};
    enum t5_recompute recompute = t->limits.recompute;
    int rc = t5_passes_limits(&t->limits, &passes, err);
    t->limits.recompute = recompute;
    return rc;
}

static int nothing_left(struct t5_trainer *t, int64_t step, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(t->model);
    return t5_err_at(err, "step %lld: passes of one record, %lld bytes are free",
                     (long long)step + 1, (long long)backend->ops.memory_free(backend->dev));
}

/* What held `tokens` found no memory in step `step` (from 0), as *err says: passes of half of that
 * from here on, or less where not even those can be reserved. */
static int cut_passes(struct t5_trainer *t, int64_t step, int64_t tokens, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(t->model);
    const struct t5_err why = *err;
    do {
        if (tokens <= 1)
            return nothing_left(t, step, err);
        t->packer.micro_tokens = tokens /= 2;
        t->begun_step = -1; /* a resumed run would cut that batch, too */
        if (backend->ops.recover(backend->dev, err) || find_limits(t, err))
            return -1;
        if (t5_model_reserve(t->model, &t->limits, err) == 0) {
            if (t->settings.cut)
                t->settings.cut(t->settings.context, step + 1, tokens, &why);
            return 0;
        }
    } while (err->out_of_memory);
    return -1;
}

int t5_trainer_reserve(struct t5_trainer *t, struct t5_err *err)
{
    int64_t most = t->limits.input_tokens + t->limits.label_tokens;
    if (t5_model_reserve(t->model, &t->limits, err) == 0)
        return 0;
    if (!err->out_of_memory)
        return -1;
    return cut_passes(t, t->at.step, most < t->packer.micro_tokens ? most : t->packer.micro_tokens,
                      err);
}

/* After a pass that failed. 0: passes are smaller now, and it can be tried again. */
static int make_room(struct t5_trainer *t, int64_t step, struct t5_err *err)
{
    const struct t5_batch *b = &t->packer.batch;
    if (!err->out_of_memory)
        return -1;
    if (b->n_seqs <= 1)
        return nothing_left(t, step, err);
    return cut_passes(t, step, b->input_offsets[b->n_seqs] + b->label_offsets[b->n_seqs], err);
}

/* ---- a step ---- */

static struct span batch_of(const struct t5_trainer *t, int64_t step)
{
    struct span s = {.epoch = step / t->epoch_steps};
    s.first = step % t->epoch_steps * t->settings.batch;
    s.last = s.first + t->settings.batch;
    if (s.last > t->data->n)
        s.last = t->data->n;
    return s;
}

static int64_t record_at(struct t5_trainer *t, const struct span *s, int64_t place)
{
    return t5_order_at(&t->order, s->epoch, place);
}

static void count_tokens(struct t5_trainer *t, const struct span *s, struct t5_step_report *r)
{
    r->records = s->last - s->first;
    for (int64_t i = s->first; i < s->last; i++) {
        int64_t record = record_at(t, s, i), labels = t5_dataset_labels(t->data, record);
        r->tokens += t5_dataset_inputs(t->data, record) + labels;
        r->label_tokens += labels;
    }
}

/* Queues the gradients of a step's batch, pass by pass. The loss is normalised by the label tokens
 * of all of it, so where it is cut changes only rounding. 1: done; 0: stopped. */
static int queue_gradients(struct t5_trainer *t, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(t->model);
    const struct span *s = &t->begun;
    struct t5_step_report r = {0};
    count_tokens(t, s, &r);
    struct t5_pass pass = {.loss_scale = 1.0f / (float)r.label_tokens,
                           .label_smoothing = (float)t->settings.label_smoothing,
                           .model_dropout = (float)t->settings.model_dropout,
                           .lora_dropout = (float)t->settings.lora_dropout,
                           .seed = t->settings.seed,
                           .epoch = (uint64_t)s->epoch};
    backend->ops.zero(backend->dev, t5_model_grads(t->model),
                      (size_t)t5_model_n_params(t->model) * sizeof(float));
    for (int64_t i = s->first; i < s->last;) {
        int first = i == s->first;
        if (stopped(t))
            return 0;
        t5_packer_clear(&t->packer);
        while (i < s->last && t5_packer_add(&t->packer, t->data, record_at(t, s, i)))
            i++;
        t5_packer_longest_first(&t->packer, t->data);
        if (t5_model_queue(t->model, &t->packer.batch, &pass, t->optimizer.sums + T5_SUM_LOSS,
                           first, err))
            return -1;
    }
    return 1;
}

/* Gradients of step `step` (from 0), unless they are there. 1: they are queued; 0: stopped. */
static int begin(struct t5_trainer *t, int64_t step, struct t5_err *err)
{
    if (t->begun_step == step)
        return 1;
    t->begun_step = -1;
    t->begun = batch_of(t, step);
    int rc;
    while ((rc = queue_gradients(t, err)) < 0)
        if (make_room(t, step, err))
            return -1;
    if (rc == 1)
        t->begun_step = step;
    return rc;
}

/* Whether a step, from 0, is not to be made. */
static int is_left_out(const struct t5_trainer *t, int64_t step)
{
    return t->settings.skip && t5_ranges_have(t->settings.skip, step + 1);
}

/* The update of the step that has begun, unless its loss is above most_loss; then, where the device
 * works behind the host's back, the gradients of the next one, so that it has work while the sums
 * of this one are waited for. */
static int update(struct t5_trainer *t, double lr, double most_loss, double sums[T5_SUMS],
                  struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(t->model);
    const struct t5_backend *ops = &backend->ops;
    size_t bytes = T5_SUMS * sizeof *sums;
    int64_t next = t->at.step + 1;
    t5_optimizer_queue(&t->optimizer, lr, most_loss);
    t->begun_step = -1;
    if (ops->check(backend->dev, err)) /* parameters may be half updated: no going on from here */
        return -1;
    if (!ops->download_later)
        return ops->download(backend->dev, sums, t->optimizer.sums, bytes, err);
    ops->download_later(backend->dev, t->optimizer.sums, bytes, 0);
    if (next < t->settings.total_steps && !is_left_out(t, next) && begin(t, next, err) < 0)
        return -1;
    return ops->fetch(backend->dev, sums, bytes, 0, err);
}

/* A step whose loss or gradients are not finite has changed nothing. Gradients of the next one may
 * have taken their place, so they are made again to be named. */
static int pass_over(struct t5_trainer *t, const struct t5_step_report *r, struct t5_err *err)
{
    if (t->at.bad_in_row >= t->settings.tolerate) {
        t->begun_step = -1;
        if (begin(t, t->at.step, err) < 0)
            return -1;
        return fail_not_finite(t, r, err);
    }
    t->at.bad_in_row++;
    t->at.bad++;
    return 0;
}

/* What became of the step that was begun: a spike, not finite, an update. most: the largest sum of
 * losses that is no spike. */
static int settle(struct t5_trainer *t, struct t5_step_report *r, const double sums[T5_SUMS],
                  double most, struct t5_err *err)
{
    r->loss = sums[T5_SUM_LOSS] / (double)r->label_tokens;
    r->grad_norm = sqrt(sums[T5_SUM_SQUARES]);
    r->spike = isfinite(r->loss) && sums[T5_SUM_LOSS] > most;
    if (r->spike)
        r->z = t5_spike_score(&t->spike, r->loss);
    r->passed_over = !isfinite(r->grad_norm);
    if (!r->passed_over) {
        t->at.bad_in_row = 0;
        t->optimizer.step++;
    } else if (!(r->spike && t->settings.spike_skip) && pass_over(t, r, err)) {
        return -1;
    }
    t5_spike_add(&t->spike, r->loss);
    t->at.step++;
    return 1;
}

int t5_trainer_step(struct t5_trainer *t, struct t5_step_report *report, struct t5_err *err)
{
    double sums[T5_SUMS];
    if (t->at.step >= t->settings.total_steps || stopped(t))
        return 0;
    struct span s = batch_of(t, t->at.step);
    *report = (struct t5_step_report){.step = t->at.step + 1};
    report->epoch = (double)report->step / (double)t->epoch_steps;
    report->lr = t5_schedule_lr(&t->settings.schedule, t->at.step);
    if (is_left_out(t, t->at.step)) {
        report->skipped = 1;
        report->loss = report->grad_norm = NAN;
        t->at.step++;
        return 1;
    }
    count_tokens(t, &s, report);
    int rc = begin(t, t->at.step, err);
    if (rc <= 0)
        return rc;
    double most = t5_spike_limit(&t->spike) * (double)report->label_tokens;
    if (update(t, report->lr, t->settings.spike_skip ? most : INFINITY, sums, err))
        return -1;
    return settle(t, report, sums, most, err);
}

int t5_trainer_evaluate(struct t5_trainer *t, const struct t5_dataset *data, double *loss,
                        int64_t *label_tokens, struct t5_err *err)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < data->n;) {
        if (stopped(t))
            return 0;
        t5_packer_clear(&t->packer);
        while (i < data->n && t5_packer_add(&t->packer, data, i))
            i++;
        const struct t5_batch *b = &t->packer.batch;
        if (t5_model_score(t->model, b, t->scores, err)) {
            if (make_room(t, t->at.step - 1, err))
                return -1;
            sum = 0; /* from the start: what was reserved is for passes cut from there */
            i = count = 0;
            continue;
        }
        for (int64_t k = 0; k < b->label_offsets[b->n_seqs]; k++)
            sum -= (double)t->scores[k];
        count += b->label_offsets[b->n_seqs];
    }
    *loss = count ? sum / (double)count : 0;
    *label_tokens = count;
    return 1;
}
