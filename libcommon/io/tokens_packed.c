/* tokens_packed.c - packed token files: ragged arrays whose offsets are checked once, and ids
 * checked as they are taken out. */
/* SPDX-License-Identifier: MIT */
#include "io/tokens_packed.h"

#include <string.h>

static int64_t offset_at(const struct t5_ragged *r, int64_t i)
{
    int64_t v;
    memcpy(&v, r->offsets + 8 * (size_t)i, sizeof v);
    return v;
}

static const struct t5_tensor *need(const struct t5_packed *p, const char *name, enum t5_dtype type,
                                    struct t5_err *err)
{
    const struct t5_tensor *t = t5_safetensors_find(p->file, name);
    const char *file = t5_safetensors_shown(p->file);
    if (!t)
        t5_fail(err, "%s: no tensor '%s': not a packed token file", file, name);
    else if (t->type != type || t->rank != 1) {
        t5_fail(err, "%s: tensor '%s': %s of rank %d, expected %s of rank 1", file, name,
                t5_dtype_name(t->type), t->rank, t5_dtype_name(type));
        t = NULL;
    }
    return t;
}

/* Offsets begin at 0, never fall, and end at the number of ids. */
static int check_offsets(const struct t5_packed *p, const struct t5_ragged *r, int64_t n_ids,
                         struct t5_err *err)
{
    int64_t last = 0;
    for (int64_t i = 0; i <= p->n; i++) {
        int64_t v = offset_at(r, i);
        if (v < last || v > n_ids || (i == 0 && v != 0) || (i == p->n && v != n_ids))
            return t5_fail(err, "%s: offset %lld of '%s' is %lld (%lld before it, %lld ids)",
                           t5_safetensors_shown(p->file), (long long)i, r->name, (long long)v,
                           (long long)last, (long long)n_ids);
        last = v;
    }
    return 0;
}

static int open_field(struct t5_packed *p, struct t5_ragged *r, const char *name,
                      const char *offsets_name, struct t5_err *err)
{
    const struct t5_tensor *ids = need(p, name, T5_I32, err);
    const struct t5_tensor *offsets = ids ? need(p, offsets_name, T5_I64, err) : NULL;
    if (!offsets)
        return -1;
    int first = p->n < 0; /* input_ids: says how many records there are */
    if (first)
        p->n = offsets->elements - 1;
    if (offsets->elements != p->n + 1 || p->n < 0)
        return t5_fail(err, "%s: tensor '%s': %lld offsets, expected %lld",
                       t5_safetensors_shown(p->file), offsets_name, (long long)offsets->elements,
                       (long long)(p->n < 0 ? 1 : p->n + 1));
    *r = (struct t5_ragged){name, ids->data, offsets->data};
    return check_offsets(p, r, ids->elements, err);
}

int t5_packed_open(struct t5_packed *out, int fd, const void *first, size_t n_first,
                   const char *name, struct t5_err *err)
{
    *out = (struct t5_packed){.n = -1};
    if (t5_safetensors_open_rest(&out->file, fd, first, n_first, name, err))
        return -1;
    int labels = t5_safetensors_find(out->file, "labels") ||
                 t5_safetensors_find(out->file, "label_offsets");
    out->labels.name = "labels";
    if (t5_safetensors_verify(out->file, err) ||
        open_field(out, &out->input, "input_ids", "input_offsets", err) ||
        (labels && open_field(out, &out->labels, "labels", "label_offsets", err))) {
        t5_packed_close(out);
        return -1;
    }
    return 0;
}

void t5_packed_close(struct t5_packed *packed)
{
    t5_safetensors_close(packed->file);
    *packed = (struct t5_packed){0};
}

int t5_packed_ids(struct t5_buf *out, const struct t5_ragged *field, int64_t i,
                  const struct t5_token_record *place, int64_t vocab, struct t5_err *err)
{
    out->n = 0;
    if (!field->ids)
        return 0;
    int64_t begin = offset_at(field, i), n = offset_at(field, i + 1) - begin;
    if (t5_buf_append(out, field->ids + 4 * (size_t)begin, 4 * (size_t)n, err))
        return -1;
    const int32_t *ids = (const int32_t *)out->data;
    for (int64_t k = 0; k < n; k++)
        if (ids[k] < 0 || ids[k] >= vocab)
            return t5_token_record_fail(place, err,
                                        "\"%s\": item %lld: expected a whole number from 0 to %lld, "
                                        "found %d",
                                        field->name, (long long)k, (long long)vocab - 1, ids[k]);
    return 0;
}
