/* torch_archive.c - a state dict's names tied to the storages of its archive: every size, offset and
 * stride is checked before a tensor exists. The zip's own rules are in zip_stored.c, the pickle's in
 * torch_pickle.c. Not the format before PyTorch 1.6, which is refused by name. */
/* SPDX-License-Identifier: MIT */
#include "io/torch_archive.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "io/safetensors_header.h"
#include "io/torch_pickle.h"
#include "io/zip_stored.h"

#define MAX_PICKLE ((size_t)64 << 20)

/* What stands in place of a zip archive, told by its first bytes. */
static int check_kind(const unsigned char *p, size_t n, const char *shown, struct t5_err *err)
{
    static const struct {
        size_t at;
        const char *begins, *what;
    } kinds[] = {
        {0, "version https://git-lfs",
         "a Git LFS pointer, not the weights (git lfs pull fetches them)"},
        {0, "<!DOCTYPE", "an HTML page, not weights"},
        {0, "<!doctype", "an HTML page, not weights"},
        {0, "<html", "an HTML page, not weights"},
        {0, "\x1f\x8b", "compressed with gzip"},
        {0, "\x80\x02\x8a\x0a", "a PyTorch file of the format before 1.6 (load it with torch and "
                                "save it again: torch.save writes a zip archive now)"},
        {0, "\x80", "a bare pickle, not a PyTorch archive"},
        {8, "{", "a safetensors file under the name of a PyTorch file"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t k = strlen(kinds[i].begins);
        if (n >= kinds[i].at + k && memcmp(p + kinds[i].at, kinds[i].begins, k) == 0)
            return t5_fail(err, "%s: %s", shown, kinds[i].what);
    }
    if (n < 4 || memcmp(p, "PK\x03\x04", 4) != 0)
        return t5_fail(err, "%s: byte 0: not a zip archive, which a PyTorch file is", shown);
    return 0;
}

/* The one member "FOLDER/data.pkl"; every member lies in that folder. NULL after filling err. */
static const struct t5_zip_member *find_pickle(const struct t5_zip *zip, size_t *folder_n,
                                               const char *shown, struct t5_err *err)
{
    const struct t5_zip_member *first = &zip->members[0], *found = NULL;
    const char *slash = memchr(first->name, '/', first->name_n);
    char path[600], name[T5_ESCAPED];
    *folder_n = slash ? (size_t)(slash - first->name) + 1 : 0;
    for (int i = 0; i < zip->n; i++) {
        const struct t5_zip_member *m = &zip->members[i];
        if (m->name_n <= *folder_n || memcmp(m->name, first->name, *folder_n) != 0) {
            t5_fail(err, "%s: byte %llu: member '%s': outside the archive's folder", shown,
                    (unsigned long long)m->header, t5_escape(name, m->name, m->name_n));
            return NULL;
        }
    }
    int n = snprintf(path, sizeof path, "%.*sdata.pkl", (int)*folder_n, first->name);
    if (slash)
        found = t5_zip_find(zip, path, (size_t)n);
    if (!found)
        t5_fail(err, "%s: holds no data.pkl: not a PyTorch file", shown);
    return found;
}

static int check_byteorder(const struct t5_zip *zip, const char *folder, size_t folder_n,
                           const char *shown, struct t5_err *err)
{
    char path[600];
    int n = snprintf(path, sizeof path, "%.*sbyteorder", (int)folder_n, folder);
    const struct t5_zip_member *m = t5_zip_find(zip, path, (size_t)n);
    if (m && (m->bytes != 6 || memcmp(m->data, "little", 6) != 0))
        return t5_fail(err, "%s: byteorder is not \"little\"", shown);
    return 0;
}

/* The view lies within its storage and is row-major without gaps. */
static int check_view(struct t5_tensor *t, const struct t5_torch_entry *e, const char *name,
                      struct t5_err *err)
{
    int64_t elements = 1, last = e->offset, step = 1;
    int contiguous = 1;
    if (e->offset < 0)
        return t5_fail(err, "%s: tensor '%s': offset %lld", t->file, name, (long long)e->offset);
    for (int d = 0; d < e->rank; d++)
        if (e->shape[d] < 0 || e->stride[d] < 0)
            return t5_fail(err, "%s: tensor '%s': negative %s", t->file, name,
                           e->shape[d] < 0 ? "shape" : "stride");
    for (int d = 0; d < e->rank; d++)
        if (e->shape[d] == 0)
            elements = 0;
    for (int d = e->rank - 1; d >= 0; d--) {
        int64_t reach = 0;
        t->shape[d] = e->shape[d];
        if (!elements)
            continue;
        if (__builtin_mul_overflow(e->shape[d] - 1, e->stride[d], &reach) ||
            __builtin_add_overflow(last, reach, &last) ||
            __builtin_mul_overflow(elements, e->shape[d], &elements))
            return t5_fail(err, "%s: tensor '%s': its shape and strides overflow", t->file, name);
        contiguous &= e->shape[d] == 1 || e->stride[d] == step;
        if (__builtin_mul_overflow(step, e->shape[d], &step))
            return t5_fail(err, "%s: tensor '%s': its shape and strides overflow", t->file, name);
    }
    if (elements ? last >= e->numel : e->offset > e->numel)
        return t5_fail(err, "%s: tensor '%s': its view reaches beyond its storage of %lld elements",
                       t->file, name, (long long)e->numel);
    if (!contiguous)
        return t5_fail(err,
                       "%s: tensor '%s': its strides are not those of its shape (save "
                       "tensor.contiguous())",
                       t->file, name);
    t->elements = elements;
    return 0;
}

static int make_tensor(struct t5_tensor *t, const struct t5_torch_entry *e,
                       const struct t5_zip *zip, size_t folder_n, struct t5_err *err)
{
    char path[700], name[T5_ESCAPED];
    size_t width = t5_dtype_size(e->type), bytes;
    int n = snprintf(path, sizeof path, "%.*sdata/%.*s", (int)folder_n, zip->members[0].name,
                     (int)e->key_n, e->key);
    const struct t5_zip_member *m = t5_zip_find(zip, path, (size_t)n);
    t5_escape(name, e->name, e->name_n);
    if (!m)
        return t5_fail(err, "%s: tensor '%s': the archive has no storage '%.*s'", t->file, name,
                       (int)e->key_n, e->key);
    if (e->numel < 0 || __builtin_mul_overflow((size_t)e->numel, width, &bytes) ||
        bytes != m->bytes)
        return t5_fail(err,
                       "%s: tensor '%s': storage '%.*s' has %zu bytes, expected %lld elements of %s",
                       t->file, name, (int)e->key_n, e->key, m->bytes, (long long)e->numel,
                       t5_dtype_name(e->type));
    t->type = e->type;
    t->rank = e->rank;
    if (check_view(t, e, name, err))
        return -1;
    t->bytes = (size_t)t->elements * width;
    t->data = m->data + (size_t)e->offset * width;
    char *copy = t5_alloc(e->name_n + 1, 1, "a tensor's name", err);
    if (!copy)
        return -1;
    memcpy(copy, e->name, e->name_n);
    copy[e->name_n] = 0;
    t->name = copy;
    return 0;
}

static int order_names(const void *a, const void *b, void *tensors)
{
    const struct t5_tensor *t = tensors;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

static int make_table(struct t5_header *out, const struct t5_torch_entries *entries,
                      const struct t5_zip *zip, size_t folder_n, const char *shown,
                      struct t5_err *err)
{
    char name[T5_ESCAPED];
    size_t n = (size_t)entries->n;
    out->tensors = t5_alloc_zeroed(n, sizeof *out->tensors, "a state dict", err);
    out->by_name = t5_alloc(n, sizeof *out->by_name, "a state dict", err);
    if (!out->tensors || !out->by_name)
        return -1;
    for (; out->n < entries->n; out->n++) {
        out->tensors[out->n].file = shown;
        out->by_name[out->n] = out->n;
        if (make_tensor(&out->tensors[out->n], &entries->at[out->n], zip, folder_n, err))
            return -1;
    }
    qsort_r(out->by_name, n, sizeof *out->by_name, order_names, out->tensors);
    for (size_t i = 1; i < n; i++) {
        const char *a = out->tensors[out->by_name[i]].name;
        if (strcmp(a, out->tensors[out->by_name[i - 1]].name) == 0)
            return t5_fail(err, "%s: duplicate tensor name '%s'", shown,
                           t5_escape(name, a, strlen(a)));
    }
    return 0;
}

static int read_archive(struct t5_header *out, const unsigned char *map, size_t size,
                        const char *shown, struct t5_err *err)
{
    struct t5_zip zip = {0};
    struct t5_torch_entries entries = {0};
    char inside[2 * T5_ESCAPED];
    size_t folder_n;
    int rc = -1;
    if (check_kind(map, size, shown, err) || t5_zip_open(&zip, map, size, shown, err))
        return -1;
    const struct t5_zip_member *pickle = find_pickle(&zip, &folder_n, shown, err);
    if (!pickle || check_byteorder(&zip, pickle->name, folder_n, shown, err) ||
        t5_zip_verify(&zip, shown, err))
        goto out;
    if (pickle->bytes > MAX_PICKLE) {
        t5_fail(err, "%s: data.pkl of %zu bytes (at most %zu expected)", shown, pickle->bytes,
                MAX_PICKLE);
        goto out;
    }
    snprintf(inside, sizeof inside, "%s: data.pkl", shown);
    if (t5_torch_unpickle(&entries, pickle->data, pickle->bytes, inside, err) == 0)
        rc = make_table(out, &entries, &zip, folder_n, shown, err);
out:
    t5_torch_entries_free(&entries);
    t5_zip_free(&zip);
    return rc;
}

int t5_torch_open_fd(struct t5_safetensors **out, int fd, const char *shown, struct t5_err *err)
{
    return t5_safetensors_open_as(out, fd, shown, read_archive, err);
}
