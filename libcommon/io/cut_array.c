/* cut_array.c - where the records of a JSON array begin and end. Whether they are JSON is the
 * scanner's to say: here only strings and brackets are followed. */
/* SPDX-License-Identifier: MIT */
#include "io/cut.h"

#include "base/utf8.h"

/* 0 where the buffer holds nothing more. */
static int skip_space(struct t5_input *in)
{
    size_t at = in->begin;
    while (at < in->end && (in->data[at] == ' ' || in->data[at] == '\t' || in->data[at] == '\r' ||
                            in->data[at] == '\n'))
        at++;
    t5_input_take(in, at);
    return at < in->end;
}

static int unexpected(const struct t5_input *in, const char *expected, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    size_t n = t5_utf8_length(in->data + in->begin, in->end - in->begin);
    return t5_fail(err, "%s:%lld:%zu: expected %s, found '%s'", in->name, (long long)in->line,
                   in->column, expected, t5_escape(shown, in->data + in->begin, n ? n : 1));
}

/* Over the record's bytes, to its end if that is there. */
static void look_inside(struct t5_cut_array *a, struct t5_input *in)
{
    for (const char *p = in->data; in->seen < in->end && !a->whole; in->seen++) {
        char c = p[in->seen];
        if (a->escape) {
            a->escape = 0;
        } else if (a->string) {
            a->escape = c == '\\';
            a->string = c != '"';
            a->whole = !a->string && a->depth == 0;
        } else if (c == '"') {
            a->string = 1;
        } else if (c == '{' || c == '[') {
            a->depth++;
        } else if (a->depth == 0) {
            if (c == ',' || c == ']' || c == '}' || c == ' ' || c == '\t' || c == '\r' || c == '\n')
                break;
        } else if (c == '}' || c == ']') {
            a->whole = --a->depth == 0;
        }
    }
    a->whole |= in->seen < in->end;
}

static void begin_record(struct t5_cut_array *a, const struct t5_input *in)
{
    a->state = T5_ARRAY_INSIDE;
    a->record++;
    a->line = in->line;
    a->column = in->column;
    a->depth = 0;
    a->string = a->escape = a->whole = a->too_long = 0;
}

/* At the first byte of what comes next, outside of records. */
static int step(struct t5_cut_array *a, struct t5_input *in, struct t5_err *err)
{
    char c = in->data[in->begin];
    if (a->state == T5_ARRAY_DONE)
        return unexpected(in, "nothing behind the array", err);
    if (a->state == T5_ARRAY_START && c == '[') {
        a->list = 1;
        a->state = T5_ARRAY_FIRST;
    } else if (c == ']' &&
               (a->state == T5_ARRAY_FIRST || (a->list && a->state == T5_ARRAY_BEHIND))) {
        a->state = T5_ARRAY_DONE;
    } else if (a->list && a->state == T5_ARRAY_BEHIND) {
        if (c != ',')
            return unexpected(in, "',' or ']' behind a record", err);
        a->state = T5_ARRAY_ITEM;
    } else {
        if (c == ',' || c == ']' || c == '}' || c == ':')
            return unexpected(in, "a record", err);
        begin_record(a, in);
        return 0;
    }
    t5_input_take(in, in->begin + 1);
    return 0;
}

int t5_cut_array_look(struct t5_cut_array *array, struct t5_input *in, struct t5_err *err)
{
    while (array->state != T5_ARRAY_INSIDE)
        if (!skip_space(in))
            return 0;
        else if (step(array, in, err))
            return -1;
    look_inside(array, in);
    return array->whole;
}

static int end_of_file(const struct t5_cut_array *a, const struct t5_input *in, struct t5_err *err)
{
    if (!a->list || a->state == T5_ARRAY_DONE)
        return 0;
    return t5_fail(err, "%s:%lld:%zu: the file ends inside the array, behind record %lld", in->name,
                   (long long)in->line, in->column, (long long)a->record);
}

static int fail_too_long(struct t5_cut_array *a, const struct t5_input *in, size_t max_line,
                         struct t5_err *err)
{
    a->state = T5_ARRAY_BEHIND;
    t5_fail(err, "%s:%lld:%zu: record %lld: longer than %zu bytes (see --max-line)", in->name,
            (long long)a->line, a->column, (long long)a->record, max_line);
    err->skippable = 1;
    return -1;
}

int t5_cut_array_next(struct t5_line *out, struct t5_cut_array *a, struct t5_input *in,
                      size_t max_line, struct t5_err *err)
{
    for (;;) {
        int whole = t5_cut_array_look(a, in, err);
        if (whole < 0)
            return -1;
        whole |= in->at_end; /* cut short: the scanner says where */
        if (a->state == T5_ARRAY_INSIDE && (a->too_long || in->seen - in->begin > max_line)) {
            a->too_long = 1;
            t5_input_take(in, in->seen);
            if (whole)
                return fail_too_long(a, in, max_line, err);
        } else if (whole && a->state == T5_ARRAY_INSIDE) {
            *out = (struct t5_line){in->data + in->begin,
                                    in->seen - in->begin,
                                    in->name,
                                    a->line,
                                    a->column,
                                    a->record};
            t5_input_take(in, in->seen);
            a->state = T5_ARRAY_BEHIND;
            return 1;
        } else if (whole) {
            return end_of_file(a, in, err);
        }
        if (t5_input_fill(in, err))
            return -1;
    }
}
