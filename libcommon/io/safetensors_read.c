/* safetensors_read.c - opening a safetensors file or stream and finding tensors in it. The header's
 * grammar is in safetensors_header.c. */
/* SPDX-License-Identifier: MIT */
#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "io/mapping.h"
#include "io/safetensors_header.h"

struct t5_safetensors {
    char shown[T5_ESCAPED]; /* name for messages */
    dev_t device;
    ino_t inode;
    struct t5_header header;
    const unsigned char *map; /* a regular file: all of it */
    size_t map_n;
    struct t5_buf stream; /* anything else: its data, without the header */
    const unsigned char *data;
};

/* What people put in place of a model, told by its first bytes. NULL: none of these. */
static const char *mistaken_for(const char *p, size_t n)
{
    static const struct {
        const char *begins, *hint;
    } kinds[] = {
        {"version https://git-lfs",
         "a Git LFS pointer, not the weights (git lfs pull fetches them)"},
        {"<!DOCTYPE", "an HTML page, not weights"},
        {"<!doctype", "an HTML page, not weights"},
        {"<html", "an HTML page, not weights"},
        {"PK\x03\x04", "a zip archive (PyTorch?), not safetensors"},
        {"\x80\x02", "a pickle (PyTorch?), not safetensors"},
        {"\x1f\x8b", "compressed with gzip"},
        {"\x28\xb5\x2f\xfd", "compressed with zstd"},
        {"GGUF", "a GGUF file, not safetensors"},
        {"{", "JSON, not safetensors"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t k = strlen(kinds[i].begins);
        if (memcmp(p, kinds[i].begins, k < n ? k : n) == 0 && n > 0)
            return kinds[i].hint;
    }
    return NULL;
}

static uint64_t little64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* The 8-byte length. `first` holds what there is, n <= 8 bytes. */
static int header_length(uint64_t *out, const unsigned char *first, size_t n, const char *shown,
                         struct t5_err *err)
{
    uint64_t length = n == 8 ? little64(first) : 0;
    const char *hint =
        n < 8 || length > T5_MAX_HEADER ? mistaken_for((const char *)first, n) : NULL;
    if (hint)
        return t5_fail(err, "%s: %s", shown, hint);
    if (n < 8)
        return t5_fail(err, "%s: ends at byte %zu, inside the header's length", shown, n);
    if (length == 0 || length > T5_MAX_HEADER)
        return t5_fail(err, "%s: header of %llu bytes (expected 1 to %llu)", shown,
                       (unsigned long long)length, (unsigned long long)T5_MAX_HEADER);
    *out = length;
    return 0;
}

static int ends_early(const char *shown, uint64_t found, uint64_t want, struct t5_err *err)
{
    return t5_fail(err, "%s: ends at byte %llu, inside its header, which ends at %llu", shown,
                   (unsigned long long)found, (unsigned long long)want);
}

static int wrong_end(const char *shown, const char *found, uint64_t want, struct t5_err *err)
{
    return t5_fail(err, "%s: ends at byte %s, header describes %llu", shown, found,
                   (unsigned long long)want);
}

static int open_mapped(struct t5_safetensors *f, int fd, size_t size, struct t5_err *err)
{
    uint64_t length;
    char found[24];
    f->map = t5_mapping_open(fd, size, f->shown, err);
    if (!f->map)
        return -1;
    f->map_n = size;
    if (header_length(&length, f->map, size < 8 ? size : 8, f->shown, err))
        return -1;
    if (length > size - 8)
        return ends_early(f->shown, size, 8 + length, err);
    if (t5_header_parse(&f->header, (const char *)f->map + 8, length, f->shown, err))
        return -1;
    f->data = f->map + 8 + length;
    snprintf(found, sizeof found, "%zu", size);
    return f->header.data_bytes == size - 8 - length
               ? 0
               : wrong_end(f->shown, found, 8 + length + f->header.data_bytes, err);
}

struct source { /* a stream, of which somebody may have read the first bytes already */
    int fd;
    const char *first;
    size_t n_first;
};

static int take_first(struct t5_buf *out, struct source *from, uint64_t want, struct t5_err *err)
{
    size_t n = from->n_first < want ? from->n_first : (size_t)want;
    if (t5_buf_append(out, from->first, n, err))
        return -1;
    from->first += n;
    from->n_first -= n;
    return 0;
}

/* Appends up to `want` bytes; fewer only at the end of the stream. Room grows with what has
 * arrived, never with what a header claims. */
static int read_up_to(struct t5_buf *out, struct source *from, uint64_t want, const char *shown,
                      struct t5_err *err)
{
    size_t begin = out->n;
    if (from->n_first && take_first(out, from, want, err))
        return -1;
    while (out->n - begin < want) {
        uint64_t left = want - (out->n - begin);
        if (out->n == out->capacity &&
            t5_buf_reserve(out, left < 65536 ? (size_t)left : 65536, err))
            return -1;
        size_t room = out->capacity - out->n;
        ssize_t n = read(from->fd, out->data + out->n, left < room ? (size_t)left : room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return t5_fail_errno(err, "%s", shown);
        if (n == 0)
            break;
        out->n += (size_t)n;
    }
    return 0;
}

static int open_stream(struct t5_safetensors *f, struct source *from, struct t5_err *err)
{
    struct t5_buf head = {0};
    uint64_t length = 0;
    char found[32];
    int rc = -1;
    if (read_up_to(&head, from, 8, f->shown, err) ||
        header_length(&length, (unsigned char *)head.data, head.n, f->shown, err))
        goto out;
    head.n = 0;
    if (read_up_to(&head, from, length, f->shown, err))
        goto out;
    if (head.n < length) {
        ends_early(f->shown, 8 + head.n, 8 + length, err);
        goto out;
    }
    if (t5_header_parse(&f->header, head.data, head.n, f->shown, err))
        goto out;
    /* one byte more than there should be shows whether the stream goes on */
    uint64_t want = f->header.data_bytes;
    if (read_up_to(&f->stream, from, want < UINT64_MAX ? want + 1 : want, f->shown, err))
        goto out;
    f->data = (unsigned char *)f->stream.data;
    snprintf(found, sizeof found, f->stream.n > want ? "%llu or later" : "%llu",
             (unsigned long long)(8 + length + f->stream.n));
    rc = f->stream.n == want ? 0 : wrong_end(f->shown, found, 8 + length + want, err);
out:
    t5_buf_free(&head);
    return rc;
}

int t5_safetensors_open_rest(struct t5_safetensors **out, int fd, const void *first, size_t n_first,
                             const char *shown, struct t5_err *err)
{
    struct source from = {fd, first, n_first};
    struct t5_safetensors *f = t5_alloc_zeroed(1, sizeof *f, "a tensor file", err);
    struct stat st = {0};
    int rc = -1;
    *out = NULL;
    if (!f)
        goto out;
    snprintf(f->shown, sizeof f->shown, "%s", shown);
    if (fstat(fd, &st) != 0)
        t5_fail_errno(err, "%s", shown);
    else if (S_ISDIR(st.st_mode))
        t5_fail(err, "%s: a directory, not a tensor file", shown);
    else if (n_first == 0 && S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0)
        rc = open_mapped(f, fd, (size_t)st.st_size, err);
    else
        rc = open_stream(f, &from, err);
    f->device = st.st_dev;
    f->inode = st.st_ino;
    for (int i = 0; rc == 0 && i < f->header.n; i++)
        f->header.tensors[i].data = f->data + f->header.begin[i];
out:
    if (fd > STDERR_FILENO)
        close(fd);
    if (rc)
        t5_safetensors_close(f);
    else
        *out = f;
    return rc;
}

int t5_safetensors_open_as(struct t5_safetensors **out, int fd, const char *shown,
                           t5_table_reader *read_table, struct t5_err *err)
{
    struct t5_safetensors *f = t5_alloc_zeroed(1, sizeof *f, "a tensor file", err);
    struct stat st = {0};
    int rc = -1;
    *out = NULL;
    if (!f)
        goto out;
    snprintf(f->shown, sizeof f->shown, "%s", shown);
    if (fstat(fd, &st) != 0) {
        t5_fail_errno(err, "%s", shown);
        goto out;
    }
    f->device = st.st_dev;
    f->inode = st.st_ino;
    f->map = t5_mapping_open(fd, (size_t)st.st_size, f->shown, err);
    f->map_n = (size_t)st.st_size;
    rc = f->map ? read_table(&f->header, f->map, f->map_n, f->shown, err) : -1;
out:
    close(fd);
    if (rc)
        t5_safetensors_close(f);
    else
        *out = f;
    return rc;
}

int t5_safetensors_open_fd(struct t5_safetensors **out, int fd, const char *shown,
                           struct t5_err *err)
{
    return t5_safetensors_open_rest(out, fd, NULL, 0, shown, err);
}

int t5_safetensors_open(struct t5_safetensors **out, const char *path, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    *out = NULL;
    if (!path || strcmp(path, "-") == 0)
        return t5_safetensors_open_fd(out, STDIN_FILENO, "<stdin>", err);
    t5_escape(shown, path, strlen(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? t5_fail_errno(err, "%s", shown) : t5_safetensors_open_fd(out, fd, shown, err);
}

void t5_safetensors_close(struct t5_safetensors *f)
{
    if (!f)
        return;
    t5_header_free(&f->header);
    t5_mapping_close(f->map, f->map_n);
    t5_buf_free(&f->stream);
    free(f);
}

const char *t5_safetensors_shown(const struct t5_safetensors *f)
{
    return f->shown;
}
int t5_safetensors_count(const struct t5_safetensors *f)
{
    return f->header.n;
}

const struct t5_tensor *t5_safetensors_at(const struct t5_safetensors *f, int i)
{
    return &f->header.tensors[i];
}

const struct t5_tensor *t5_safetensors_find(const struct t5_safetensors *f, const char *name)
{
    int low = 0, high = f->header.n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct t5_tensor *t = &f->header.tensors[f->header.by_name[middle]];
        int order = strcmp(name, t->name);
        if (order == 0)
            return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *t5_safetensors_metadata(const struct t5_safetensors *f, const char *key, size_t *n)
{
    for (int i = 0; i < f->header.n_metadata; i++)
        if (strcmp(f->header.metadata[i].key, key) == 0) {
            if (n)
                *n = f->header.metadata[i].value_n;
            return f->header.metadata[i].value;
        }
    return NULL;
}

int t5_safetensors_metadata_at(const struct t5_safetensors *f, int i, const char **key,
                               const char **value)
{
    if (i >= f->header.n_metadata)
        return 0;
    *key = f->header.metadata[i].key;
    *value = f->header.metadata[i].value;
    return 1;
}

int t5_safetensors_is(const struct t5_safetensors *f, const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_dev == f->device && st.st_ino == f->inode;
}

int t5_safetensors_verify_until(const struct t5_safetensors *f, const volatile int *stop,
                                struct t5_err *err)
{
    const char *want = t5_safetensors_metadata(f, "sha256", NULL);
    uint64_t n = f->header.data_bytes;
    const size_t piece = (size_t)16 << 20;
    char hex[T5_SHA256_TEXT];
    struct sha256_ctx sha;
    if (!want)
        return 0;
    sha256_init(&sha);
    for (uint64_t at = 0; at < n; at += piece) {
        if (*stop)
            return 0;
        sha256_update(&sha, n - at < piece ? (size_t)(n - at) : piece, f->data + at);
    }
    t5_sha256_end(hex, &sha);
    if (strcmp(hex, want) != 0)
        return t5_fail(
            err,
            "%s: damaged: its data do not match its checksum (sha256 %.64s expected, found %s)",
            f->shown, want, hex);
    return 0;
}

int t5_safetensors_verify(const struct t5_safetensors *f, struct t5_err *err)
{
    volatile int stop = 0;
    return t5_safetensors_verify_until(f, &stop, err);
}
