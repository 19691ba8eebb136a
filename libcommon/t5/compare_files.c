/* compare_files.c - opens what --compare names and prints what compare.c finds. */
/* SPDX-License-Identifier: MIT */
#include "t5/compare_files.h"

#include <math.h>
#include <string.h>

#include "t5/compare.h"

enum {
    BATCH_TOKENS = 1024
}; /* bounds the logits: two of (1024, V) floats unless one record has more */

struct side {
    struct t5_backend_handle backend;
    struct t5_checkpoint *checkpoint;
    struct t5_model *model;
};

static int open_side(struct side *s, const char *path, enum t5_compute compute,
                     const struct t5_compare_files *files, struct t5_err *err)
{
    const struct t5_device_options how = {.threads = files->threads, .compute = compute};
    if (t5_checkpoint_open(&s->checkpoint, path, err) || t5_checkpoint_verify(s->checkpoint, err))
        return -1;
    if (t5_checkpoint_warning(s->checkpoint))
        files->warn(t5_checkpoint_warning(s->checkpoint));
    return t5_backend_open(&s->backend, files->device, &how, err) ||
                   t5_model_open(&s->model, &s->backend, s->checkpoint, NULL, T5_INFER, err)
               ? -1
               : 0;
}

static void close_side(struct side *s)
{
    t5_model_close(s->model);
    t5_checkpoint_close(s->checkpoint);
    t5_backend_close(&s->backend);
}

static int read_records(struct t5_dataset *data, const struct t5_compare_files *files,
                        int64_t vocab, struct t5_err *err)
{
    const struct t5_tokens_options how = {
        .vocab = vocab, .labels = T5_LABELS_REQUIRED, .max_line = T5_MAX_LINE};
    struct t5_tokens_reader *reader;
    struct t5_token_record record;
    int rc = t5_tokens_open(&reader, files->tokens, files->n_tokens, &how, err);
    if (rc)
        return -1;
    while ((files->records == 0 || data->n < files->records) &&
           (rc = t5_tokens_next(reader, &record, err)) == 1)
        if ((rc = t5_dataset_add(data, &record, err)))
            break;
    t5_tokens_close(reader);
    return rc < 0 ? -1 : data->n ? 0 : t5_fail(err, "no records to compare on");
}

/* JSON has no word for what is not finite. */
static void print_number(FILE *out, const char *name, double value)
{
    if (isfinite(value))
        fprintf(out, ",\"%s\":%.6g", name, value);
    else
        fprintf(out, ",\"%s\":null", name);
}

static void print_comparison(FILE *out, const char *key, int64_t value,
                             const struct t5_comparison *c)
{
    double n = (double)c->tokens;
    fprintf(out, "{\"%s\":%lld,\"tokens\":%lld", key, (long long)value, (long long)c->tokens);
    print_number(out, "logits_relative_error", t5_comparison_error(c));
    print_number(out, "top1_agreement", (double)c->agreed / n);
    print_number(out, "loss", c->loss / n);
    print_number(out, "original_loss", c->original_loss / n);
    fprintf(out, "}\n");
}

static int print_record(void *out, int64_t record, const struct t5_comparison *c,
                        struct t5_err *err)
{
    (void)err;
    print_comparison(out, "record", record + 1, c);
    return 0;
}

int t5_compare_print(FILE *out, const struct t5_compare_files *files, struct t5_err *err)
{
    struct side original = {0}, model = {0};
    struct t5_dataset data = {0};
    struct t5_comparison total;
    char shown[T5_ESCAPED];
    int rc = -1;
    if (open_side(&original, files->original, T5_COMPUTE_F32, files, err) ||
        open_side(&model, files->model, files->compute, files, err))
        goto out;
    int64_t v = t5_model_config(original.model)->vocab, found = t5_model_config(model.model)->vocab;
    if (v != found) {
        t5_fail(err, "%s: vocabulary of %lld tokens expected as in the original, found %lld",
                t5_escape(shown, files->model, strlen(files->model)), (long long)v,
                (long long)found);
        goto out;
    }
    if (read_records(&data, files, v, err) ||
        t5_compare_run(&total, original.model, model.model, &data, BATCH_TOKENS, print_record, out,
                       err))
        goto out;
    print_comparison(out, "records", data.n, &total);
    rc = 0;
out:
    t5_dataset_free(&data);
    close_side(&original);
    close_side(&model);
    return rc;
}
