/* cut_csv.c - rows of CSV as JSON objects (RFC 4180, strictly: quotes only around whole fields, as
 * many fields as the header has). Rows end at CRLF or LF; empty lines are passed over. */
/* SPDX-License-Identifier: MIT */
#include "io/cut.h"

#include <stdarg.h>
#include <string.h>

#include "base/utf8.h"
#include "io/json.h"

void t5_cut_csv_start(struct t5_cut_csv *csv)
{
    csv->n = csv->keys.n = 0;
    csv->record = csv->whole = 0;
    csv->state = T5_CSV_FIELD;
}

void t5_cut_csv_free(struct t5_cut_csv *csv)
{
    t5_buf_free(&csv->keys);
    t5_buf_free(&csv->field);
    t5_buf_free(&csv->row);
}

/* At a byte of the buffer. Rows are skippable, the header is not. */
static int T5_PRINTF(5, 6) fail_at(const struct t5_cut_csv *csv, const struct t5_input *in,
                                   const char *at, struct t5_err *err, const char *fmt, ...)
{
    char text[sizeof err->text], number[40] = "header";
    struct t5_input here = *in; /* only its counters move */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (csv->n)
        snprintf(number, sizeof number, "record %lld", (long long)csv->record);
    t5_input_take(&here, (size_t)(at - in->data));
    t5_fail(err, "%s:%lld:%zu: %s: %s", in->name, (long long)here.line, here.column, number, text);
    err->skippable = csv->n > 0;
    return -1;
}

/* ---- where rows end ----------------------------------------------------------------------- */

int t5_cut_csv_look(struct t5_cut_csv *csv, struct t5_input *in)
{
    for (; in->seen < in->end && !csv->whole; in->seen++) {
        char c = in->data[in->seen];
        if (csv->state == T5_CSV_QUOTED) {
            const char *quote = memchr(in->data + in->seen, '"', in->end - in->seen);
            in->seen = quote ? (size_t)(quote - in->data) : in->end - 1;
            csv->state = quote ? T5_CSV_QUOTE : T5_CSV_QUOTED;
        } else if (c == '\n') {
            csv->state = T5_CSV_FIELD;
            csv->whole = 1;
        } else if (c == ',') {
            csv->state = T5_CSV_FIELD;
        } else if (c == '"' && csv->state != T5_CSV_PLAIN) {
            csv->state = T5_CSV_QUOTED; /* opened, or one of a pair inside */
        } else {
            csv->state = T5_CSV_PLAIN;
        }
    }
    return csv->whole;
}

/* The row, [begin, seen), is done with. */
static void take_row(struct t5_cut_csv *csv, struct t5_input *in)
{
    t5_input_take(in, in->seen);
    csv->state = T5_CSV_FIELD;
    csv->whole = 0;
}

static int fail_too_long(struct t5_cut_csv *csv, const struct t5_input *in, int64_t line,
                         int quoted, size_t max, struct t5_err *err)
{
    char number[40] = "header";
    if (csv->n)
        snprintf(number, sizeof number, "record %lld", (long long)csv->record);
    t5_fail(err, "%s:%lld:1: %s: longer than %zu bytes%s%s", in->name, (long long)line, number, max,
            max < T5_CSV_HEADER || csv->n ? " (see --max-line)" : "",
            quoted ? "; do its quotes close?" : "");
    err->skippable = csv->n > 0;
    return -1;
}

/* 1: a row, [begin, seen), the line break included; 0: end of the file; -1. */
static int next_row(struct t5_cut_csv *csv, struct t5_input *in, size_t max, struct t5_err *err)
{
    int64_t line = in->line;
    int too_long = 0, quoted = 0;
    for (;;) {
        int whole = t5_cut_csv_look(csv, in) || (in->at_end && (too_long || in->begin < in->seen));
        size_t n = in->seen - in->begin, ending = whole && n && in->data[in->seen - 1] == '\n';
        if (ending && n > 1 && in->data[in->seen - 2] == '\r')
            ending = 2;
        if (!whole)
            ending = 2; /* what came last may be the line break */
        if (too_long || n > max + ending) {
            quoted |= csv->state == T5_CSV_QUOTED;
            too_long = 1;
            t5_input_take(in, in->seen);
        }
        if (whole && !too_long)
            return 1;
        if (whole) {
            take_row(csv, in);
            return fail_too_long(csv, in, line, quoted, max, err);
        }
        if (in->at_end)
            return 0;
        if (t5_input_fill(in, err))
            return -1;
    }
}

/* ---- what they hold ----------------------------------------------------------------------- */

static int check_text(const struct t5_cut_csv *csv, const struct t5_input *in, const char *p,
                      const char *end, struct t5_err *err)
{
    const char *looks =
        csv->n ? NULL : t5_json_looks_like(in->data + in->begin, in->end - in->begin);
    for (size_t n; p < end; p += n) {
        n = t5_utf8_length(p, (size_t)(end - p));
        if (n == 0 || *p == 0)
            return fail_at(csv, in, p, err, "%s%s%s%s", n ? "NUL byte" : "not valid UTF-8",
                           looks ? " (this looks like " : "", looks ? looks : "", looks ? ")" : "");
    }
    return 0;
}

static int quoted_field(struct t5_cut_csv *csv, const struct t5_input *in, const char **at,
                        const char *end, struct t5_err *err)
{
    const char *open = *at, *p = open + 1;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        if (!quote)
            return fail_at(csv, in, open, err, "quotes that do not close");
        if (t5_buf_append(&csv->field, p, (size_t)(quote - p), err))
            return -1;
        p = quote + 1;
        if (p == end || *p != '"')
            break;
        if (t5_buf_append(&csv->field, "\"", 1, err))
            return -1;
        p++;
    }
    *at = p;
    if (p < end && *p != ',')
        return fail_at(csv, in, p, err, "text behind the closing quote of a field");
    return check_text(csv, in, open, p, err);
}

static int plain_field(struct t5_cut_csv *csv, const struct t5_input *in, const char **at,
                       const char *end, struct t5_err *err)
{
    const char *p = *at;
    for (; p < end && *p != ','; p++)
        if (*p == '"' || *p == '\r')
            return fail_at(csv, in, p, err, "a %s in a field without quotes",
                           *p == '"' ? "quote" : "carriage return");
    if (check_text(csv, in, *at, p, err) || t5_buf_append(&csv->field, *at, (size_t)(p - *at), err))
        return -1;
    *at = p;
    return 0;
}

/* Sets csv->field to the field at *at and moves on to the comma behind it, or the end. */
static int next_field(struct t5_cut_csv *csv, const struct t5_input *in, const char **at,
                      const char *end, struct t5_err *err)
{
    csv->field.n = 0;
    return (*at < end && **at == '"' ? quoted_field : plain_field)(csv, in, at, end, err);
}

/* The end of the row at begin, before its line break. */
static const char *end_of_row(const struct t5_input *in)
{
    const char *begin = in->data + in->begin, *end = in->data + in->seen;
    if (end > begin && end[-1] == '\n')
        end--;
    if (end > begin && end[-1] == '\r')
        end--;
    return end;
}

static int add_column(struct t5_cut_csv *csv, size_t n, const struct t5_input *in, const char *at,
                      struct t5_err *err)
{
    size_t begin = n ? csv->key_end[n - 1] : 0, from = 0;
    char shown[T5_ESCAPED];
    if (n == T5_CSV_COLUMNS)
        return fail_at(csv, in, at, err, "more than %d columns", T5_CSV_COLUMNS);
    if (t5_json_quote(&csv->keys, csv->field.data, csv->field.n, err) ||
        t5_buf_append(&csv->keys, ":", 1, err))
        return -1;
    for (size_t i = 0; i < n; from = csv->key_end[i++])
        if (csv->key_end[i] - from == csv->keys.n - begin &&
            memcmp(csv->keys.data + from, csv->keys.data + begin, csv->keys.n - begin) == 0)
            return fail_at(csv, in, at, err, "two columns are called \"%s\"",
                           t5_escape(shown, csv->field.data, csv->field.n));
    csv->key_end[n] = csv->keys.n;
    return 0;
}

static int read_header(struct t5_cut_csv *csv, struct t5_input *in, size_t max_line,
                       struct t5_err *err)
{
    int rc = next_row(csv, in, max_line < T5_CSV_HEADER ? max_line : T5_CSV_HEADER, err);
    if (rc < 0)
        return -1;
    const char *at = in->data + in->begin, *end = end_of_row(in);
    size_t n = 0;
    if (rc == 0 || at == end)
        return t5_fail(err, "%s:1:1: no header row", in->name);
    for (;; at++) {
        const char *start = at;
        if (next_field(csv, in, &at, end, err) || add_column(csv, n, in, start, err))
            return -1;
        n++;
        if (at == end)
            break;
    }
    csv->n = n;
    take_row(csv, in);
    return 0;
}

/* Makes csv->row of the row at begin. */
static int read_row(struct t5_cut_csv *csv, const struct t5_input *in, struct t5_err *err)
{
    const char *at = in->data + in->begin, *end = end_of_row(in);
    size_t n = 0, from = 0;
    csv->row.n = 0;
    for (;; at++) {
        if (next_field(csv, in, &at, end, err))
            return -1;
        if (n < csv->n) {
            if (t5_buf_append(&csv->row, n ? "," : "{", 1, err) ||
                t5_buf_append(&csv->row, csv->keys.data + from, csv->key_end[n] - from, err) ||
                t5_json_quote(&csv->row, csv->field.data, csv->field.n, err))
                return -1;
            from = csv->key_end[n];
        }
        n++;
        if (at == end)
            break;
    }
    if (n != csv->n)
        return fail_at(csv, in, in->data + in->begin, err, "%zu field%s where the header has %zu",
                       n, n == 1 ? "" : "s", csv->n);
    return t5_buf_append(&csv->row, "}", 1, err);
}

int t5_cut_csv_next(struct t5_line *out, struct t5_cut_csv *csv, struct t5_input *in,
                    size_t max_line, struct t5_err *err)
{
    int rc;
    if (!csv->n && read_header(csv, in, max_line, err))
        return -1;
    do {
        csv->record++;
        if ((rc = next_row(csv, in, max_line, err)) <= 0)
            return rc;
        rc = end_of_row(in) > in->data + in->begin;
        if (rc == 0) { /* an empty line */
            csv->record--;
            take_row(csv, in);
        }
    } while (rc == 0);
    int64_t line = in->line;
    rc = read_row(csv, in, err);
    take_row(csv, in);
    if (rc)
        return -1;
    *out = (struct t5_line){csv->row.data, csv->row.n, in->name, line, 0, csv->record};
    return 1;
}
