/* checkpoint.c - a model's tensors checked against its config. Reads headers, never weights (but
 * for quantisation scales, which are small): the data stay untouched until
 * somebody asks for them. */
/* SPDX-License-Identifier: MIT */
#include "io/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/nf4.h"
#include "base/sha256.h"
#include "io/checkpoint_files.h"

static const char *escaped(char out[T5_ESCAPED], const char *name)
{
    return t5_escape(out, name, strlen(name));
}

static const struct t5_tensor *find_raw(const struct t5_checkpoint *m, const char *name)
{
    const struct t5_tensor *t = NULL;
    for (int i = 0; i < m->n_files && !t; i++)
        t = t5_safetensors_find(m->files[i], name);
    return t;
}

static int read_file(struct t5_checkpoint *m, const char *path, struct t5_err *err)
{
    m->files = t5_alloc_zeroed(1, sizeof(*m->files), "the model", err);
    if (!m->files || t5_safetensors_open(&m->files[0], path, err))
        return -1;
    m->n_files = 1;
    const char *config = t5_safetensors_metadata(m->files[0], "config", &m->config_n);
    if (!config)
        return t5_fail(
            err,
            "%s: its metadata hold no \"config\": not a model of ours (name the directory "
            "of an HF model)",
            m->shown);
    m->config_text = t5_alloc(m->config_n + 1, 1, "config", err);
    if (!m->config_text)
        return -1;
    memcpy(m->config_text, config, m->config_n + 1);
    return 0;
}

static void shape_text(char out[64], int rank, const int64_t *shape)
{
    int n = snprintf(out, 64, "(");
    for (int d = 0; d < rank && n < 44; d++)
        n += snprintf(out + n, (size_t)(64 - n), "%s%lld", d ? ", " : "", (long long)shape[d]);
    snprintf(out + n, (size_t)(64 - n), ")");
}

static int check_shape(const struct t5_tensor *t, int rank, const int64_t *want, struct t5_err *err)
{
    char name[T5_ESCAPED], expected[64], found[64];
    int same = t->rank == rank;
    for (int d = 0; same && d < rank; d++)
        same = t->shape[d] == want[d];
    if (same)
        return 0;
    shape_text(expected, rank, want);
    shape_text(found, t->rank, t->shape);
    return t5_fail(err, "%s: tensor '%s': shape %s expected from its config, found %s", t->file,
                   escaped(name, t->name), expected, found);
}

static int is_float(enum t5_dtype type)
{
    return type == T5_F32 || type == T5_F16 || type == T5_BF16 || type == T5_F64;
}

static void push(struct t5_checkpoint *m, const struct t5_tensor *t, const char *name)
{
    m->tensors[m->n] = *t;
    m->tensors[m->n++].name = name;
}

static int check_scales(const struct t5_tensor *s, struct t5_err *err)
{
    char name[T5_ESCAPED];
    for (int64_t i = 0; i < s->elements; i++) {
        float v;
        memcpy(&v, (const char *)s->data + 4 * i, 4);
        if (!isfinite(v) || v < 0)
            return t5_fail(err, "%s: tensor '%s': element %lld is %g", s->file,
                           escaped(name, s->name), (long long)i, (double)v);
    }
    return 0;
}

/* NAME_block or NAME_scale of a quantised weight, (n). */
static int add_scales(struct t5_checkpoint *m, const struct t5_tensor *t, const char *what,
                      enum t5_dtype type, int64_t n, struct t5_err *err)
{
    char full[128], name[T5_ESCAPED];
    snprintf(full, sizeof full, "%s_%s", t->name, what);
    const struct t5_tensor *s = find_raw(m, full);
    escaped(name, t->name);
    if (!s)
        return t5_fail(err, "%s: tensor '%s': %s without its %s '%s_%s'", t->file, name,
                       t5_dtype_name(t->type), what, name, what);
    if (s->type != type)
        return t5_fail(err, "%s: tensor '%s_%s': %s expected, found %s", s->file, name, what,
                       t5_dtype_name(type), t5_dtype_name(s->type));
    if (check_shape(s, 1, &n, err) || (type == T5_F32 && check_scales(s, err)))
        return -1;
    push(m, s, s->name);
    return 0;
}

/* A quantised weight and its scales. */
static int add_quantised(struct t5_checkpoint *m, const struct t5_tensor *t,
                         const struct t5_layout_entry *e, struct t5_err *err)
{
    char name[T5_ESCAPED];
    size_t n = strlen(t->name);
    int nf4 = t->type == T5_U8;
    int64_t elements = e->shape[0] * (e->rank == 2 ? e->shape[1] : 1);
    escaped(name, t->name);
    if (strcmp(m->quantization, "none") == 0)
        return t5_fail(err, "%s: tensor '%s': %s, but the metadata name no quantization of ours",
                       t->file, name, t5_dtype_name(t->type));
    if (e->rank != 2 || (n > 30 && strcmp(t->name + n - 30, "relative_attention_bias.weight") == 0))
        return t5_fail(err, "%s: tensor '%s': %s is for matrices only", t->file, name,
                       t5_dtype_name(t->type));
    push(m, t, t->name);
    if (!nf4)
        return add_scales(m, t, "scale", T5_F32, e->shape[0], err);
    struct t5_tensor *logical = &m->tensors[m->n - 1];
    *logical = (struct t5_tensor){.name = t->name,
                                  .type = T5_NF4,
                                  .rank = 2,
                                  .shape = {e->shape[0], e->shape[1]},
                                  .elements = elements,
                                  .data = t->data,
                                  .bytes = t->bytes,
                                  .file = t->file};
    return add_scales(m, logical, "block", T5_U8, t5_nf4_blocks(elements), err) ||
                   add_scales(m, logical, "scale", T5_F32, t5_nf4_scales(elements), err)
               ? -1
               : 0;
}

/* A weight's own shape; NF4's is flat. */
static int check_weight_shape(const struct t5_tensor *t, const struct t5_layout_entry *e,
                              struct t5_err *err)
{
    int64_t bytes = t5_nf4_bytes(e->shape[0] * (e->rank == 2 ? e->shape[1] : 1));
    return t->type == T5_U8 ? check_shape(t, 1, &bytes, err)
                            : check_shape(t, e->rank, e->shape, err);
}

static int add_tensor(struct t5_checkpoint *m, const struct t5_layout_entry *e, struct t5_err *err)
{
    const struct t5_tensor *t = find_raw(m, e->name);
    const char *name = t ? t->name : "shared.weight";
    if (!t && strcmp(e->name, name) == 0) {
        /* files written with only one of the tied names */
        t = find_raw(m, "encoder.embed_tokens.weight");
        t = t ? t : find_raw(m, "decoder.embed_tokens.weight");
    }
    if (!t)
        return t5_fail(err, "%s: tensor '%s' is missing", m->shown, e->name);
    if (check_weight_shape(t, e, err))
        return -1;
    if ((t5_dtype_quantised(t->type) || t->type == T5_U8) && t->name == name)
        return add_quantised(m, t, e, err);
    if (!is_float(t->type))
        return t5_fail(err, "%s: tensor '%s': type %s is not one of weights", t->file, e->name,
                       t5_dtype_name(t->type));
    push(m, t, name);
    return 0;
}

static int order_names(const void *a, const void *b, void *tensors)
{
    const struct t5_tensor *t = tensors;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

const struct t5_tensor *t5_checkpoint_find(const struct t5_checkpoint *m, const char *name)
{
    int low = 0, high = m->n;
    while (low < high) {
        int middle = low + (high - low) / 2,
            order = strcmp(name, m->tensors[m->by_name[middle]].name);
        if (order == 0)
            return &m->tensors[m->by_name[middle]];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Tensors that files hold without the model needing them. The named ones are old habits of the
 * format: copies of shared.weight, and a table that no released code ever read. */
static int check_extra(struct t5_checkpoint *m, struct t5_err *err)
{
    static const char *const known[] = {
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
    };
    const int64_t shared[2] = {m->config.vocab, m->config.d_model};
    char name[T5_ESCAPED];
    int extra = 0;
    const char *first = NULL;
    for (int i = 0; i < m->n_files; i++)
        for (int j = 0; j < t5_safetensors_count(m->files[i]); j++) {
            const struct t5_tensor *t = t5_safetensors_at(m->files[i], j);
            size_t k = 0;
            if (t5_checkpoint_find(m, t->name))
                continue;
            while (k < 3 && strcmp(t->name, known[k]) != 0)
                k++;
            if (k < 2 && check_shape(t, 2, shared, err))
                return -1;
            if (k == 3 && !extra++)
                first = t->name;
        }
    if (extra)
        snprintf(m->warning, sizeof m->warning, "%.160s: %d tensor%s not used ('%.48s'%s)",
                 m->shown, extra, extra > 1 ? "s" : "", escaped(name, first),
                 extra > 1 ? " and others" : "");
    return 0;
}

static int arrange(struct t5_checkpoint *m, struct t5_err *err)
{
    struct t5_layout_entry *layout;
    static const char head[] = "lm_head.weight";
    int n, rc = -1;
    if (t5_layout(&layout, &n, &m->config, err))
        return -1;
    m->tensors = t5_alloc(3 * ((size_t)n + 1), sizeof *m->tensors, "the list of tensors", err);
    m->by_name = t5_alloc(3 * ((size_t)n + 1), sizeof *m->by_name, "the list of tensors", err);
    if (!m->tensors || !m->by_name)
        goto out;
    for (int i = 0; i < n; i++)
        if (add_tensor(m, &layout[i], err))
            goto out;
    if (m->config.tied && find_raw(m, head)) { /* then it is the head all the same */
        struct t5_layout_entry e = layout[0];
        memcpy(e.name, head, sizeof head);
        if (add_tensor(m, &e, err))
            goto out;
    }
    for (int i = 0; i < m->n; i++)
        m->by_name[i] = i;
    qsort_r(m->by_name, (size_t)m->n, sizeof *m->by_name, order_names, m->tensors);
    rc = check_extra(m, err);
out:
    free(layout);
    return rc;
}

static int read_quantization(struct t5_checkpoint *m, struct t5_err *err)
{
    const char *value = t5_safetensors_metadata(m->files[0], "quantization", NULL);
    char shown[T5_ESCAPED];
    static const char *const known[] = {"none", "int8", "fp8", "nf4", "mixed"};
    size_t k = 0;
    value = value ? value : "none";
    while (k < 5 && strcmp(value, known[k]) != 0)
        k++;
    if (k == 5)
        return t5_fail(err,
                       "%s: quantization '%s' not known (none, int8, fp8, nf4, mixed expected)",
                       m->shown, escaped(shown, value));
    snprintf(m->quantization, sizeof m->quantization, "%s", value);
    return 0;
}

int t5_checkpoint_open(struct t5_checkpoint **out, const char *path, struct t5_err *err)
{
    struct t5_checkpoint *m = t5_alloc_zeroed(1, sizeof *m, "a model", err);
    struct stat st;
    int is_stdin = !path || strcmp(path, "-") == 0, rc = -1;
    *out = NULL;
    if (!m)
        return -1;
    t5_escape(m->shown, is_stdin ? "<stdin>" : path, is_stdin ? 7 : strlen(path));
    if (!is_stdin && stat(path, &st) != 0) {
        t5_fail_errno(err, "%s", m->shown);
        goto out;
    }
    int is_dir = !is_stdin && S_ISDIR(st.st_mode);
    if (is_dir ? t5_checkpoint_read_dir(m, path, err) : read_file(m, path, err))
        goto out;
    if (t5_config_parse(&m->config, m->config_text, (int64_t)m->config_n, err)) {
        t5_err_at(err, is_dir ? "%s/config.json" : "%s: config", m->shown);
        goto out;
    }
    rc = read_quantization(m, err) || arrange(m, err) ? -1 : 0;
out:
    if (rc)
        t5_checkpoint_close(m);
    else
        *out = m;
    return rc;
}

void t5_checkpoint_close(struct t5_checkpoint *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->n_files; i++)
        t5_safetensors_close(m->files[i]);
    free(m->files);
    free(m->config_text);
    free(m->tensors);
    free(m->by_name);
    free(m);
}

const struct t5_config *t5_checkpoint_config(const struct t5_checkpoint *m)
{
    return &m->config;
}

const char *t5_checkpoint_config_text(const struct t5_checkpoint *m, int64_t *n)
{
    if (n)
        *n = (int64_t)m->config_n;
    return m->config_text;
}

int t5_checkpoint_count(const struct t5_checkpoint *m)
{
    return m->n;
}
const struct t5_tensor *t5_checkpoint_at(const struct t5_checkpoint *m, int i)
{
    return &m->tensors[i];
}
struct t5_matrix t5_checkpoint_matrix(const struct t5_checkpoint *m, int i)
{
    const struct t5_tensor *t = &m->tensors[i];
    int64_t rows = t->rank == 2 ? t->shape[0] : 1;
    struct t5_matrix out = {.data = t->data,
                            .type = t->type,
                            .rows = rows,
                            .cols = t->rank == 2 ? t->shape[1] : t->elements};
    if (t->type == T5_NF4) {
        out.block = t[1].data;
        out.scale = t[2].data;
    } else if (t5_dtype_quantised(t->type))
        out.scale = t[1].data;
    return out;
}

int t5_checkpoint_find_matrix(struct t5_matrix *out, const struct t5_checkpoint *m,
                              const char *name, int64_t rows, int64_t cols, struct t5_err *err)
{
    const struct t5_tensor *t = t5_checkpoint_find(m, name);
    if (!t)
        return t5_fail(err, "the model has no tensor '%s'", name);
    if (t->elements != rows * cols)
        return t5_fail(err, "tensor '%s': expected %lld x %lld elements, found %lld", name,
                       (long long)rows, (long long)cols, (long long)t->elements);
    *out = t5_checkpoint_matrix(m, (int)(t - m->tensors));
    out->rows = rows; /* norms and bias tables are asked for as one row */
    out->cols = cols;
    return 0;
}

const char *t5_checkpoint_quantization(const struct t5_checkpoint *m)
{
    return m->quantization;
}
const char *t5_checkpoint_warning(const struct t5_checkpoint *m)
{
    return m->warning[0] ? m->warning : NULL;
}

const char *t5_checkpoint_metadata(const struct t5_checkpoint *m, const char *key)
{
    return t5_safetensors_metadata(m->files[0], key, NULL);
}

int t5_checkpoint_verify_until(const struct t5_checkpoint *m, const volatile int *stop,
                               struct t5_err *err)
{
    for (int i = 0; i < m->n_files; i++)
        if (t5_safetensors_verify_until(m->files[i], stop, err))
            return -1;
    return 0;
}

int t5_checkpoint_verify(const struct t5_checkpoint *m, struct t5_err *err)
{
    volatile int stop = 0;
    return t5_checkpoint_verify_until(m, &stop, err);
}

int t5_checkpoint_reads(const struct t5_checkpoint *m, const char *path)
{
    for (int i = 0; i < m->n_files; i++)
        if (t5_safetensors_is(m->files[i], path))
            return 1;
    return 0;
}

static int is_norm(const struct t5_tensor *t)
{
    static const char ending[] = "layer_norm.weight";
    size_t n = strlen(t->name), k = sizeof ending - 1;
    return t->rank == 1 && n >= k && strcmp(t->name + n - k, ending) == 0;
}

int t5_checkpoint_norms(char out[65], const struct t5_checkpoint *m, struct t5_err *err)
{
    size_t most = (size_t)m->config.d_model;
    float *values = t5_alloc(most, sizeof *values, "a norm", err);
    uint16_t *rounded = t5_alloc(most, sizeof *rounded, "a norm", err);
    struct sha256_ctx sha;
    int rc = values && rounded ? 0 : -1;
    sha256_init(&sha);
    for (int i = 0; rc == 0 && i < m->n; i++) {
        const struct t5_tensor *t = &m->tensors[i];
        if (!is_norm(t) || (size_t)t->elements > most)
            continue;
        t5_to_f32(values, t->data, t->type, (size_t)t->elements);
        t5_from_f32(rounded, values, T5_BF16, (size_t)t->elements);
        sha256_update(&sha, strlen(t->name), (const uint8_t *)t->name);
        sha256_update(&sha, (size_t)t->elements * sizeof *rounded, (const uint8_t *)rounded);
    }
    t5_sha256_end(out, &sha);
    free(values);
    free(rounded);
    return rc;
}

/* The parsed config, not its text: white space and keys we ignore are no other model. Floats of one
 * dimension (norms, scales) go in with their data: few bytes, and no two trainings have the same.
 */
int t5_checkpoint_fingerprint(char out[65], const struct t5_checkpoint *m, struct t5_err *err)
{
    const struct t5_config *c = &m->config;
    struct t5_buf line = {0};
    struct sha256_ctx sha;
    char shape[64];
    int rc = t5_buf_printf(
        &line, err, "%lld %lld %lld %lld %lld %lld %lld %lld %lld %.9g %d %d %d %d %d\n",
        (long long)c->d_model, (long long)c->d_kv, (long long)c->d_ff, (long long)c->n_heads,
        (long long)c->n_encoder, (long long)c->n_decoder, (long long)c->vocab,
        (long long)c->buckets, (long long)c->max_distance, (double)c->eps, (int)c->activation,
        c->gated, c->tied, c->scale_output, c->decoder_start);
    sha256_init(&sha);
    for (int i = 0; rc == 0 && i < m->n; i++) {
        const struct t5_tensor *t = &m->tensors[i];
        shape_text(shape, t->rank, t->shape);
        rc = t5_buf_printf(&line, err, "%s %s %s\n", t->name, t5_dtype_name(t->type), shape);
        sha256_update(&sha, line.n, (const uint8_t *)line.data);
        line.n = 0;
        if (t->rank == 1 && t->type != T5_U8)
            sha256_update(&sha, t->bytes, t->data);
    }
    t5_sha256_end(out, &sha);
    t5_buf_free(&line);
    return rc;
}
