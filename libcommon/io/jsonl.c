/* jsonl.c - lines from files, pipes or standard input, one after the other, in bounded memory. What
 * a line says as JSON: see json.c and record.c. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/json.h"

#define CHUNK ((size_t)128 << 10)

struct t5_jsonl {
    const char *const *paths;
    int n_paths, next_path;
    size_t max_line;
    int fd; /* -1: none open */
    char (*names)[T5_ESCAPED]; /* one a path */
    const char *name;
    int64_t line;
    char *data;
    size_t begin, end, seen, capacity; /* bytes [begin, seen) hold no newline */
    int at_end;                        /* the open file has given all it has */
    struct t5_record record;
};

static const char *const standard_input[] = {"-"};

int t5_jsonl_open(struct t5_jsonl **out, const char *const *paths, int n_paths, size_t max_line,
                  struct t5_err *err)
{
    struct t5_jsonl *r = t5_alloc_zeroed(1, sizeof *r, "a reader", err);
    *out = NULL;
    if (!r)
        return -1;
    r->fd = -1;
    r->paths = n_paths ? paths : standard_input;
    r->n_paths = n_paths ? n_paths : 1;
    r->max_line = max_line;
    r->names = t5_alloc((size_t)r->n_paths, sizeof *r->names, "file names", err);
    r->data = t5_alloc(CHUNK, 1, "a line", err);
    r->capacity = CHUNK;
    if (!r->names || !r->data) {
        t5_jsonl_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

static void close_file(struct t5_jsonl *r)
{
    if (r->fd > STDIN_FILENO)
        close(r->fd);
    r->fd = -1;
}

void t5_jsonl_close(struct t5_jsonl *reader)
{
    if (!reader)
        return;
    close_file(reader);
    t5_record_free(&reader->record);
    free(reader->names);
    free(reader->data);
    free(reader);
}

/* 1: a file is open; 0: there is no further one. */
static int need_file(struct t5_jsonl *r, struct t5_err *err)
{
    if (r->fd >= 0)
        return 1;
    if (r->next_path == r->n_paths)
        return 0;
    const char *path = r->paths[r->next_path];
    int standard = strcmp(path, "-") == 0;
    r->name = standard ? strcpy(r->names[r->next_path], "<stdin>")
                       : t5_escape(r->names[r->next_path], path, strlen(path));
    r->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0)
        return t5_fail_errno(err, "%s", r->name);
    r->next_path++;
    r->line = 0;
    r->begin = r->end = r->seen = 0;
    r->at_end = 0;
    return 1;
}

/* Reads once, after making room. */
static int fill(struct t5_jsonl *r, struct t5_err *err)
{
    if (r->begin > 0) {
        memmove(r->data, r->data + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->seen -= r->begin;
        r->begin = 0;
    }
    if (r->end == r->capacity) {
        char *data = realloc(r->data, 2 * r->capacity);
        if (!data)
            return t5_fail_memory(err, 2 * r->capacity, "a line");
        r->data = data;
        r->capacity *= 2;
    }
    size_t room = r->capacity - r->end;
    ssize_t got;
    do
        got = read(r->fd, r->data + r->end, room < CHUNK ? room : CHUNK);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return t5_fail_errno(err, "%s", r->name);
    if (got == 0)
        r->at_end = 1;
    r->end += (size_t)got;
    return 0;
}

/* The line at begin is too long: throws it away without keeping more than one read of it. */
static int discard(struct t5_jsonl *r, struct t5_err *err)
{
    const char *newline;
    while (!(newline = memchr(r->data + r->seen, '\n', r->end - r->seen)) && !r->at_end) {
        r->begin = r->seen = r->end = 0;
        if (fill(r, err))
            return -1;
    }
    r->begin = r->seen = newline ? (size_t)(newline + 1 - r->data) : r->end;
    t5_fail(err, "%s:%lld:1: line longer than %zu bytes (see --max-line)", r->name,
            (long long)r->line, r->max_line);
    err->skippable = 1;
    return -1;
}

int t5_jsonl_line(struct t5_jsonl *r, struct t5_line *out, struct t5_err *err)
{
    int rc;
    while ((rc = need_file(r, err)) == 1) {
        const char *newline = memchr(r->data + r->seen, '\n', r->end - r->seen);
        size_t stop = newline ? (size_t)(newline - r->data) : r->end;
        r->seen = stop;
        if (stop - r->begin > r->max_line) {
            r->line++;
            return discard(r, err);
        }
        if (newline || (r->at_end && r->begin < r->end)) {
            *out = (struct t5_line){r->data + r->begin, stop - r->begin, r->name, ++r->line};
            r->begin = r->seen = newline ? stop + 1 : stop;
            return 1;
        }
        if (r->at_end)
            close_file(r);
        else if (fill(r, err))
            return -1;
    }
    return rc;
}

int t5_jsonl_next(struct t5_jsonl *reader, struct t5_record *out, struct t5_err *err)
{
    struct t5_line line;
    int rc;
    while ((rc = t5_jsonl_line(reader, &line, err)) == 1) {
        rc = t5_record_from_line(&reader->record, &line, err);
        if (rc == 0)
            continue; /* blank */
        *out = reader->record;
        out->scan = NULL; /* the reader's */
        break;
    }
    return rc;
}

int t5_jsonl_ready(const struct t5_jsonl *r)
{
    int between = r->fd < 0 || (r->at_end && r->begin == r->end);
    if (between && (r->next_path == r->n_paths || strcmp(r->paths[r->next_path], "-") != 0))
        return 1;
    if (!between && (r->at_end || memchr(r->data + r->seen, '\n', r->end - r->seen)))
        return 1;
    struct pollfd p = {.fd = between ? STDIN_FILENO : r->fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

int t5_jsonl_peek_at(struct t5_jsonl *reader, size_t i, int *byte, struct t5_err *err)
{
    int rc = need_file(reader, err);
    if (rc < 0)
        return -1;
    while (rc && reader->begin + i >= reader->end && !reader->at_end)
        if (fill(reader, err))
            return -1;
    *byte = rc && reader->begin + i < reader->end ? (unsigned char)reader->data[reader->begin + i]
                                                  : -1;
    return 0;
}

int t5_jsonl_peek(struct t5_jsonl *reader, int *byte, struct t5_err *err)
{
    return t5_jsonl_peek_at(reader, 0, byte, err);
}

int t5_jsonl_release(struct t5_jsonl *reader, const char **bytes, size_t *n, const char **name)
{
    int fd = reader->fd;
    *bytes = reader->data + reader->begin;
    *n = reader->end - reader->begin;
    *name = reader->name;
    reader->fd = -1;
    return fd;
}
