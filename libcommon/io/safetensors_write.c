/* safetensors_write.c - header and data of a safetensors file, in offset order, so that it can go
 * down a pipe. Does not choose the order: the caller's is kept. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "io/atomic.h"
#include "io/jsonl.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"

#define ALIGNMENT 64
static const char no_digest[] = "0000000000000000000000000000000000000000000000000000000000000000";

struct t5_safetensors_writer {
    struct t5_atomic *file;
    size_t data_at;   /* bytes of length and header */
    size_t digest_at; /* where the checksum's digits are, 0: the output cannot be patched, so there
                         is none */
    size_t left;      /* bytes of data still to come */
    struct sha256_ctx sha;
};

static int append_metadata(struct t5_buf *out, const struct t5_metadata *metadata, int n,
                           struct t5_err *err)
{
    if (n && t5_buf_printf(out, err, "\"__metadata__\":{"))
        return -1;
    for (int i = 0; i < n; i++)
        if ((i && t5_buf_append(out, ",", 1, err)) ||
            t5_json_quote(out, metadata[i].key, strlen(metadata[i].key), err) ||
            t5_buf_append(out, ":", 1, err) ||
            t5_json_quote(out, metadata[i].value, strlen(metadata[i].value), err))
            return -1;
    return n ? t5_buf_append(out, "}", 1, err) : 0;
}

static int append_tensor(struct t5_buf *out, const struct t5_tensor *t, size_t *at,
                         struct t5_err *err)
{
    size_t bytes = t5_dtype_size(t->type);
    if (t5_json_quote(out, t->name, strlen(t->name), err) ||
        t5_buf_printf(out, err, ":{\"dtype\":\"%s\",\"shape\":[", t5_dtype_name(t->type)))
        return -1;
    for (int d = 0; d < t->rank; d++) {
        if (t5_buf_printf(out, err, "%s%lld", d ? "," : "", (long long)t->shape[d]))
            return -1;
        if (__builtin_mul_overflow(bytes, (size_t)t->shape[d], &bytes))
            return t5_fail_memory(err, SIZE_MAX, t->name);
    }
    if (t5_buf_printf(out, err, "],\"data_offsets\":[%zu,%zu]}", *at, *at + bytes))
        return -1;
    *at += bytes;
    return 0;
}

/* Length, JSON and padding; *data_bytes is what must follow. */
static int make_header(struct t5_buf *out, size_t *data_bytes, const struct t5_tensor *tensors,
                       int n, const struct t5_metadata *metadata, int n_metadata,
                       struct t5_err *err)
{
    size_t at = 0;
    if (t5_buf_append(out, "12345678{", 9, err) || append_metadata(out, metadata, n_metadata, err))
        return -1;
    for (int i = 0; i < n; i++)
        if (((i || n_metadata) && t5_buf_append(out, ",", 1, err)) ||
            append_tensor(out, &tensors[i], &at, err))
            return -1;
    if (t5_buf_append(out, "}", 1, err))
        return -1;
    while (out->n % ALIGNMENT)
        if (t5_buf_append(out, " ", 1, err))
            return -1;
    if (out->n - 8 > T5_MAX_HEADER)
        return t5_fail(err, "a header of %zu bytes (at most %llu can be read back)", out->n - 8,
                       (unsigned long long)T5_MAX_HEADER);
    for (int i = 0; i < 8; i++)
        out->data[i] = (char)((uint64_t)(out->n - 8) >> (8 * i));
    *data_bytes = at;
    return 0;
}

int t5_safetensors_write_header(struct t5_atomic *out, const struct t5_tensor *tensors, int n,
                                const struct t5_metadata *metadata, int n_metadata,
                                struct t5_err *err)
{
    struct t5_buf header = {0};
    size_t data_bytes;
    int rc = make_header(&header, &data_bytes, tensors, n, metadata, n_metadata, err) ||
                     t5_atomic_write(out, header.data, header.n, err)
                 ? -1
                 : 0;
    t5_buf_free(&header);
    return rc;
}

int t5_safetensors_write_open(struct t5_safetensors_writer **out, struct t5_atomic *file,
                              const struct t5_tensor *tensors, int n,
                              const struct t5_metadata *metadata, int n_metadata,
                              struct t5_err *err)
{
    struct t5_safetensors_writer *w = t5_alloc_zeroed(1, sizeof *w, "a tensor file", err);
    struct t5_metadata *all = t5_alloc((size_t)n_metadata + 1, sizeof *all, "metadata", err);
    struct t5_buf header = {0};
    int rc = -1;
    if (!w || !all)
        goto out;
    w->file = file;
    sha256_init(&w->sha);
    /* First of the metadata, so that its digits are found without parsing. */
    int digest = t5_atomic_can_patch(file) ? 1 : 0;
    all[0] = (struct t5_metadata){"sha256", no_digest};
    if (n_metadata)
        memcpy(all + digest, metadata, (size_t)n_metadata * sizeof *all);
    if (make_header(&header, &w->left, tensors, n, all, n_metadata + digest, err) ||
        t5_atomic_write(file, header.data, header.n, err))
        goto out;
    w->data_at = header.n;
    if (digest)
        w->digest_at =
            (size_t)((char *)memmem(header.data + 8, header.n - 8, no_digest, 64) - header.data);
    rc = 0;
out:
    t5_buf_free(&header);
    free(all);
    if (rc)
        free(w);
    *out = rc ? NULL : w;
    return rc;
}

void t5_safetensors_write_hash(struct t5_safetensors_writer *w, const void *bytes, size_t n)
{
    if (w->digest_at)
        sha256_update(&w->sha, n, bytes);
}

int t5_safetensors_write_unhashed(struct t5_safetensors_writer *w, const void *bytes, size_t n,
                                  struct t5_err *err)
{
    if (n > w->left)
        return t5_fail_as(err, T5_ENVIRONMENT, "more data written than its header describes");
    w->left -= n;
    return t5_atomic_write(w->file, bytes, n, err);
}

int t5_safetensors_write(struct t5_safetensors_writer *w, const void *bytes, size_t n,
                         struct t5_err *err)
{
    t5_safetensors_write_hash(w, bytes, n);
    return t5_safetensors_write_unhashed(w, bytes, n, err);
}

int t5_safetensors_write_close(struct t5_safetensors_writer *w, struct t5_err *err)
{
    char hex[T5_SHA256_TEXT];
    int rc = 0;
    if (!w)
        return 0;
    if (w->left)
        rc = t5_fail_as(err, T5_ENVIRONMENT, "%zu bytes of data missing at the end", w->left);
    if (rc == 0 && w->digest_at) {
        t5_sha256_end(hex, &w->sha);
        rc = t5_atomic_patch(w->file, (int64_t)w->digest_at, hex, 64, err);
    }
    free(w);
    return rc;
}

int t5_safetensors_save(const char *path, const struct t5_tensor *tensors, int n,
                        const struct t5_metadata *metadata, int n_metadata, struct t5_err *err)
{
    struct t5_atomic *file = NULL;
    struct t5_safetensors_writer *w = NULL;
    struct t5_err ignored;
    if (t5_atomic_open(&file, path, err))
        return -1;
    int rc = t5_safetensors_write_open(&w, file, tensors, n, metadata, n_metadata, err);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = t5_safetensors_write(w, tensors[i].data, tensors[i].bytes, err);
    if (t5_safetensors_write_close(w, rc ? &ignored : err))
        rc = -1;
    if (rc == 0)
        return t5_atomic_commit(file, err);
    t5_atomic_abandon(file);
    return -1;
}
