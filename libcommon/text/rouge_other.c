/* rouge_other.c - the partners in a second file: see rouge_other.h. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_other.h"

#include <stdlib.h>
#include <string.h>

struct span {
    size_t at, n; /* in bytes */
};

struct partner {
    struct span check, id;
    size_t first, n; /* its texts */
    int64_t line;
    int has_check, taken;
};

struct t5_rouge_other {
    struct t5_rouge_other_fields fields;
    struct t5_texts texts;
    struct t5_buf bytes, partners; /* values one behind the other; struct partner */
    struct t5_buf key;             /* scratch */
    char name[T5_ESCAPED];
};

static struct partner *partners(const struct t5_rouge_other *other)
{
    return (struct partner *)(void *)other->partners.data;
}

static size_t count(const struct t5_rouge_other *other)
{
    return other->partners.n / sizeof(struct partner);
}

/* A value as bytes that are equal when the values are: `"` and a string without its escapes, any
 * other type as it is written. */
static int put_value(struct t5_buf *out, const struct t5_record *record,
                     const struct t5_field *field, struct t5_err *err)
{
    if (field->type != T5_JSON_STRING)
        return t5_buf_append(out, field->value, field->value_n, err);
    return t5_buf_append(out, "\"", 1, err) ? -1 : t5_field_string(out, record, field, err);
}

static int put_id(struct t5_buf *out, const struct t5_record *record, const char *name,
                  struct t5_err *err)
{
    const struct t5_field *field = t5_record_need(record, name, err);
    char shown[T5_ESCAPED];
    if (!field)
        return -1;
    if (field->type != T5_JSON_STRING && field->type != T5_JSON_NUMBER)
        return t5_record_fail(record, field->value, err, "\"%s\" is no string and no number",
                              t5_escape(shown, name, strlen(name)));
    return put_value(out, record, field, err);
}

static int add(struct t5_rouge_other *other, const struct t5_record *record, struct t5_err *err)
{
    struct partner one = {.line = record->line, .first = t5_texts_count(&other->texts)};
    const struct t5_rouge_other_fields *fields = &other->fields;
    const struct t5_field *text = t5_record_need(record, fields->text, err);
    const struct t5_field *check = fields->check ? t5_record_find(record, fields->check) : NULL;
    if (!text || t5_texts_read(&other->texts, record, text, fields->lists, err))
        return -1;
    one.n = t5_texts_count(&other->texts) - one.first;
    one.check.at = other->bytes.n;
    one.has_check = check != NULL;
    if (check && put_value(&other->bytes, record, check, err))
        return -1;
    one.check.n = other->bytes.n - one.check.at;
    one.id.at = other->bytes.n;
    if (fields->id && put_id(&other->bytes, record, fields->id, err))
        return -1;
    one.id.n = other->bytes.n - one.id.at;
    return t5_buf_append(&other->partners, &one, sizeof one, err);
}

static int compare_ids(const char *a, size_t na, const char *b, size_t nb)
{
    int order = memcmp(a, b, na < nb ? na : nb);
    return order ? order : (na > nb) - (na < nb);
}

static int by_id(const void *a, const void *b, void *bytes)
{
    const struct partner *x = a, *y = b;
    const char *base = bytes;
    int order = compare_ids(base + x->id.at, x->id.n, base + y->id.at, y->id.n);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static int sort(struct t5_rouge_other *other, struct t5_err *err)
{
    struct partner *all = partners(other);
    const char *bytes = other->bytes.data;
    size_t n = count(other);
    if (n)
        qsort_r(all, n, sizeof *all, by_id, other->bytes.data);
    for (size_t i = 1; i < n; i++)
        if (!compare_ids(bytes + all[i - 1].id.at, all[i - 1].id.n, bytes + all[i].id.at,
                         all[i].id.n)) {
            char shown[T5_ESCAPED];
            return t5_fail(err, "%s:%lld: the \"%s\" of line %lld again", other->name,
                           (long long)all[i].line,
                           t5_escape(shown, other->fields.id, strlen(other->fields.id)),
                           (long long)all[i - 1].line);
        }
    return 0;
}

static int read_all(struct t5_rouge_other *other, const char *path, size_t max_line,
                    struct t5_err *err)
{
    struct t5_jsonl *reader = NULL;
    struct t5_record record;
    int rc = t5_jsonl_open(&reader, &path, 1, max_line, err);
    while (rc == 0 && (rc = t5_jsonl_next(reader, &record, err)) == 1)
        rc = add(other, &record, err);
    t5_jsonl_close(reader);
    err->skippable = 0;
    return rc;
}

int t5_rouge_other_open(struct t5_rouge_other **out, const char *path,
                        const struct t5_rouge_other_fields *fields, size_t max_line,
                        struct t5_err *err)
{
    struct t5_rouge_other *other = t5_alloc_zeroed(1, sizeof *other, "predictions", err);
    if (!other)
        return -1;
    other->fields = *fields;
    t5_escape(other->name, path, strlen(path));
    if (read_all(other, path, max_line, err) || (fields->id && sort(other, err))) {
        t5_rouge_other_close(other);
        return -1;
    }
    *out = other;
    return 0;
}

void t5_rouge_other_close(struct t5_rouge_other *other)
{
    if (!other)
        return;
    t5_texts_free(&other->texts);
    t5_buf_free(&other->bytes);
    t5_buf_free(&other->partners);
    t5_buf_free(&other->key);
    free(other);
}

/* The partner with the id in other->key, or NULL. */
static struct partner *search(struct t5_rouge_other *other)
{
    size_t low = 0, high = count(other);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct partner *one = partners(other) + middle;
        int order =
            compare_ids(other->key.data, other->key.n, other->bytes.data + one->id.at, one->id.n);
        if (order == 0)
            return one;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int check_same(struct t5_rouge_other *other, const struct partner *one,
                      const struct t5_record *record, struct t5_err *err)
{
    const struct t5_field *field = t5_record_need(record, other->fields.check, err);
    other->key.n = 0;
    if (!field || put_value(&other->key, record, field, err))
        return -1;
    if (one->has_check &&
        compare_ids(other->key.data, other->key.n, other->bytes.data + one->check.at, one->check.n))
        return t5_record_fail(record, field->value, err,
                              "the reference differs from that of its partner, %s:%lld",
                              other->name, (long long)one->line);
    return 0;
}

static int copy_texts(struct t5_texts *out, const struct t5_rouge_other *other,
                      const struct partner *one, struct t5_err *err)
{
    size_t n;
    t5_texts_clear(out);
    for (size_t i = 0; i < one->n; i++) {
        const char *text = t5_texts_at(&n, &other->texts, one->first + i);
        if (t5_texts_add(out, text, n, err))
            return -1;
    }
    return 0;
}

int t5_rouge_other_find(struct t5_texts *out, struct t5_rouge_other *other,
                        const struct t5_record *record, int64_t i, struct t5_err *err)
{
    struct partner *one = NULL;
    other->key.n = 0;
    if (other->fields.id) {
        if (put_id(&other->key, record, other->fields.id, err))
            return -1;
        one = search(other);
    } else if ((uint64_t)i < count(other)) {
        one = partners(other) + i;
    }
    if (!one)
        return t5_record_fail(record, NULL, err, "no partner in %s", other->name);
    if (one->taken)
        return t5_record_fail(record, NULL, err, "its partner, %s:%lld, is another record's, too",
                              other->name, (long long)one->line);
    if (other->fields.check && check_same(other, one, record, err))
        return -1;
    one->taken = 1;
    return copy_texts(out, other, one, err);
}

int t5_rouge_other_end(const struct t5_rouge_other *other, struct t5_err *err)
{
    const struct partner *first = NULL;
    size_t left = 0;
    for (size_t i = 0; i < count(other); i++) {
        const struct partner *one = partners(other) + i;
        left += !one->taken;
        if (!one->taken && (!first || one->line < first->line))
            first = one;
    }
    if (!first)
        return 0;
    return t5_fail(err, "%s:%lld: %zu record%s without a partner, this one first", other->name,
                   (long long)first->line, left, left == 1 ? "" : "s");
}
