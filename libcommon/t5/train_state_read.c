/* train_state_read.c - finding the checkpoint that a run goes on from, and loading it. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "t5/train_state_inside.h"

static int read_number(int64_t *out, const struct t5_safetensors *file, const char *key)
{
    const char *text = t5_safetensors_metadata(file, key, NULL);
    char *end;
    if (!text || !text[0] || strspn(text, "0123456789") != strlen(text) || strlen(text) > 18)
        return -1;
    *out = strtoll(text, &end, 10);
    return 0;
}

/* The checksum was right: this is the number that was written. */
static int read_best(double *out, const struct t5_safetensors *file)
{
    const char *text = t5_safetensors_metadata(file, "best", NULL);
    char *end;
    if (!text || !text[0])
        return -1;
    *out = strtod(text, &end);
    return *end ? -1 : 0;
}

static int check_digest(const struct t5_safetensors *file, struct t5_err *err)
{
    struct t5_state_rows r = {.n = 0};
    const char *digest = t5_safetensors_metadata(file, "metadata_sha256", NULL), *key, *value;
    for (int i = 0; t5_safetensors_metadata_at(file, i, &key, &value); i++) {
        if (strcmp(key, "sha256") == 0 || strcmp(key, "metadata_sha256") == 0)
            continue;
        if (r.n == (int)(sizeof r.rows / sizeof *r.rows))
            return t5_fail(err, "too much metadata");
        t5_state_rows_add(&r, key, value);
    }
    t5_state_rows_digest(&r);
    if (!digest || strcmp(digest, r.digest) != 0)
        return t5_fail(err, "the metadata's checksum is wrong");
    return 0;
}

static int read_head(struct t5_train_state *s, struct t5_err *err)
{
    const char *format = t5_safetensors_metadata(s->file, "format", NULL);
    const char *layout = t5_safetensors_metadata(s->file, "layout", NULL);
    const char *finished = t5_safetensors_metadata(s->file, "finished", NULL);
    if (!format || strcmp(format, T5_STATE_FORMAT) != 0)
        return t5_fail(err, "not a checkpoint of t5-train");
    if (!layout || strcmp(layout, T5_STATE_LAYOUT) != 0)
        return t5_fail(err, "layout %.20s, this program reads " T5_STATE_LAYOUT,
                       layout ? layout : "missing");
    if (!t5_safetensors_metadata(s->file, "sha256", NULL) || check_digest(s->file, err))
        return err->text[0] ? -1 : t5_fail(err, "no checksum");
    for (int i = 0; i < T5_POSITION_ROWS; i++) {
        const struct t5_position_row *row = &t5_position_rows[i];
        if (read_number((int64_t *)((char *)&s->position + row->offset), s->file, row->key))
            return t5_fail(err, "no \"%s\"", row->key);
    }
    if (read_best(&s->position.best, s->file))
        return t5_fail(err, "no \"best\"");
    s->finished = finished && finished[0] == '1';
    return 0;
}

/* Opens a slot's file. 1: its head is right; 0: there is none; -1: it is damaged. */
static int open_slot(struct t5_train_state *s, const char *dir, int slot, struct t5_err *err)
{
    char path[PATH_MAX];
    *s = (struct t5_train_state){.slot = slot};
    *err = (struct t5_err){0};
    if (t5_slot_path(path, dir, slot, err))
        return -1;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    if (t5_safetensors_open(&s->file, path, err))
        return -1;
    if (read_head(s, err) == 0)
        return 1;
    t5_err_at(err, "checkpoint.%d.safetensors", slot);
    t5_train_state_free(s);
    return -1;
}

/* The step of every checkpoint, from the heads alone; *last: the finished run's, or the newest.
 * *why is filled where one is damaged. */
static void list_slots(struct t5_train_slots *slots, int *last, const char *dir, struct t5_err *why)
{
    struct t5_train_state s;
    struct t5_err err;
    int finished = 0;
    *last = -1;
    for (int i = 0; i < T5_SLOTS; i++) {
        int rc = open_slot(&s, dir, i, &err);
        slots->step[i] = rc > 0 ? s.position.step : rc < 0 ? T5_SLOT_DAMAGED : T5_SLOT_EMPTY;
        if (rc < 0)
            *why = err;
        if (rc <= 0)
            continue;
        if (*last < 0 || s.position.step > slots->step[*last] ||
            (s.position.step == slots->step[*last] && s.finished > finished)) {
            *last = i;
            finished = s.finished;
        }
        t5_train_state_free(&s);
    }
}

int t5_train_state_find(struct t5_train_state *out, struct t5_train_slots *slots, const char *dir,
                        struct t5_err *err)
{
    struct t5_err why = {0}; /* about the last damaged one */
    int last;
    list_slots(slots, &last, dir, &why);
    while (last >= 0) {
        struct t5_err bad;
        int rc = open_slot(out, dir, last, &bad);
        slots->newest = last;
        if (rc > 0 && t5_safetensors_verify(out->file, &bad) == 0) {
            snprintf(out->warning, sizeof out->warning, "%.390s", why.text);
            return 0;
        }
        t5_train_state_free(out);
        why = bad;
        slots->step[last] = T5_SLOT_DAMAGED;
        for (int i = 0; i < T5_SLOTS; i++)
            last = slots->step[i] > slots->step[last] ? i : last;
        last = slots->step[last] < 0 ? -1 : last;
    }
    slots->newest = -1;
    *out = (struct t5_train_state){.slot = -1};
    if (!why.text[0])
        return 0;
    *err = why;
    return t5_err_at(err, "no whole checkpoint in %s", dir);
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
        if (!had && strncmp(row->key, "tokens.", 7) == 0)
            continue; /* the records came as JSON lines then, which carry none */
        if (strcmp(row->key, "skip_batches") == 0)
            continue;
        if (!had || strcmp(had, row->value) != 0)
            return t5_fail(
                err, "%s/checkpoint.%d.safetensors: made with another %s: %.64s there, %.64s here",
                dir, s->slot, row->key, had ? had : "none", row->value);
    }
    return 0;
}

static int load_tensor(const struct t5_train_state *s, const struct t5_backend_handle *backend,
                       const char *name, enum t5_dtype type, int64_t elements, void *to,
                       struct t5_err *err)
{
    const struct t5_tensor *t = t5_safetensors_find(s->file, name);
    if (!t || t->type != type || t->elements != elements)
        return t5_fail(err, "checkpoint.%d.safetensors: no tensor '%s' of %lld elements", s->slot,
                       name, (long long)elements);
    backend->ops.upload(backend->dev, to, t->data, t->bytes);
    return 0;
}

int t5_train_state_load(const struct t5_train_state *s, struct t5_model *model,
                        struct t5_trainer *trainer, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    struct t5_optimizer *o = t5_trainer_optimizer(trainer);
    char name[136];
    for (int i = 0; i < t5_model_param_count(model); i++) {
        const struct t5_param *p = t5_model_param(model, i);
        snprintf(name, sizeof name, "param.%s", p->name);
        if (load_tensor(s, backend, name, T5_F32, p->rows * p->cols,
                        t5_model_params(model) + p->offset, err))
            return -1;
    }
    for (int i = 0; i < o->n_tensors; i++) {
        const struct t5_optimizer_tensor *t = &o->tensors[i];
        if (load_tensor(s, backend, t->name, t->type, t->elements, o->state + t->offset, err))
            return -1;
    }
    const char *losses = t5_train_state_value(s, "losses");
    if (t5_spike_parse(t5_trainer_spike(trainer), losses ? losses : "", err))
        return t5_err_at(err, "checkpoint.%d.safetensors", s->slot);
    t5_trainer_set_position(trainer, &s->position);
    t5_model_refresh(model);
    return backend->ops.sync(backend->dev, err);
}
