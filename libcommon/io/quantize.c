/* quantize.c - the pass: header, then tensor after tensor in blocks of rows, pages dropped behind.
 * What becomes of each is decided in quantize_plan.c and computed in quantize_rows.c. */
/* SPDX-License-Identifier: MIT */
#include "io/quantize.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/nf4.h"
#include "io/jsonl.h"
#include "io/mapping.h"
#include "io/quant_nf4.h"
#include "io/quantize_rows.h"
#include "io/hash_behind.h"

#define BLOCK ((size_t)4 << 20) /* bytes of output at a time, unless one row is longer */

struct pass {
    const struct t5_quantize_options *options;
    struct t5_quantize_step *steps;
    int n;
    struct t5_atomic *report;
    struct t5_hash_behind *out;
    size_t block;                   /* bytes of a buffer */
    float *scratch;                 /* (threads, 2, longest unit of rows) */
    float *scales;                  /* (most rows, or most blocks of NF4) */
    float *groups;                  /* NF4: (most scales) */
    uint8_t *block_codes;           /* NF4: (most blocks) */
    uint8_t *codes;                 /* NF4: of the tensor at hand, where there is a report */
    struct t5_quantize_loss *loss;  /* (units of a block) where there is a report */
    struct t5_quantize_lora *loras; /* (merges) of the tensor at hand */
    int64_t bytes_read;
    struct t5_err *err;
};

static int fail_not_finite(const struct pass *p, const struct t5_quantize_step *s, int64_t at)
{
    return t5_fail(p->err, "%s: tensor '%s': element %lld is not finite%s", s->in->file,
                   s->in->name, (long long)at, s->merged ? " after the merge" : "");
}

static void count_read(struct pass *p, size_t bytes)
{
    p->bytes_read += (int64_t)bytes;
    if (p->options->progress)
        p->options->progress(p->options->context, p->bytes_read);
}

/* The data go from the file to the output without passing through us; weights
 * are still looked at. */
static int copy_tensor(struct pass *p, const struct t5_quantize_step *s, const struct t5_tensor *t)
{
    size_t size = t5_dtype_size(t->type);
    int floats = size && t->type != T5_I8 && t->type != T5_U8;
    for (size_t at = 0; at < t->bytes; at += BLOCK) {
        size_t n = t->bytes - at < BLOCK ? t->bytes - at : BLOCK;
        const char *bytes = (const char *)t->data + at;
        t5_mapping_want(bytes, n);
        int64_t bad = floats ? t5_data_not_finite(bytes, t->type, (int64_t)(n / size)) : -1;
        if (bad >= 0)
            return fail_not_finite(p, s, (int64_t)(at / size) + bad);
        if (t5_hash_behind_put_borrowed(p->out, bytes, n, p->err))
            return -1;
        count_read(p, n);
    }
    return 0;
}

static void add_loss(struct t5_quantize_loss *sum, const struct t5_quantize_loss *rows, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        sum->error2 += rows[i].error2;
        sum->weight2 += rows[i].weight2;
        sum->largest = rows[i].largest > sum->largest ? rows[i].largest : sum->largest;
        sum->not_finite += rows[i].not_finite;
    }
}

/* Fills p->loras and returns how many. */
static int find_loras(struct pass *p, const struct t5_quantize_step *s)
{
    int n = 0;
    for (int i = 0; s->merged && i < p->options->n_merges; i++) {
        const struct t5_merge *merge = &p->options->merges[i];
        const struct t5_lora_module *m = t5_quantize_find_lora(&merge->adapter, s->in->name);
        if (m)
            p->loras[n++] = (struct t5_quantize_lora){
                m, merge->adapter.rank, (float)(merge->weight * t5_adapter_scale(&merge->adapter))};
    }
    return n;
}

/* Rows [row, row + n) of the job's tensor as their file has them. */
static const char *bytes_of(const struct t5_quantize_rows *job, int64_t row, int64_t n,
                            size_t *bytes)
{
    const struct t5_tensor *t = job->step->in;
    int64_t from = t5_dtype_bytes(t->type, row * job->columns);
    *bytes = (size_t)(t5_dtype_bytes(t->type, (row + n) * job->columns) - from);
    return (const char *)t->data + from;
}

static int put_bytes(struct pass *p, const void *bytes, size_t n)
{
    for (size_t at = 0; at < n; at += p->block) {
        size_t k = n - at < p->block ? n - at : p->block;
        memcpy(t5_hash_behind_buffer(p->out), (const char *)bytes + at, k);
        if (t5_hash_behind_put(p->out, k, p->err))
            return -1;
    }
    return 0;
}

/* NF4: its scales are made when all of its blocks are known, and its loss is known after them. */
static int finish_nf4(struct pass *p, const struct t5_quantize_rows *job,
                      struct t5_quantize_loss *loss, int64_t step)
{
    int64_t elements = job->rows * job->columns, blocks = t5_nf4_blocks(elements);
    struct t5_matrix written = {p->codes,  T5_NF4,       p->groups,
                                job->rows, job->columns, p->block_codes};
    t5_nf4_scales_pack(p->block_codes, p->groups, p->scales, blocks);
    for (int64_t row = 0; p->loss && row < job->rows; row += step) {
        size_t bytes;
        int64_t n = job->rows - row < step ? job->rows - row : step;
        t5_quantize_measure(job, &written, row, n);
        add_loss(loss, p->loss, (n + job->unit - 1) / job->unit);
        const char *in = bytes_of(job, row, n, &bytes);
        t5_mapping_drop(in, bytes);
    }
    return put_bytes(p, p->block_codes, (size_t)blocks) ||
                   put_bytes(p, p->groups, (size_t)t5_nf4_scales(elements) * sizeof(float))
               ? -1
               : 0;
}

static int convert_tensor(struct pass *p, const struct t5_quantize_step *s,
                          struct t5_quantize_loss *loss)
{
    struct t5_quantize_rows job = {.step = s,
                                   .rows = s->matrix.rows,
                                   .columns = s->matrix.cols,
                                   .unit = t5_quantize_unit(s->out, s->matrix.cols),
                                   .loras = p->loras,
                                   .n_loras = find_loras(p, s),
                                   .scratch = p->scratch,
                                   .scale = p->scales,
                                   .loss = p->loss};
    int64_t unit_bytes = t5_dtype_bytes(s->out, job.unit * job.columns),
            step = job.unit * ((int64_t)p->block / (unit_bytes ? unit_bytes : 1));
    for (int64_t row = 0; row < job.rows; row += step) {
        size_t in_bytes, out_bytes;
        int64_t n = job.rows - row < step ? job.rows - row : step;
        const char *in = bytes_of(&job, row, n, &in_bytes);
        void *out = t5_hash_behind_buffer(p->out);
        t5_mapping_want(in, in_bytes);
        int64_t bad = t5_quantize_rows(out, &job, row, n);
        if (bad >= 0)
            return fail_not_finite(p, s, bad);
        out_bytes = (size_t)t5_dtype_bytes(s->out, n * job.columns);
        if (p->codes && s->out == T5_NF4)
            memcpy(p->codes + t5_nf4_bytes(row * job.columns), out, out_bytes);
        if (t5_hash_behind_put(p->out, out_bytes, p->err))
            return -1;
        t5_mapping_drop(in, in_bytes);
        count_read(p, in_bytes);
        if (p->loss && s->out != T5_NF4)
            add_loss(loss, p->loss, n);
    }
    if (s->out == T5_NF4)
        return finish_nf4(p, &job, loss, step);
    return t5_dtype_quantised(s->out)
               ? put_bytes(p, p->scales, (size_t)job.rows * sizeof *p->scales)
               : 0;
}

static int report_tensor(struct pass *p, const struct t5_quantize_step *s,
                         const struct t5_quantize_loss *loss)
{
    const struct t5_tensor *t = s->in;
    struct t5_buf line = {0};
    size_t in = t->bytes, out = (size_t)t5_quantize_bytes(s);
    for (int i = 1; i <= s->n_scales; i++)
        in += t[i].bytes;
    double relative = loss->weight2 > 0 ? sqrt(loss->error2 / loss->weight2) : 0;
    int rc = t5_buf_printf(&line, p->err, "{\"name\":") ||
             t5_json_quote(&line, t->name, strlen(t->name), p->err) ||
             t5_buf_printf(&line, p->err, ",\"shape\":[");
    for (int d = 0; rc == 0 && d < t->rank; d++)
        rc = t5_buf_printf(&line, p->err, "%s%lld", d ? "," : "", (long long)t->shape[d]);
    if (rc == 0)
        rc = t5_buf_printf(
            &line, p->err,
            "],\"type_in\":\"%s\",\"type_out\":\"%s\",\"bytes_in\":%zu,\"bytes_out\":%zu,"
            "\"merged\":%s,\"relative_rms_error\":%.6g,\"max_error\":%.6g,\"non_finite\":%lld}\n",
            t5_dtype_name(t->type), t5_dtype_name(s->out), in, out, s->merged ? "true" : "false",
            relative, loss->largest, (long long)loss->not_finite);
    if (rc == 0)
        rc = t5_atomic_write(p->report, line.data, line.n, p->err);
    t5_buf_free(&line);
    return rc ? -1 : 0;
}

static int write_tensors(struct pass *p)
{
    for (int i = 0; i < p->n; i++) {
        const struct t5_quantize_step *s = &p->steps[i];
        struct t5_quantize_loss loss = {0};
        int rc = s->copy ? copy_tensor(p, s, s->in) : convert_tensor(p, s, &loss);
        for (int k = 1; rc == 0 && s->copy && k <= s->n_scales; k++)
            rc = copy_tensor(p, s, s->in + k);
        if (rc)
            return -1;
        if (p->report && report_tensor(p, s, &loss))
            return -1;
    }
    return 0;
}

/* One more tensor for the header: NAME, or NAME_what, of one dimension. */
static void add_flat(struct t5_tensor *tensors, char (*names)[128], int *n, const char *name,
                     const char *what, enum t5_dtype type, int64_t elements)
{
    snprintf(names[*n], sizeof *names, "%s%s", name, what);
    tensors[*n] = (struct t5_tensor){
        .name = names[*n], .type = type, .rank = 1, .shape = {elements}, .elements = elements};
    ++*n;
}

/* The output's tensors, scales behind each quantised weight. Caller frees both. */
static int describe(struct t5_tensor **tensors, char (**names)[128], int *n, const struct pass *p)
{
    *tensors = t5_alloc_zeroed(3 * (size_t)p->n, sizeof **tensors, "the list of tensors", p->err);
    *names = t5_alloc(3 * (size_t)p->n, sizeof **names, "the list of tensors", p->err);
    *n = 0;
    if (!*tensors || !*names)
        return -1;
    for (int i = 0; i < p->n; i++) {
        const struct t5_quantize_step *s = &p->steps[i];
        const char *name = s->in->name;
        int64_t elements = s->in->elements;
        if (s->out == T5_NF4) {
            add_flat(*tensors, *names, n, name, "", T5_U8, t5_nf4_bytes(elements));
            add_flat(*tensors, *names, n, name, "_block", T5_U8, t5_nf4_blocks(elements));
            add_flat(*tensors, *names, n, name, "_scale", T5_F32, t5_nf4_scales(elements));
            continue;
        }
        struct t5_tensor *t = &(*tensors)[(*n)++];
        *t = *s->in;
        t->type = s->out;
        if (t5_dtype_quantised(s->out))
            add_flat(*tensors, *names, n, name, "_scale", T5_F32, s->matrix.rows);
    }
    return 0;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Room for the largest tensor's rows: all that the pass will ever take. */
static int allocate(struct pass *p)
{
    int64_t most_in_unit = 1, units = 1, scales = 1, nf4 = 0;
    p->block = BLOCK;
    for (int i = 0; i < p->n; i++) {
        const struct t5_quantize_step *s = &p->steps[i];
        int64_t r = s->matrix.rows, c = s->matrix.cols, unit = t5_quantize_unit(s->out, c);
        int64_t bytes = t5_dtype_bytes(s->out, unit * c);
        most_in_unit = larger(most_in_unit, unit * c);
        scales = larger(scales, s->out == T5_NF4 ? t5_nf4_blocks(r * c) : r);
        nf4 = larger(nf4, s->out == T5_NF4 ? r * c : 0);
        p->block = (size_t)larger((int64_t)p->block, bytes);
        int64_t fit = bytes ? (int64_t)BLOCK / bytes + 1 : r;
        units = larger(units, fit < r ? fit : r);
    }
    p->scratch = t5_alloc((size_t)omp_get_max_threads() * 2 * (size_t)most_in_unit, sizeof(float),
                          "rows", p->err);
    p->scales = t5_alloc((size_t)scales, sizeof(float), "scales", p->err);
    p->groups = t5_alloc((size_t)t5_nf4_scales(nf4), sizeof(float), "scales", p->err);
    p->block_codes = t5_alloc((size_t)t5_nf4_blocks(nf4), 1, "scales", p->err);
    p->loras = t5_alloc((size_t)p->options->n_merges + 1, sizeof *p->loras, "merges", p->err);
    if (!p->scratch || !p->scales || !p->groups || !p->block_codes || !p->loras)
        return -1;
    if (!p->report)
        return 0;
    p->loss = t5_alloc((size_t)units, sizeof *p->loss, "the report", p->err);
    p->codes = t5_alloc((size_t)t5_nf4_bytes(nf4), 1, "the report", p->err);
    return p->loss && p->codes ? 0 : -1;
}

/* One type for all that is quantised, or "mixed". */
static const char *quantization_of(const struct pass *p)
{
    const char *name = "none";
    for (int i = 0; i < p->n; i++) {
        enum t5_dtype out = p->steps[i].out;
        const char *one = t5_quantize_name(out);
        if (t5_dtype_quantised(out))
            name = strcmp(name, "none") == 0 || strcmp(name, one) == 0 ? one : "mixed";
    }
    return name;
}

static const char *find_in_model(const void *model, const char *key)
{
    return t5_checkpoint_metadata(model, key);
}

/* What is merged in was trained last. */
static const struct t5_token_settings *trained_on(const struct pass *p,
                                                  const struct t5_token_settings *model)
{
    const struct t5_token_settings *merged =
        p->options->n_merges ? &p->options->merges[0].adapter.tokens : NULL;
    return merged && t5_token_settings_known(merged) ? merged : model;
}

static int write_file(struct pass *p, struct t5_atomic *file, const struct t5_checkpoint *model)
{
    struct t5_safetensors_writer *writer = NULL;
    struct t5_tensor *tensors = NULL;
    char(*names)[128] = NULL;
    struct t5_buf command = {0};
    struct t5_token_settings carried = {0};
    struct t5_err ignored;
    const char *before = t5_checkpoint_metadata(model, "command");
    int n, rc = -1;
    if (t5_buf_printf(&command, p->err, "%s%s%s", before ? before : "", before ? "\n" : "",
                      p->options->command) ||
        t5_token_settings_read_carried(&carried, find_in_model, model, p->err) ||
        describe(&tensors, &names, &n, p) || allocate(p))
        goto out;
    struct t5_metadata metadata[4 + T5_TOKEN_SETTINGS] = {
        {"format", "pt"},
        {"quantization", quantization_of(p)},
        {"command", command.data},
        {"config", t5_checkpoint_config_text(model, NULL)}};
    int n_metadata = 4 + t5_token_settings_rows(metadata + 4, trained_on(p, &carried));
    if (t5_safetensors_write_open(&writer, file, tensors, n, metadata, n_metadata, p->err) ||
        t5_hash_behind_open(&p->out, writer, p->block, p->err))
        goto out;
    rc = write_tensors(p);
    t5_hash_behind_close(p->out);
out:
    if (t5_safetensors_write_close(writer, rc ? &ignored : p->err))
        rc = -1;
    t5_token_settings_free(&carried);
    t5_buf_free(&command);
    free(tensors);
    free(names);
    return rc;
}

int t5_quantize_run(struct t5_atomic *file, struct t5_atomic *report,
                    const struct t5_checkpoint *model, const struct t5_quantize_options *options,
                    struct t5_err *err)
{
    struct pass p = {.options = options, .report = report, .err = err};
    int rc = -1;
    if (t5_quantize_plan(&p.steps, &p.n, model, options, err) == 0)
        rc = write_file(&p, file, model);
    free(p.steps);
    free(p.scratch);
    free(p.scales);
    free(p.groups);
    free(p.block_codes);
    free(p.codes);
    free(p.loss);
    free(p.loras);
    return rc;
}

/* Text behind one JSON value; the text has passed t5_json_check. */
static const char *skip_value(const char *s)
{
    int depth = 0;
    do {
        if (*s == '"') {
            for (s++; *s != '"'; s++)
                s += *s == '\\';
            s++;
        } else if (*s == '{' || *s == '[') {
            depth++, s++;
        } else if (*s == '}' || *s == ']') {
            depth--, s++;
        } else
            s += depth ? 1 : (ptrdiff_t)strcspn(s, ",}] \t\r\n");
    } while (depth > 0);
    return s;
}

int t5_config_with_dtype(struct t5_buf *out, const char *text, size_t n, const char *dtype,
                         struct t5_err *err)
{
    static const char space[] = " \t\r\n", between[] = " \t\r\n,:";
    const char *from = text, *s = text + strspn(text, space) + 1; /* behind the brace */
    for (s += strspn(s, space); *s == '"'; s += strspn(s, between)) {
        const char *key = s;
        s = skip_value(s);
        size_t k = (size_t)(s - key);
        s += strspn(s, between);
        const char *value = s;
        s = skip_value(s);
        if (!(k == 7 && memcmp(key, "\"dtype\"", 7) == 0) &&
            !(k == 13 && memcmp(key, "\"torch_dtype\"", 13) == 0))
            continue;
        if (t5_buf_append(out, from, (size_t)(value - from), err) ||
            t5_json_quote(out, dtype, strlen(dtype), err))
            return -1;
        from = s;
    }
    return t5_buf_append(out, from, n - (size_t)(from - text), err);
}
