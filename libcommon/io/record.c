/* record.c - one record: parsing, finding and reading its members, and writing it back with new
 * ones. Where records come from: see jsonl.c. */
/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

static int record_scan(struct t5_record *out, const char *text, size_t n, struct t5_err *err)
{
    if (!out->scan) {
        out->scan = t5_alloc_zeroed(1, sizeof *out->scan, "a record", err);
        if (!out->scan)
            return -1;
    }
    out->text = text;
    out->column = 1;
    out->fields = NULL;
    out->n_fields = 0;
    if (t5_json_scan(out->scan, text, n, 1, err))
        return -1;
    out->text = text + out->scan->begin;
    out->n = out->scan->end - out->scan->begin;
    out->column = out->scan->begin + 1;
    out->fields = out->scan->fields;
    out->n_fields = (int)out->scan->n_fields;
    return 0;
}

int t5_record_parse(struct t5_record *out, const char *text, size_t n, struct t5_err *err)
{
    out->file = NULL;
    out->line = out->number = 0;
    if (record_scan(out, text, n, err) == 0)
        return 0;
    if (err->status == T5_BAD_INPUT)
        t5_record_fail(out, text + out->scan->bad, err, "%s", err->text);
    return -1;
}

const char *t5_json_looks_like(const char *s, size_t n)
{
    static const struct {
        const char *start;
        size_t n;
        const char *text;
    } known[] = {
        {"\x1f\x8b", 2, "gzip data, decompress it first"},
        {"\x28\xb5\x2f\xfd", 4, "zstd data, decompress it first"},
        {"PK\x03\x04", 4, "a zip archive, unpack it first"},
        {"7z\xbc\xaf\x27\x1c", 6, "a 7z archive, unpack it first"},
        {"\xff\xfe", 2, "UTF-16, convert it with iconv"},
        {"\xfe\xff", 2, "UTF-16, convert it with iconv"},
        {"{\0", 2, "UTF-16, convert it with iconv"},
        {"\0{", 2, "UTF-16, convert it with iconv"},
        {"version https://git-lfs", 23, "a Git-LFS pointer, fetch the file itself"},
        {"<!DOCTYPE", 9, "an HTML page"},
        {"<!doctype", 9, "an HTML page"},
        {"<html", 5, "an HTML page"},
        {"[", 1, "a JSON array; one object a line is expected (jq -c '.[]' makes that)"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].n && memcmp(s, known[i].start, known[i].n) == 0)
            return known[i].text;
    return NULL;
}

/* The same of a first line, by what t5-tokenize would read. */
static const char *looks_like(const char *s, size_t n)
{
    const char *known = t5_json_looks_like(s, n);
    while (n && (s[n - 1] == '\r' || s[n - 1] == ' '))
        n--;
    if (known || n == 0)
        return known;
    if (n == 1 && *s == '{')
        return "an object over several lines; t5-tokenize --input-format json reads that";
    if ((*s == '"' || isalpha((unsigned char)*s)) && memchr(s, ',', n))
        return "CSV; t5-tokenize --input-format csv reads that";
    return NULL;
}

int t5_record_from_line(struct t5_record *out, const struct t5_line *line, struct t5_err *err)
{
    const char *text = line->text;
    size_t n = line->n, bom = 0, blank;
    if (line->line == 1 && !line->number && n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        bom = 3;
    for (blank = bom; blank < n && strchr(" \t\r", text[blank]) && text[blank]; blank++)
        ;
    if (blank == n)
        return 0;
    out->file = line->file;
    out->line = line->line;
    out->number = line->number;
    int rc = record_scan(out, text + bom, n - bom, err);
    out->column = line->column ? out->column + bom + line->column - 1 : 0;
    if (rc == 0)
        return 1;
    if (err->status != T5_BAD_INPUT)
        return -1;
    const char *looks = line->line == 1 && !line->number ? looks_like(text, n) : NULL;
    return t5_record_fail(out, text + bom + out->scan->bad, err, "%s%s%s%s", err->text,
                          looks ? " (this looks like " : "", looks ? looks : "", looks ? ")" : "");
}

void t5_record_free(struct t5_record *record)
{
    if (!record)
        return;
    if (record->scan)
        t5_json_scan_free(record->scan);
    free(record->scan);
    *record = (struct t5_record){0};
}

/* The column of `at` (0: unknown); *line, the record's, goes on to the line of `at`. */
static size_t place_of(const struct t5_record *record, const char *at, long long *line)
{
    const char *p = record->text, *newline;
    if (!at || !record->column)
        return record->column;
    size_t first = record->column;
    while ((newline = memchr(p, '\n', (size_t)(at - p)))) {
        ++*line;
        first = 1;
        p = newline + 1;
    }
    return first + (size_t)(at - p);
}

int t5_record_fail(const struct t5_record *record, const char *at, struct t5_err *err,
                   const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    long long line = (long long)record->line, number = (long long)record->number;
    size_t column = place_of(record, at, &line);
    if (!record->file)
        t5_fail(err, "column %zu: %s", column, text);
    else if (!number)
        t5_fail(err, "%s:%lld:%zu: %s", record->file, line, column, text);
    else if (column)
        t5_fail(err, "%s:%lld:%zu: record %lld: %s", record->file, line, column, number, text);
    else
        t5_fail(err, "%s:%lld: record %lld: %s", record->file, line, number, text);
    err->skippable = 1;
    return -1;
}

static int has_name(const struct t5_field *f, const char *name, size_t n)
{
    if (f->key_n == n && memcmp(f->key, name, n) == 0)
        return 1;
    if (f->key_n <= n || !memchr(f->key, '\\', f->key_n))
        return 0;
    unsigned char c[4];
    const char *p = f->key, *end = p + f->key_n;
    size_t at = 0;
    while (p < end) {
        size_t len = (size_t)t5_json_take(c, &p, end);
        if (at + len > n || memcmp(name + at, c, len) != 0)
            return 0;
        at += len;
    }
    return at == n;
}

const struct t5_field *t5_record_find(const struct t5_record *record, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < record->n_fields; i++)
        if (has_name(&record->fields[i], name, n))
            return &record->fields[i];
    return NULL;
}

const struct t5_field *t5_record_need(const struct t5_record *record, const char *name,
                                      struct t5_err *err)
{
    char shown[T5_ESCAPED];
    const struct t5_field *field = t5_record_find(record, name);
    if (!field)
        t5_record_fail(record, NULL, err, "no \"%s\"", t5_escape(shown, name, strlen(name)));
    return field;
}

static int wrong_type(const struct t5_record *record, const struct t5_field *field,
                      const char *expected, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    return t5_record_fail(record, field->value, err, "\"%s\": expected %s, found %s",
                          t5_escape(shown, field->key, field->key_n), expected,
                          t5_json_type_name(field->type));
}

int t5_field_string(struct t5_buf *out, const struct t5_record *record,
                    const struct t5_field *field, struct t5_err *err)
{
    if (field->type != T5_JSON_STRING)
        return wrong_type(record, field, "a string", err);
    const char *p = field->value + 1, *end = field->value + field->value_n - 1;
    if (t5_buf_reserve(out, field->value_n, err)) /* escapes never grow when undone */
        return -1;
    char *to = out->data + out->n;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t run = (size_t)((slash ? slash : end) - p);
        memcpy(to, p, run);
        to += run;
        p += run;
        if (slash)
            to += t5_json_take((unsigned char *)to, &p, end);
    }
    out->n = (size_t)(to - out->data);
    return 0;
}

/* The text is checked JSON: only its punctuation is looked for. */
int t5_field_next_string(struct t5_field *item, const char **at, const struct t5_record *record,
                         const struct t5_field *array, struct t5_err *err)
{
    const char *p = *at ? *at : array->value + 1, *end;
    if (array->type != T5_JSON_ARRAY)
        return wrong_type(record, array, "an array", err);
    while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n' || *p == ',')
        p++;
    if (*p == ']')
        return 0;
    if (*p != '"') {
        char name[T5_ESCAPED];
        return t5_record_fail(record, p, err, "an item of \"%s\" is not a string",
                              t5_escape(name, array->key, array->key_n));
    }
    for (end = p + 1; *end != '"'; end++)
        end += *end == '\\';
    *item = *array;
    item->type = T5_JSON_STRING;
    item->value = p;
    item->value_n = (size_t)(end + 1 - p);
    *at = end + 1;
    return 1;
}

static int bad_id(const struct t5_record *record, const struct t5_field *field, const char *item,
                  const char *end, size_t index, int64_t limit, struct t5_err *err)
{
    char name[T5_ESCAPED], shown[T5_ESCAPED];
    size_t n = 0;
    while (item + n < end && item[n] != ',' && item[n] != ' ' && item[n] != '\t')
        n++;
    return t5_record_fail(record, item, err,
                          "\"%s\": item %zu: expected a whole number from 0 to %lld, found %s",
                          t5_escape(name, field->key, field->key_n), index, (long long)limit - 1,
                          t5_escape(shown, item, n ? n : 1));
}

static const char *skip_blank(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

int t5_field_ids(struct t5_buf *out, const struct t5_record *record, const struct t5_field *field,
                 int64_t limit, struct t5_err *err)
{
    if (field->type != T5_JSON_ARRAY)
        return wrong_type(record, field, "an array of whole numbers", err);
    const char *end = field->value + field->value_n - 1; /* at the bracket */
    const char *p = skip_blank(field->value + 1, end);
    out->n = 0;
    /* An item and its comma take two bytes at least, so 4 bytes an id are at most twice the text.
     * */
    if (t5_buf_reserve(out, 2 * field->value_n + 4, err))
        return -1;
    int32_t *ids = (int32_t *)out->data;
    size_t n = 0;
    while (p < end) {
        const char *item = p;
        int64_t id = 0;
        for (; p < end && *p >= '0' && *p <= '9' && id < limit; p++)
            id = 10 * id + (*p - '0');
        if (p == item || id >= limit || (p < end && !strchr(", \t\r\n", *p)))
            return bad_id(record, field, item, end, n, limit, err);
        ids[n++] = (int32_t)id;
        p = skip_blank(p, end);
        if (p < end)
            p = skip_blank(p + 1, end); /* the scanner saw that this is a comma */
    }
    out->n = n * sizeof *ids;
    return 0;
}

int t5_record_splice(struct t5_buf *out, const struct t5_record *record, const char *members,
                     size_t n, struct t5_err *err)
{
    return t5_record_splice_replacing(out, record, NULL, 0, members, n, err);
}

static int is_dropped(const struct t5_field *f, const char *const *drop, int n_drop)
{
    for (int i = 0; i < n_drop; i++)
        if (has_name(f, drop[i], strlen(drop[i])))
            return 1;
    return 0;
}

/* Line breaks and the white space around them: only between tokens, since strings have none. */
static void join_lines(struct t5_buf *out, size_t from)
{
    char *to = out->data + from, *end = out->data + out->n;
    for (const char *p = to; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t run = (size_t)((newline ? newline : end) - p);
        memmove(to, p, run);
        to += run;
        if (!newline)
            break;
        if (to[-1] == '\r')
            to--;
        for (p = newline + 1; p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'); p++)
            ;
    }
    out->n = (size_t)(to - out->data);
}

int t5_record_splice_replacing(struct t5_buf *out, const struct t5_record *record,
                               const char *const *drop, int n_drop, const char *members, size_t n,
                               struct t5_err *err)
{
    if (t5_buf_reserve(out, record->n + n + 2, err))
        return -1;
    size_t before = out->n;
    const char *kept = record->text + 1; /* written up to here, counted in the record's bytes */
    const char *start = record->text, *end = record->text + record->n - 1;
    int any = 0;
    for (int i = 0; i < record->n_fields; i++) {
        const struct t5_field *f = &record->fields[i];
        const char *behind = f->value + f->value_n;
        if (n_drop && is_dropped(f, drop, n_drop)) {
            if (t5_buf_append(out, start, (size_t)(kept - start), err))
                return -1;
            /* The first member kept brings no comma; a later one brings the one before it. */
            start = kept = any ? behind : i + 1 < record->n_fields ? f[1].key - 1 : end;
            continue;
        }
        kept = behind;
        any = 1;
    }
    if (t5_buf_append(out, start, (size_t)(end - start), err) ||
        (any && n && t5_buf_append(out, ",", 1, err)) || t5_buf_append(out, members, n, err))
        return -1;
    if (record->number)
        join_lines(out, before);
    return t5_buf_append(out, "}\n", 2, err);
}
