/* train_state.c - checkpoints of a training run as safetensors: `param.NAME` and the optimiser's
 * tensors, in the order of the flat buffers, and metadata. See t5-formats(5). Reading:
 * train_state_read.c. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/program.h"
#include "base/sha256.h"
#include "io/atomic.h"
#include "t5/train_state_inside.h"

#define POSITION(name)                                                                             \
    {                                                                                              \
#name, offsetof(struct t5_train_position, name)                                            \
    }
const struct t5_position_row t5_position_rows[T5_POSITION_ROWS] = {
    POSITION(step),      POSITION(updates),   POSITION(bad_in_row), POSITION(bad),
    POSITION(evaluated), POSITION(best_step), POSITION(since_best), POSITION(pass_tokens),
};

void t5_identity_add(struct t5_identity *identity, const char *key, const char *fmt, ...)
{
    struct t5_identity_row *row = &identity->rows[identity->n++];
    va_list ap;
    va_start(ap, fmt);
    snprintf(row->key, sizeof row->key, "%s", key);
    row->number = strcmp(fmt, "%s") != 0;
    vsnprintf(row->value, sizeof row->value, fmt, ap);
    va_end(ap);
}

int64_t t5_train_state_bytes(int64_t n_params, int64_t optimizer_bytes)
{
    return 4 * n_params + optimizer_bytes + (1 << 17);
}

int t5_slot_path(char path[PATH_MAX], const char *dir, int slot, struct t5_err *err)
{
    if (snprintf(path, PATH_MAX, "%s/checkpoint.%d.safetensors", dir, slot) >= PATH_MAX)
        return t5_fail_as(err, T5_ENVIRONMENT, "the output directory's name is too long");
    return 0;
}

/* ---- metadata ---- */

void t5_state_rows_add(struct t5_state_rows *r, const char *key, const char *value)
{
    r->rows[r->n++] = (struct t5_metadata){key, value};
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct t5_metadata *)a)->key, ((const struct t5_metadata *)b)->key);
}

void t5_state_rows_digest(struct t5_state_rows *r)
{
    struct sha256_ctx sha;
    qsort(r->rows, (size_t)r->n, sizeof *r->rows, by_key);
    sha256_init(&sha);
    for (int i = 0; i < r->n; i++) {
        sha256_update(&sha, strlen(r->rows[i].key) + 1, (const uint8_t *)r->rows[i].key);
        sha256_update(&sha, strlen(r->rows[i].value) + 1, (const uint8_t *)r->rows[i].value);
    }
    t5_sha256_end(r->digest, &sha);
}

static void make_rows(struct t5_state_rows *r, const struct t5_train_position *at,
                      const char *losses, const struct t5_identity *identity, int finished)
{
    char *best = r->numbers[T5_POSITION_ROWS];
    r->n = 0;
    t5_state_rows_add(r, "format", T5_STATE_FORMAT);
    t5_state_rows_add(r, "layout", T5_STATE_LAYOUT);
    t5_state_rows_add(r, "tool", t5_version);
    t5_state_rows_add(r, "finished", finished ? "1" : "0");
    for (int i = 0; i < T5_POSITION_ROWS; i++) {
        const struct t5_position_row *row = &t5_position_rows[i];
        snprintf(r->numbers[i], sizeof r->numbers[i], "%lld",
                 (long long)*(const int64_t *)((const char *)at + row->offset));
        t5_state_rows_add(r, row->key, r->numbers[i]);
    }
    snprintf(best, sizeof r->numbers[0], "%.17g", at->best);
    t5_state_rows_add(r, "best", best);
    if (losses[0])
        t5_state_rows_add(r, "losses", losses);
    for (int i = 0; i < identity->n; i++)
        t5_state_rows_add(r, identity->rows[i].key, identity->rows[i].value);
    t5_state_rows_digest(r);
    t5_state_rows_add(r, "metadata_sha256", r->digest);
}

/* ---- writing ---- */

static void describe(struct t5_tensor *tensors, char (*names)[136], const struct t5_model *model,
                     const struct t5_optimizer *o)
{
    int count = t5_model_param_count(model);
    for (int i = 0; i < count; i++) {
        const struct t5_param *p = t5_model_param(model, i);
        snprintf(names[i], sizeof names[i], "param.%s", p->name);
        tensors[i] = (struct t5_tensor){.name = names[i],
                                        .type = T5_F32,
                                        .rank = p->vector ? 1 : 2,
                                        .shape = {p->rows, p->cols},
                                        .elements = p->rows * p->cols};
    }
    for (int i = 0; i < o->n_tensors; i++) {
        const struct t5_optimizer_tensor *t = &o->tensors[i];
        tensors[count + i] = (struct t5_tensor){.name = t->name,
                                                .type = t->type,
                                                .rank = t->rank,
                                                .shape = {t->shape[0], t->shape[1]},
                                                .elements = t->elements};
    }
}

enum { PIECE = 1 << 18 }; /* bytes copied at a time */

/* A run of the device's memory into the file. */
static int write_values(struct t5_safetensors_writer *w, const struct t5_backend_handle *backend,
                        const char *values, size_t n, char *piece, struct t5_err *err)
{
    for (size_t at = 0; at < n; at += PIECE) {
        size_t bytes = n - at < PIECE ? n - at : PIECE;
        if (backend->ops.download(backend->dev, piece, values + at, bytes, err) ||
            t5_safetensors_write(w, piece, bytes, err))
            return -1;
    }
    return 0;
}

static int write_all(struct t5_safetensors_writer *w, const struct t5_model *model,
                     const struct t5_optimizer *o, char *piece, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    if (write_values(w, backend, (const char *)t5_model_params(model),
                     (size_t)t5_model_n_params(model) * sizeof(float), piece, err))
        return -1;
    for (int i = 0; i < o->n_tensors; i++) {
        const struct t5_optimizer_tensor *t = &o->tensors[i];
        if (write_values(w, backend, o->state + t->offset, t5_optimizer_tensor_bytes(t), piece,
                         err))
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
    struct t5_train_position at = t5_trainer_position(trainer);
    struct t5_safetensors_writer *w = NULL;
    struct t5_err ignored;
    struct t5_state_rows rows;
    struct t5_buf losses = {0};
    size_t n_params = (size_t)t5_model_param_count(model), n = n_params + (size_t)o->n_tensors;
    struct t5_tensor *tensors = t5_alloc(n, sizeof *tensors, "a checkpoint", err);
    char(*names)[136] = t5_alloc(n_params, sizeof *names, "a checkpoint", err);
    char *piece = t5_alloc(PIECE, 1, "a checkpoint", err);
    int rc = -1;
    if (!tensors || !names || !piece || t5_spike_print(&losses, t5_trainer_spike(trainer), err))
        goto out;
    describe(tensors, names, model, o);
    make_rows(&rows, &at, losses.data, identity, finished);
    rc = t5_safetensors_write_open(&w, file, tensors, (int)n, rows.rows, rows.n, err) ||
                 write_all(w, model, o, piece, err)
             ? -1
             : 0;
    if (w && t5_safetensors_write_close(w, rc ? &ignored : err))
        rc = -1;
out:
    t5_buf_free(&losses);
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
    if (t5_slot_path(path, dir, slot, err) ||
        refuse_not_finite(model, t5_trainer_position(trainer).step, err) ||
        t5_atomic_open(&file, path, err))
        return -1;
    if (write_file(file, model, trainer, identity, finished, err)) {
        t5_atomic_abandon(file);
        return -1;
    }
    return t5_atomic_commit(file, err);
}

/* ---- the files of a directory ---- */

int t5_train_slots_next(const struct t5_train_slots *slots, int n)
{
    int next = 0;
    for (int i = 1; i < n; i++)
        if (slots->step[next] >= 0 && slots->step[i] < slots->step[next])
            next = i;
    return next;
}

static int remove_slot(struct t5_train_slots *slots, const char *dir, int slot, struct t5_err *err)
{
    char path[PATH_MAX];
    if (t5_slot_path(path, dir, slot, err))
        return -1;
    if (unlink(path) != 0 && errno != ENOENT)
        return t5_fail_errno(err, "%s", path);
    slots->step[slot] = T5_SLOT_EMPTY;
    return 0;
}

int t5_train_slots_trim(struct t5_train_slots *slots, const char *dir, int keep, struct t5_err *err)
{
    for (int i = 0; i < T5_SLOTS; i++) {
        int newer = 0;
        for (int k = 0; k < T5_SLOTS; k++)
            newer += slots->step[k] > slots->step[i] ||
                     (slots->step[k] == slots->step[i] && k == slots->newest && i != k);
        if (slots->step[i] != T5_SLOT_EMPTY && (newer >= keep || slots->step[i] < 0) &&
            remove_slot(slots, dir, i, err))
            return -1;
    }
    return 0;
}
