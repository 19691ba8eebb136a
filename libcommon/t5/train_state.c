/* train_state.c - checkpoints of a training run as safetensors: `param.NAME`, `m.NAME`, `v.NAME`
 * (F32) in the order of the flat buffers, and metadata. See t5-formats(5). */
/* SPDX-License-Identifier: MIT */
#include "t5/train_state.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/program.h"
#include "io/atomic.h"

#define FORMAT "t5-train checkpoint"
#define LAYOUT "1" /* of these files; a reader refuses what it does not know */

static const char *const kinds[] = {"param", "m", "v"};
static const char *const position_keys[] = {"step", "updates", "bad_in_row", "bad", "evaluated"};
#define N_POSITION (int)(sizeof position_keys / sizeof *position_keys)

void t5_identity_add(struct t5_identity *identity, const char *key, const char *fmt, ...)
{
    struct t5_identity_row *row = &identity->rows[identity->n++];
    va_list ap;
    va_start(ap, fmt);
    snprintf(row->key, sizeof row->key, "%s", key);
    vsnprintf(row->value, sizeof row->value, fmt, ap);
    va_end(ap);
}

int64_t t5_train_state_bytes(int64_t n_params)
{
    return 12 * n_params + (1 << 17);
}

static int slot_path(char path[PATH_MAX], const char *dir, int slot, struct t5_err *err)
{
    if (snprintf(path, PATH_MAX, "%s/checkpoint.%d.safetensors", dir, slot) >= PATH_MAX)
        return t5_fail_as(err, T5_ENVIRONMENT, "the output directory's name is too long");
    return 0;
}

/* ---- metadata ---- */

/* Rows of a checkpoint's metadata: its head, its position, the identity. */
struct rows {
    struct t5_metadata rows[64];
    int n;
    char numbers[8][24];
    char digest[65];
};

static void add_row(struct rows *r, const char *key, const char *value)
{
    r->rows[r->n++] = (struct t5_metadata){key, value};
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct t5_metadata *)a)->key, ((const struct t5_metadata *)b)->key);
}

/* SHA-256 over all keys and values, keys ascending. */
static void digest_rows(char out[65], struct rows *r)
{
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    qsort(r->rows, (size_t)r->n, sizeof *r->rows, by_key);
    sha256_init(&sha);
    for (int i = 0; i < r->n; i++) {
        sha256_update(&sha, strlen(r->rows[i].key) + 1, (const uint8_t *)r->rows[i].key);
        sha256_update(&sha, strlen(r->rows[i].value) + 1, (const uint8_t *)r->rows[i].value);
    }
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static void make_rows(struct rows *r, const struct t5_train_position *at,
                      const struct t5_identity *identity, int finished)
{
    const int64_t numbers[] = {at->step, at->updates, at->bad_in_row, at->bad, at->evaluated};
    r->n = 0;
    add_row(r, "format", FORMAT);
    add_row(r, "layout", LAYOUT);
    add_row(r, "tool", t5_version);
    add_row(r, "finished", finished ? "1" : "0");
    for (int i = 0; i < N_POSITION; i++) {
        snprintf(r->numbers[i], sizeof r->numbers[i], "%lld", (long long)numbers[i]);
        add_row(r, position_keys[i], r->numbers[i]);
    }
    for (int i = 0; i < identity->n; i++)
        add_row(r, identity->rows[i].key, identity->rows[i].value);
    digest_rows(r->digest, r);
    add_row(r, "metadata_sha256", r->digest);
}

/* ---- writing ---- */

static void describe(struct t5_tensor *tensors, char (*names)[136], const struct t5_model *model)
{
    int count = t5_model_param_count(model);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < count; i++) {
            const struct t5_param *p = t5_model_param(model, i);
            int at = k * count + i;
            snprintf(names[at], sizeof names[at], "%s.%s", kinds[k], p->name);
            tensors[at] = (struct t5_tensor){.name = names[at],
                                             .type = T5_F32,
                                             .rank = p->vector ? 1 : 2,
                                             .shape = {p->rows, p->cols},
                                             .elements = p->rows * p->cols};
        }
}

enum { PIECE = 1 << 16 }; /* floats copied at a time */

/* One flat buffer of the device into the file. */
static int write_values(struct t5_safetensors_writer *w, const struct t5_model *model,
                        const float *values, float *piece, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    int64_t n = t5_model_n_params(model);
    for (int64_t at = 0; at < n; at += PIECE) {
        size_t bytes = (size_t)(n - at < PIECE ? n - at : PIECE) * sizeof *piece;
        if (backend->ops.download(backend->dev, piece, values + at, bytes, err) ||
            t5_safetensors_write(w, piece, bytes, err))
            return -1;
    }
    return 0;
}

static int refuse_not_finite(const struct t5_model *model, int64_t step, struct t5_err *err)
{
    err->text[0] = 0;
    const char *name = t5_first_not_finite(model, t5_model_params(model), err);
    if (name)
        return t5_fail_as(err, T5_NOT_FINITE, "step %lld: parameter '%s' is not finite",
                          (long long)step, name);
    return err->text[0] ? -1 : 0;
}

static int write_file(struct t5_atomic *file, struct t5_model *model, struct t5_trainer *trainer,
                      const struct t5_identity *identity, int finished, struct t5_err *err)
{
    const struct t5_optimizer *o = t5_trainer_optimizer(trainer);
    const float *values[] = {t5_model_params(model), o->m, o->v};
    struct t5_train_position at = t5_trainer_position(trainer);
    struct t5_safetensors_writer *w = NULL;
    struct t5_err ignored;
    struct rows rows;
    size_t n = 3 * (size_t)t5_model_param_count(model);
    struct t5_tensor *tensors = t5_alloc(n, sizeof *tensors, "a checkpoint", err);
    char(*names)[136] = t5_alloc(n, sizeof *names, "a checkpoint", err);
    float *piece = t5_alloc(PIECE, sizeof *piece, "a checkpoint", err);
    int rc = -1;
    if (!tensors || !names || !piece)
        goto out;
    describe(tensors, names, model);
    make_rows(&rows, &at, identity, finished);
    rc = t5_safetensors_write_open(&w, file, tensors, (int)n, rows.rows, rows.n, err);
    for (int k = 0; rc == 0 && k < 3; k++)
        rc = write_values(w, model, values[k], piece, err);
    if (w && t5_safetensors_write_close(w, rc ? &ignored : err))
        rc = -1;
out:
    free(tensors);
    free(names);
    free(piece);
    return rc;
}

int t5_train_state_save(const char *dir, int slot, struct t5_model *model,
                        struct t5_trainer *trainer, const struct t5_identity *identity,
                        int finished, struct t5_err *err)
{
    char path[PATH_MAX];
    struct t5_atomic *file;
    if (slot_path(path, dir, slot, err) ||
        refuse_not_finite(model, t5_trainer_position(trainer).step, err) ||
        t5_atomic_open(&file, path, err))
        return -1;
    if (write_file(file, model, trainer, identity, finished, err)) {
        t5_atomic_abandon(file);
        return -1;
    }
    return t5_atomic_commit(file, err);
}

int t5_train_state_remove(const char *dir, int slot, struct t5_err *err)
{
    char path[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        if (slot >= 0 && slot != i)
            continue;
        if (slot_path(path, dir, i, err))
            return -1;
        if (unlink(path) != 0 && errno != ENOENT)
            return t5_fail_errno(err, "%s", path);
    }
    return 0;
}

/* ---- reading ---- */

static int read_number(int64_t *out, const struct t5_safetensors *file, const char *key)
{
    const char *text = t5_safetensors_metadata(file, key, NULL);
    char *end;
    if (!text || !text[0] || strspn(text, "0123456789") != strlen(text) || strlen(text) > 18)
        return -1;
    *out = strtoll(text, &end, 10);
    return 0;
}

static int check_digest(const struct t5_safetensors *file, struct t5_err *err)
{
    struct rows r = {.n = 0};
    const char *digest = t5_safetensors_metadata(file, "metadata_sha256", NULL), *key, *value;
    for (int i = 0; t5_safetensors_metadata_at(file, i, &key, &value); i++) {
        if (strcmp(key, "sha256") == 0 || strcmp(key, "metadata_sha256") == 0)
            continue;
        if (r.n == (int)(sizeof r.rows / sizeof *r.rows))
            return t5_fail(err, "too much metadata");
        add_row(&r, key, value);
    }
    digest_rows(r.digest, &r);
    if (!digest || strcmp(digest, r.digest) != 0)
        return t5_fail(err, "the metadata's checksum is wrong");
    return 0;
}

static int read_head(struct t5_train_state *s, struct t5_err *err)
{
    const char *format = t5_safetensors_metadata(s->file, "format", NULL);
    const char *layout = t5_safetensors_metadata(s->file, "layout", NULL);
    const char *finished = t5_safetensors_metadata(s->file, "finished", NULL);
    struct t5_train_position *at = &s->position;
    int64_t *numbers[] = {&at->step, &at->updates, &at->bad_in_row, &at->bad, &at->evaluated};
    if (!format || strcmp(format, FORMAT) != 0)
        return t5_fail(err, "not a checkpoint of t5-train");
    if (!layout || strcmp(layout, LAYOUT) != 0)
        return t5_fail(err, "layout %.20s, this program reads " LAYOUT,
                       layout ? layout : "missing");
    if (!t5_safetensors_metadata(s->file, "sha256", NULL) || check_digest(s->file, err))
        return err->text[0] ? -1 : t5_fail(err, "no checksum");
    for (int i = 0; i < N_POSITION; i++)
        if (read_number(numbers[i], s->file, position_keys[i]))
            return t5_fail(err, "no \"%s\"", position_keys[i]);
    s->finished = finished && finished[0] == '1';
    return 0;
}

/* 1: there is a file and it is whole; 0: there is none; -1: it is damaged. */
static int open_slot(struct t5_train_state *s, const char *dir, int slot, struct t5_err *err)
{
    char path[PATH_MAX];
    *s = (struct t5_train_state){.slot = slot};
    *err = (struct t5_err){0};
    if (slot_path(path, dir, slot, err))
        return -1;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    if (t5_safetensors_open(&s->file, path, err))
        return -1;
    if (t5_safetensors_verify(s->file, err) == 0) {
        if (read_head(s, err) == 0)
            return 1;
        t5_err_at(err, "checkpoint.%d.safetensors", slot);
    }
    t5_train_state_free(s);
    return -1;
}

int t5_train_state_find(struct t5_train_state *out, const char *dir, struct t5_err *err)
{
    struct t5_train_state s[2];
    struct t5_err why[2];
    int rc[2];
    *out = (struct t5_train_state){.slot = -1};
    for (int i = 0; i < 2; i++)
        rc[i] = open_slot(&s[i], dir, i, &why[i]);
    int best = rc[1] > 0 && (rc[0] <= 0 || s[1].position.step > s[0].position.step);
    if (rc[0] <= 0 && rc[1] <= 0) { /* none, or damaged ones */
        int bad = rc[0] < 0 ? 0 : 1;
        if (rc[bad] == 0)
            return 0;
        *err = why[bad];
        return t5_err_at(err, "no whole checkpoint in %s", dir);
    }
    *out = s[best];
    if (rc[!best] < 0)
        snprintf(out->warning, sizeof out->warning, "%.390s", why[!best].text);
    if (rc[!best] > 0)
        t5_train_state_free(&s[!best]);
    return 0;
}

void t5_train_state_free(struct t5_train_state *s)
{
    t5_safetensors_close(s->file);
    s->file = NULL;
}

const char *t5_train_state_value(const struct t5_train_state *s, const char *key)
{
    return t5_safetensors_metadata(s->file, key, NULL);
}

int t5_train_state_check(const struct t5_train_state *s, const char *dir,
                         const struct t5_identity *identity, struct t5_err *err)
{
    for (int i = 0; i < identity->n; i++) {
        const struct t5_identity_row *row = &identity->rows[i];
        const char *had = t5_train_state_value(s, row->key);
        if (!had || strcmp(had, row->value) != 0)
            return t5_fail(
                err, "%s/checkpoint.%d.safetensors: made with another %s: %.64s there, %.64s here",
                dir, s->slot, row->key, had ? had : "none", row->value);
    }
    return 0;
}

/* One kind of values: the tensors lie in the flat buffer's order, each at its own place. */
static int load_kind(const struct t5_train_state *s, struct t5_model *model, const char *kind,
                     float *values, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    char name[136];
    for (int i = 0; i < t5_model_param_count(model); i++) {
        const struct t5_param *p = t5_model_param(model, i);
        snprintf(name, sizeof name, "%s.%s", kind, p->name);
        const struct t5_tensor *t = t5_safetensors_find(s->file, name);
        if (!t || t->type != T5_F32 || t->elements != p->rows * p->cols)
            return t5_fail(err, "checkpoint.%d.safetensors: no tensor '%s' of %lld x %lld", s->slot,
                           name, (long long)p->rows, (long long)p->cols);
        backend->ops.upload(backend->dev, values + p->offset, t->data, t->bytes);
    }
    return backend->ops.sync(backend->dev, err);
}

int t5_train_state_load(const struct t5_train_state *s, struct t5_model *model,
                        struct t5_trainer *trainer, struct t5_err *err)
{
    struct t5_optimizer *o = t5_trainer_optimizer(trainer);
    float *values[] = {t5_model_params(model), o->m, o->v};
    for (int k = 0; k < 3; k++)
        if (load_kind(s, model, kinds[k], values[k], err))
            return -1;
    t5_trainer_set_position(trainer, &s->position);
    t5_model_refresh(model);
    return 0;
}
