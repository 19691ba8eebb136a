/* jsonl.c - records from files, pipes or standard input, one after the other, in bounded memory:
 * lines here, JSON arrays and CSV through cut.h. What a line says as JSON: see json.c and record.c.
 */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/cut.h"
#include "io/json.h"

struct t5_jsonl {
    struct t5_input in;
    size_t max_line;
    enum t5_input_format wanted, format; /* format: of the open file, never AUTO */
    int started;                         /* files whose format is known */
    struct t5_cut_array array;
    struct t5_cut_csv csv;
    struct t5_record record;
};

int t5_jsonl_open(struct t5_jsonl **out, const char *const *paths, int n_paths, size_t max_line,
                  struct t5_err *err)
{
    struct t5_jsonl *r = t5_alloc_zeroed(1, sizeof *r, "a reader", err);
    *out = NULL;
    if (!r)
        return -1;
    r->max_line = max_line;
    r->wanted = T5_INPUT_JSONL;
    if (t5_input_init(&r->in, paths, n_paths, err)) {
        t5_jsonl_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void t5_jsonl_format(struct t5_jsonl *reader, enum t5_input_format format)
{
    reader->wanted = format;
}

void t5_jsonl_close(struct t5_jsonl *reader)
{
    if (!reader)
        return;
    t5_record_free(&reader->record);
    t5_cut_csv_free(&reader->csv);
    t5_input_free(&reader->in);
    free(reader);
}

/* ---- formats ------------------------------------------------------------------------------ */

static int is_csv_name(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcasecmp(path + n - 4, ".csv") == 0;
}

/* The first byte that is no white space tells an array; it is looked for in so many. */
#define LOOK ((size_t)4096)

static int find_format(struct t5_jsonl *r, size_t at, struct t5_err *err)
{
    int byte = ' ';
    r->format = r->wanted;
    if (r->wanted != T5_INPUT_AUTO)
        return 0;
    r->format = T5_INPUT_CSV;
    if (is_csv_name(r->in.paths[r->in.next_path - 1]))
        return 0;
    for (; byte > 0 && strchr(" \t\r\n", byte) && at < LOOK; at++)
        if (t5_input_peek(&r->in, at, &byte, err))
            return -1;
    r->format = byte == '[' ? T5_INPUT_JSON : T5_INPUT_JSONL;
    return 0;
}

/* Goes to the bytes of a file that has just been opened. */
static int start_file(struct t5_jsonl *r, struct t5_err *err)
{
    static const unsigned char mark[3] = {0xef, 0xbb, 0xbf};
    size_t n = 0;
    int byte;
    for (; n < 3 && r->wanted != T5_INPUT_JSONL; n++) {
        if (t5_input_peek(&r->in, n, &byte, err))
            return -1;
        if (byte != mark[n])
            break;
    }
    if (find_format(r, n == 3 ? n : 0, err))
        return -1;
    if (n == 3 && r->format != T5_INPUT_JSONL) /* a line's is passed over by the scanner */
        t5_input_take(&r->in, 3);
    r->array = (struct t5_cut_array){0};
    t5_cut_csv_start(&r->csv);
    r->started = r->in.next_path;
    return 0;
}

/* ---- lines -------------------------------------------------------------------------------- */

/* The line at begin is too long: throws it away without keeping more than one read of it. */
static int discard(struct t5_jsonl *r, struct t5_err *err)
{
    struct t5_input *in = &r->in;
    const char *newline;
    while (!(newline = memchr(in->data + in->seen, '\n', in->end - in->seen)) && !in->at_end) {
        in->begin = in->seen = in->end = 0;
        if (t5_input_fill(in, err))
            return -1;
    }
    in->begin = in->seen = newline ? (size_t)(newline + 1 - in->data) : in->end;
    t5_fail(err, "%s:%lld:1: line longer than %zu bytes (see --max-line)", in->name,
            (long long)in->line++, r->max_line);
    err->skippable = 1;
    return -1;
}

/* 1: a line; 0: the end of the file; -1. */
static int next_line(struct t5_jsonl *r, struct t5_line *out, struct t5_err *err)
{
    struct t5_input *in = &r->in;
    for (;;) {
        const char *newline = memchr(in->data + in->seen, '\n', in->end - in->seen);
        size_t stop = newline ? (size_t)(newline - in->data) : in->end;
        in->seen = stop;
        if (stop - in->begin > r->max_line)
            return discard(r, err);
        if (newline || (in->at_end && in->begin < in->end)) {
            *out = (struct t5_line){
                in->data + in->begin, stop - in->begin, in->name, in->line++, 1, 0};
            in->begin = in->seen = newline ? stop + 1 : stop;
            return 1;
        }
        if (in->at_end)
            return 0;
        if (t5_input_fill(in, err))
            return -1;
    }
}

int t5_jsonl_line(struct t5_jsonl *r, struct t5_line *out, struct t5_err *err)
{
    int rc;
    while ((rc = t5_input_need(&r->in, err)) == 1) {
        if (r->started != r->in.next_path && start_file(r, err))
            return -1;
        rc = r->format == T5_INPUT_JSON
                 ? t5_cut_array_next(out, &r->array, &r->in, r->max_line, err)
             : r->format == T5_INPUT_CSV ? t5_cut_csv_next(out, &r->csv, &r->in, r->max_line, err)
                                         : next_line(r, out, err);
        if (rc)
            break;
        t5_input_next(&r->in);
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

/* Whether a record, or what is wrong, lies whole in the buffer. */
static int is_there(struct t5_jsonl *r)
{
    struct t5_input *in = &r->in;
    struct t5_err err;
    if (in->fd < 0 || r->started != in->next_path)
        return 0;
    if (r->format == T5_INPUT_JSON)
        return t5_cut_array_look(&r->array, in, &err) != 0;
    if (r->format == T5_INPUT_CSV)
        return t5_cut_csv_look(&r->csv, in);
    return memchr(in->data + in->seen, '\n', in->end - in->seen) != NULL;
}

int t5_jsonl_ready(struct t5_jsonl *reader)
{
    return is_there(reader) || t5_input_ready(&reader->in);
}

int t5_jsonl_peek(struct t5_jsonl *reader, size_t i, int *byte, struct t5_err *err)
{
    return t5_input_peek(&reader->in, i, byte, err);
}

int t5_jsonl_release(struct t5_jsonl *reader, const char **bytes, size_t *n, const char **name)
{
    int fd = reader->in.fd;
    *bytes = reader->in.data + reader->in.begin;
    *n = reader->in.end - reader->in.begin;
    *name = reader->in.name;
    reader->in.fd = -1;
    return fd;
}
