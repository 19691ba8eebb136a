/* quality.c - how far one model and arithmetic are from another on the same records: logits, top-1
 * agreement, LoRA gradients, and the loss of a short training run. One JSON object on standard
 * output. usage: quality REFERENCE COMPUTE MODEL COMPUTE TOKENS RECORDS STEPS
 * COMPUTE: f32, bf16, int8 or fp8, then @DEVICE where it is not the CPU, then +LIST of projections
 * that stay bf16: fp8@cuda+wo
 *
 * The adapter is r 16 on q and v; for the gradients its B is random too, so that A has one. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "t5/adapter_params.h"
#include "t5/compare.h"
#include "t5/trainer.h"

#define AT_A_TIME 8 /* records a pass */
#define SMOOTH 10   /* steps averaged for the loss curve */

struct side {
    struct t5_backend_handle backend;
    struct t5_checkpoint *checkpoint;
    struct t5_adapter adapter;
    struct t5_model *model;
    char how[64]; /* COMPUTE[@DEVICE][+LIST], cut up */
};

static int side_open(struct side *s, const char *path, const char *how, struct t5_err *err)
{
    snprintf(s->how, sizeof s->how, "%s", how);
    char *keep = strchr(s->how, '+'), *device = strchr(s->how, '@');
    if (keep)
        *keep++ = 0;
    if (device)
        *device++ = 0;
    struct t5_device_options options = {.compute = t5_compute_named(s->how), .keep_wide = keep};
    if (t5_backend_open(&s->backend, device ? device : "cpu", &options, err) ||
        t5_checkpoint_open(&s->checkpoint, path, err) ||
        t5_adapter_init(&s->adapter, "q,v", 16, 32, 0.05, 0, t5_checkpoint_config(s->checkpoint),
                        err))
        return -1;
    t5_adapter_start(&s->adapter, 42);
    return t5_model_open(&s->model, &s->backend, s->checkpoint, &s->adapter, T5_TRAIN_LORA, err);
}

static void side_close(struct side *s)
{
    t5_model_close(s->model);
    t5_adapter_free(&s->adapter);
    t5_checkpoint_close(s->checkpoint);
    t5_backend_close(&s->backend);
}

static int data_read(struct t5_dataset *data, const char *path, int64_t vocab, int64_t most,
                     struct t5_err *err)
{
    struct t5_tokens_options options = {
        .vocab = vocab, .labels = T5_LABELS_REQUIRED, .max_line = T5_MAX_LINE};
    struct t5_tokens_reader *reader;
    struct t5_token_record record;
    int rc = t5_tokens_open(&reader, &path, 1, &options, err);
    if (rc)
        return -1;
    while (data->n < most && (rc = t5_tokens_next(reader, &record, err)) == 1)
        if ((rc = t5_dataset_add(data, &record, err)))
            break;
    t5_tokens_close(reader);
    return rc < 0 ? -1 : 0;
}

/* Records [first, first + n) as a batch; arrays must hold them. */
struct packed {
    int32_t *input, *labels, input_offsets[AT_A_TIME + 1], label_offsets[AT_A_TIME + 1];
    uint32_t record[AT_A_TIME];
};

static struct t5_batch pack(struct packed *p, const struct t5_dataset *data, int64_t first,
                            int64_t n)
{
    for (int64_t i = 0; i <= n; i++) {
        p->input_offsets[i] =
            (int32_t)(data->input_offsets[first + i] - data->input_offsets[first]);
        p->label_offsets[i] =
            (int32_t)(data->label_offsets[first + i] - data->label_offsets[first]);
    }
    for (int64_t i = 0; i < n; i++)
        p->record[i] = (uint32_t)(first + i);
    return (struct t5_batch){.n_seqs = n,
                             .input = data->input + data->input_offsets[first],
                             .input_offsets = p->input_offsets,
                             .labels = data->labels + data->label_offsets[first],
                             .label_offsets = p->label_offsets,
                             .record = p->record};
}

/* The gradient of one batch with a random B, flat. */
static int gradient(float *out, struct side *s, const struct t5_batch *batch, struct t5_err *err)
{
    size_t bytes = (size_t)t5_model_n_params(s->model) * sizeof *out;
    struct t5_pass pass = {.loss_scale = 1.0f / (float)batch->label_offsets[batch->n_seqs]};
    double loss;
    if (t5_model_get_params(s->model, out, err))
        return -1;
    for (int i = 1; i < t5_model_param_count(s->model); i += 2) {
        const struct t5_param *p = t5_model_param(s->model, i);
        uint32_t key[2] = {(uint32_t)i, 7};
        for (int64_t k = 0; k < p->rows * p->cols; k++) {
            uint32_t counter[4] = {(uint32_t)k, 0, 0, 0};
            out[p->offset + k] = 0.04f * (t5_uniform(t5_philox(counter, key).v[0]) - 0.5f);
        }
    }
    if (t5_model_set_params(s->model, out, err))
        return -1;
    s->backend.ops.zero(s->backend.dev, t5_model_grads(s->model), bytes);
    if (t5_model_train(s->model, batch, &pass, &loss, err))
        return -1;
    return s->backend.ops.download(s->backend.dev, out, t5_model_grads(s->model), bytes, err);
}

/* Mean over the tensors of the cosine between the two sides' gradients. */
static int compare_gradients(double *mean, struct side *a, struct side *b,
                             const struct t5_batch *batch, struct t5_err *err)
{
    size_t n = (size_t)t5_model_n_params(a->model);
    float *x = t5_alloc(n, sizeof *x, "gradients", err),
          *y = t5_alloc(n, sizeof *y, "gradients", err);
    int rc = x && y && gradient(x, a, batch, err) == 0 && gradient(y, b, batch, err) == 0 ? 0 : -1;
    int count = rc == 0 ? t5_model_param_count(a->model) : 0;
    *mean = 0;
    for (int i = 0; i < count; i++) {
        const struct t5_param *p = t5_model_param(a->model, i);
        double xy = 0, xx = 0, yy = 0;
        for (int64_t k = p->offset; k < p->offset + p->rows * p->cols; k++) {
            xy += (double)x[k] * (double)y[k];
            xx += (double)x[k] * (double)x[k];
            yy += (double)y[k] * (double)y[k];
        }
        *mean += xy / sqrt(xx * yy) / count;
    }
    free(x);
    free(y);
    return rc;
}

/* Losses of `steps` LoRA steps without dropout. */
static int train(double *losses, struct side *s, const struct t5_dataset *data,
                 const struct t5_pass_limits *limits, int64_t steps, struct t5_err *err)
{
    struct t5_train_settings settings = {.batch = AT_A_TIME,
                                         .micro_tokens = 1 << 20,
                                         .total_steps = steps,
                                         .schedule = {.lr = 1e-3, .total = steps},
                                         .optimizer = {.clip = 1},
                                         .seed = 42};
    struct t5_trainer *trainer = NULL;
    struct t5_step_report report;
    size_t n = (size_t)t5_model_n_params(s->model);
    float *start = t5_alloc_zeroed(n, sizeof *start, "parameters", err);
    int rc = start ? 0 : -1;
    for (int i = 0; rc == 0 && i < s->adapter.n_modules; i++) {
        const struct t5_param *p = t5_model_param(s->model, 2 * i);
        memcpy(start + p->offset, s->adapter.modules[i].a,
               (size_t)(p->rows * p->cols) * sizeof *start);
    }
    if (rc == 0 && (t5_model_set_params(s->model, start, err) ||
                    t5_trainer_open(&trainer, s->model, data, limits, &settings, err)))
        rc = -1;
    for (int64_t i = 0; rc == 0 && i < steps; i++) {
        if (t5_trainer_step(trainer, &report, err) != 1)
            rc = -1;
        losses[i] = report.loss;
    }
    t5_trainer_close(trainer);
    free(start);
    return rc;
}

/* The largest relative difference of the two smoothed curves. */
static double curve_difference(const double *x, const double *y, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i + SMOOTH <= n; i++) {
        double a = 0, b = 0;
        for (int64_t k = i; k < i + SMOOTH; k++)
            a += x[k], b += y[k];
        worst = fmax(worst, fabs(b / a - 1));
    }
    return worst;
}

static int compare(char **argv, struct t5_err *err)
{
    static struct side a, b;
    static struct packed packed;
    struct t5_dataset data = {0};
    struct t5_pass_limits limits = {0};
    struct t5_comparison total = {0}, of[AT_A_TIME];
    int64_t records = atoll(argv[6]), steps = atoll(argv[7]), passes = 0;
    double cosine = 0, one, *x = calloc((size_t)steps + 1, sizeof *x),
           *y = calloc((size_t)steps + 1, sizeof *y);
    int rc = -1;
    if (!x || !y || side_open(&a, argv[1], argv[2], err) || side_open(&b, argv[3], argv[4], err) ||
        data_read(&data, argv[5], t5_model_config(a.model)->vocab, records, err) ||
        t5_limits_add(&limits, &data, AT_A_TIME, 1 << 20, err) ||
        t5_model_reserve(a.model, &limits, err) || t5_model_reserve(b.model, &limits, err))
        goto out;
    for (int64_t first = 0; first + AT_A_TIME <= data.n; first += AT_A_TIME) {
        struct t5_batch batch = pack(&packed, &data, first, AT_A_TIME);
        if (t5_compare_batch(of, a.model, b.model, &batch, err))
            goto out;
        for (int i = 0; i < AT_A_TIME; i++)
            t5_comparison_add(&total, &of[i]);
        if (first % (4 * AT_A_TIME) == 0) {
            if (compare_gradients(&one, &a, &b, &batch, err))
                goto out;
            cosine += one, passes++;
        }
    }
    if (train(x, &a, &data, &limits, steps, err) || train(y, &b, &data, &limits, steps, err))
        goto out;
    printf("{\"bench\":\"quality\",\"compute\":\"%s\",\"records\":%lld,\"tokens\":%lld,"
           "\"logits_relative_error\":%.3g,\"top1_agreement\":%.4f,\"lora_gradient_cosine\":%.5f,"
           "\"loss_curve_difference\":%.3g,\"loss_first\":%.4f,\"loss_last\":%.4f}\n",
           argv[4], (long long)data.n, (long long)total.tokens, t5_comparison_error(&total),
           (double)total.agreed / (double)total.tokens, cosine / (double)passes,
           curve_difference(x, y, steps), x[0], x[steps - 1]);
    rc = 0;
out:
    t5_dataset_free(&data);
    side_close(&a);
    side_close(&b);
    free(x);
    free(y);
    return rc;
}

int main(int argc, char **argv)
{
    struct t5_err err = {0};
    if (argc != 8) {
        fprintf(stderr, "usage: quality REFERENCE COMPUTE MODEL COMPUTE TOKENS RECORDS STEPS\n");
        return 2;
    }
    if (compare(argv, &err) == 0)
        return 0;
    fprintf(stderr, "quality: %s\n", err.text);
    return 1;
}
