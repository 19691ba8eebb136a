/* event_file.c - TFRecord framing and the few messages of tensorflow's event.proto and
 * summary.proto. Field numbers: Event wall_time 1, step 2, file_version 3, summary 5, session_log
 * 7; Summary value 1; Value tag 1, simple_value 2; SessionLog status 1, where START is 1. */
/* SPDX-License-Identifier: MIT */
#include "io/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/atomic.h"
#include "io/crc32.h"

/* ---- protobuf ---- */

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static int put_varint(struct t5_buf *out, uint64_t value, struct t5_err *err)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; value >= 128; value >>= 7)
        bytes[n++] = (unsigned char)(value | 128);
    bytes[n++] = (unsigned char)value;
    return t5_buf_append(out, bytes, n, err);
}

static int put_key(struct t5_buf *out, unsigned field, enum wire wire, struct t5_err *err)
{
    return put_varint(out, field << 3 | wire, err);
}

static int put_bytes(struct t5_buf *out, unsigned field, const void *bytes, size_t n,
                     struct t5_err *err)
{
    return put_key(out, field, BYTES, err) || put_varint(out, n, err) ||
                   t5_buf_append(out, bytes, n, err)
               ? -1
               : 0;
}

/* ---- messages ---- */

static int put_value(struct t5_buf *summary, const struct t5_scalar *s, struct t5_err *err)
{
    struct t5_buf value = {0};
    float simple = (float)s->value;
    int rc = put_bytes(&value, 1, s->tag, strlen(s->tag), err) ||
             put_key(&value, 2, FIXED32, err) ||
             t5_buf_append(&value, &simple, sizeof simple, err) ||
             put_bytes(summary, 1, value.data, value.n, err);
    t5_buf_free(&value);
    return rc ? -1 : 0;
}

static int put_summary(struct t5_buf *out, const struct t5_event *e, struct t5_err *err)
{
    struct t5_buf summary = {0};
    int rc = 0;
    for (int i = 0; rc == 0 && i < e->n_scalars; i++)
        rc = put_value(&summary, &e->scalars[i], err);
    rc = rc || put_bytes(out, 5, summary.data, summary.n, err);
    t5_buf_free(&summary);
    return rc ? -1 : 0;
}

/* Fields ascending; what is zero is left out, as protobuf does. */
static int put_event(struct t5_buf *out, const struct t5_event *e, struct t5_err *err)
{
    static const unsigned char start[] = {1 << 3 | VARINT, 1};
    if (put_key(out, 1, FIXED64, err) ||
        t5_buf_append(out, &e->wall_time, sizeof e->wall_time, err) ||
        (e->step && (put_key(out, 2, VARINT, err) || put_varint(out, (uint64_t)e->step, err))) ||
        (e->file_version && put_bytes(out, 3, e->file_version, strlen(e->file_version), err)) ||
        (e->n_scalars > 0 && put_summary(out, e, err)) ||
        (e->session_start && put_bytes(out, 7, start, sizeof start, err)))
        return -1;
    return 0;
}

/* ---- records ---- */

/* A checksum of data that hold checksums is weak, so the format rotates it and adds a constant. */
static uint32_t masked_crc(const void *bytes, size_t n)
{
    uint32_t crc = t5_crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

int t5_event_append(struct t5_buf *out, const struct t5_event *event, struct t5_err *err)
{
    struct t5_buf data = {0};
    int rc = put_event(&data, event, err);
    if (rc == 0) {
        uint64_t n = data.n;
        uint32_t head = masked_crc(&n, sizeof n), tail = masked_crc(data.data, data.n);
        rc = t5_buf_append(out, &n, sizeof n, err) || t5_buf_append(out, &head, sizeof head, err) ||
                     t5_buf_append(out, data.data, data.n, err) ||
                     t5_buf_append(out, &tail, sizeof tail, err)
                 ? -1
                 : 0;
    }
    t5_buf_free(&data);
    return rc;
}

/* ---- files ---- */

struct t5_event_file {
    int fd;
    char path[PATH_MAX];
    struct t5_buf record; /* reused */
};

static int write_event(struct t5_event_file *f, struct t5_event *event, struct t5_err *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    f->record.n = 0;
    if (t5_event_append(&f->record, event, err))
        return -1;
    for (size_t at = 0; at < f->record.n;) {
        ssize_t done = write(f->fd, f->record.data + at, f->record.n - at);
        if (done < 0 && errno != EINTR)
            return t5_fail_errno(err, "%s", f->path);
        at += done > 0 ? (size_t)done : 0;
    }
    return 0;
}

/* The name is TensorBoard's pattern; one that is there is another run's. */
static int create(struct t5_event_file *f, const char *dir, struct t5_err *err)
{
    char host[65] = "host";
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < 1000; i++) {
        if (snprintf(f->path, sizeof f->path, "%s/events.out.tfevents.%lld.%s.%d.%d", dir,
                     (long long)time(NULL), host, (int)getpid(), i) >= (int)sizeof f->path)
            return t5_fail_as(err, T5_ENVIRONMENT, "the directory's name is too long");
        f->fd = open(f->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (f->fd >= 0 || errno != EEXIST)
            break;
    }
    return f->fd < 0 ? t5_fail_errno(err, "%s", f->path) : 0;
}

int t5_event_file_open(struct t5_event_file **out, const char *dir, int64_t first_step,
                       struct t5_err *err)
{
    struct t5_event version = {.file_version = "brain.Event:2"};
    struct t5_event start = {.step = first_step, .session_start = 1};
    struct t5_event_file *f;
    struct t5_err ignored;
    *out = NULL;
    if (t5_dir_make(dir, err) < 0)
        return -1;
    f = t5_alloc_zeroed(1, sizeof *f, "an event file", err);
    if (!f)
        return -1;
    f->fd = -1;
    int rc = create(f, dir, err) || write_event(f, &version, err) || write_event(f, &start, err)
                 ? -1
                 : 0;
    if (rc == 0)
        *out = f;
    else if (t5_event_file_close(f, &ignored)) /* the first failure is the one to tell */
        return -1;
    return rc;
}

int t5_event_file_add(struct t5_event_file *f, int64_t step, const struct t5_scalar *scalars, int n,
                      struct t5_err *err)
{
    struct t5_event event = {.step = step, .scalars = scalars, .n_scalars = n};
    return write_event(f, &event, err);
}

int t5_event_file_close(struct t5_event_file *f, struct t5_err *err)
{
    int rc = 0;
    if (!f)
        return 0;
    if (f->fd >= 0 && close(f->fd) != 0)
        rc = t5_fail_errno(err, "%s", f->path);
    t5_buf_free(&f->record);
    free(f);
    return rc;
}
