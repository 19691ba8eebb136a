/* input.c - bytes of several files, one after the other: see input.h. */
/* SPDX-License-Identifier: MIT */
#include "io/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

static const char *const standard_input[] = {"-"};

int t5_input_init(struct t5_input *in, const char *const *paths, int n_paths, struct t5_err *err)
{
    *in = (struct t5_input){.fd = -1, .capacity = T5_INPUT_CHUNK};
    in->paths = n_paths ? paths : standard_input;
    in->n_paths = n_paths ? n_paths : 1;
    in->names = t5_alloc((size_t)in->n_paths, sizeof *in->names, "file names", err);
    in->data = t5_alloc(in->capacity, 1, "a line", err);
    return in->names && in->data ? 0 : -1;
}

void t5_input_next(struct t5_input *in)
{
    if (in->fd > STDIN_FILENO)
        close(in->fd);
    in->fd = -1;
}

void t5_input_free(struct t5_input *in)
{
    t5_input_next(in);
    free(in->names);
    free(in->data);
}

int t5_input_need(struct t5_input *in, struct t5_err *err)
{
    if (in->fd >= 0)
        return 1;
    if (in->next_path == in->n_paths)
        return 0;
    const char *path = in->paths[in->next_path];
    int standard = strcmp(path, "-") == 0;
    in->name = standard ? strcpy(in->names[in->next_path], "<stdin>")
                        : t5_escape(in->names[in->next_path], path, strlen(path));
    in->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0)
        return t5_fail_errno(err, "%s", in->name);
    in->next_path++;
    in->line = 1;
    in->column = 1;
    in->begin = in->end = in->seen = 0;
    in->at_end = 0;
    return 1;
}

int t5_input_fill(struct t5_input *in, struct t5_err *err)
{
    if (in->begin > 0) {
        memmove(in->data, in->data + in->begin, in->end - in->begin);
        in->end -= in->begin;
        in->seen -= in->begin;
        in->begin = 0;
    }
    if (in->end == in->capacity) {
        char *data = realloc(in->data, 2 * in->capacity);
        if (!data)
            return t5_fail_memory(err, 2 * in->capacity, "a line");
        in->data = data;
        in->capacity *= 2;
    }
    size_t room = in->capacity - in->end;
    ssize_t got;
    do
        got = read(in->fd, in->data + in->end, room < T5_INPUT_CHUNK ? room : T5_INPUT_CHUNK);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return t5_fail_errno(err, "%s", in->name);
    if (got == 0)
        in->at_end = 1;
    in->end += (size_t)got;
    return 0;
}

void t5_input_take(struct t5_input *in, size_t to)
{
    const char *p = in->data + in->begin, *end = in->data + to, *newline;
    while ((newline = memchr(p, '\n', (size_t)(end - p)))) {
        in->line++;
        in->column = 1;
        p = newline + 1;
    }
    in->column += (size_t)(end - p);
    in->begin = to;
    if (in->seen < to)
        in->seen = to;
}

int t5_input_peek(struct t5_input *in, size_t i, int *byte, struct t5_err *err)
{
    int rc = t5_input_need(in, err);
    if (rc < 0)
        return -1;
    while (rc && in->begin + i >= in->end && !in->at_end)
        if (t5_input_fill(in, err))
            return -1;
    *byte = rc && in->begin + i < in->end ? (unsigned char)in->data[in->begin + i] : -1;
    return 0;
}

int t5_input_ready(const struct t5_input *in)
{
    int between = in->fd < 0 || (in->at_end && in->begin == in->end);
    if (between && (in->next_path == in->n_paths || strcmp(in->paths[in->next_path], "-") != 0))
        return 1;
    struct pollfd p = {.fd = between ? STDIN_FILENO : in->fd, .events = POLLIN};
    return (!between && in->at_end) || poll(&p, 1, 0) != 0;
}
