/* tokenize_record.c - one line to one line: the fields a record has, and the ids or text made from
 * them. */
/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "text/tokenize_inside.h"

/* Appends "[1,2,3]". */
static int append_ids(struct t5_buf *out, const int32_t *ids, size_t n, struct t5_err *err)
{
    if (t5_buf_reserve(out, 11 * n + 2, err)) /* ten digits and a comma */
        return -1;
    char *p = out->data + out->n;
    *p++ = '[';
    for (size_t i = 0; i < n; i++) {
        char digits[10];
        int len = 0;
        for (uint32_t v = (uint32_t)ids[i]; v || !len; v /= 10)
            digits[len++] = (char)('0' + v % 10);
        if (i)
            *p++ = ',';
        while (len)
            *p++ = digits[--len];
    }
    *p++ = ']';
    out->n = (size_t)(p - out->data);
    return 0;
}

/* ---- text to ids -------------------------------------------------------------------------- */

struct limit {
    const char *option; /* its name, for messages */
    int64_t max;        /* tokens, </s> included */
};

static int too_long(struct t5_buf *ids, struct t5_tokenize_worker *w, const char *at,
                    struct limit limit, struct t5_err *err)
{
    if (w->options->on_long == T5_LONG_DROP)
        return T5_DROPPED;
    if (t5_encode(ids, w->encoder, w->text.data, w->text.n, 0, err)) /* how long it is */
        return -1;
    return t5_record_fail(&w->record, at, err, "%zu tokens, more than %s %lld",
                          ids->n / sizeof(int32_t), limit.option, (long long)limit.max);
}

/* The text is too long and gives way before the tail. A tail that starts with white space has the
 * same ids alone as behind a text. */
static int cut_before_tail(struct t5_buf *ids, const struct t5_buf *tail, int64_t max,
                           struct t5_err *err)
{
    const int32_t end = T5_EOS;
    ids->n = (size_t)(max - 1) * sizeof end - tail->n;
    return t5_buf_append(ids, tail->data, tail->n, err) || t5_buf_append(ids, &end, sizeof end, err)
               ? -1
               : 0;
}

/* Finds the characters behind the <unk> of ids, which w->text gave; cut: behind it came the tail.
 */
static int find_unknown(struct t5_tokenize_worker *w, const struct t5_buf *ids,
                        const struct t5_buf *tail, int cut, struct t5_err *err)
{
    const int32_t *id = (const int32_t *)ids->data;
    size_t n = ids->n / sizeof *id, i = 0;
    while (i < n && id[i] != T5_UNK)
        i++;
    if (i == n)
        return 0;
    size_t head = n - (cut ? tail->n / sizeof *id : 0);
    if (t5_encode_unknown(&w->found, &w->scratch, w->encoder, w->text.data, w->text.n, head, err))
        return -1;
    const char *end = cut ? t5_template_tail(w->options->pattern) : "";
    return t5_encode_unknown(&w->found, &w->scratch, w->encoder, end, strlen(end), 0, err);
}

/* w->text to ids; at: its place in the record, or NULL. 0, T5_DROPPED or -1. */
static int encode_text(struct t5_buf *ids, struct t5_tokenize_worker *w, const char *at,
                       struct limit limit, const struct t5_buf *tail, struct t5_err *err)
{
    const struct t5_tokenize_options *o = w->options;
    int may_cut = o->on_long == T5_LONG_TRUNCATE;
    /* One id above the limit tells a text that is too long; the rest need not be known. */
    size_t enough = (size_t)limit.max + (!may_cut || tail->n);
    if (o->mode == T5_TOKENIZE_STATS)
        enough = 0; /* counting is about whole texts, so that one can choose where to cut */
    if (t5_encode(ids, w->encoder, w->text.data, w->text.n, enough, err))
        return -1;
    int cut = enough && ids->n > (size_t)limit.max * sizeof(int32_t);
    if (cut && !may_cut)
        return too_long(ids, w, at, limit, err);
    if (cut && cut_before_tail(ids, tail, limit.max, err))
        return -1;
    return o->report_unk ? find_unknown(w, ids, tail, cut, err) : 0;
}

/* Sets w->text to the source text, and *at to its place where it is one field. */
static int source_text(struct t5_tokenize_worker *w, const char **at, struct t5_err *err)
{
    const struct t5_template_part one[] = {{.text = (char *)w->options->prefix},
                                           {.field = (char *)w->options->source}};
    const struct t5_template *pattern = w->options->pattern;
    const struct t5_template_part *parts = pattern ? pattern->parts : one;
    size_t n = pattern ? pattern->n : 2;
    w->text.n = 0;
    for (size_t i = 0; i < n; i++) {
        const char *text = parts[i].text;
        if (text) {
            if (t5_buf_append(&w->text, text, strlen(text), err))
                return -1;
            continue;
        }
        const struct t5_field *field = t5_record_need(&w->record, parts[i].field, err);
        if (!field || t5_field_string(&w->text, &w->record, field, err))
            return -1;
        *at = pattern ? NULL : field->value;
    }
    return 0;
}

static int encode_source(struct t5_tokenize_worker *w, struct t5_err *err)
{
    const struct limit limit = {"--max-source", w->options->max_source};
    const char *at = NULL;
    if (source_text(w, &at, err))
        return -1;
    return encode_text(&w->input, w, at, limit, &w->tail, err);
}

static int encode_target(struct t5_tokenize_worker *w, const struct t5_field *field,
                         struct t5_err *err)
{
    static const struct t5_buf no_tail;
    const struct limit limit = {"--max-target", w->options->max_target};
    w->text.n = 0;
    if (t5_field_string(&w->text, &w->record, field, err))
        return -1;
    return encode_text(&w->labels, w, field->value, limit, &no_tail, err);
}

static int put_members(struct t5_buf *out, struct t5_tokenize_worker *w, int has_labels,
                       struct t5_err *err)
{
    static const char *const made[] = {"input_ids", "labels"};
    w->members.n = 0;
    if (t5_buf_append(&w->members, "\"input_ids\":", 12, err) ||
        append_ids(&w->members, (int32_t *)w->input.data, w->input.n / sizeof(int32_t), err))
        return -1;
    if (has_labels &&
        (t5_buf_append(&w->members, ",\"labels\":", 10, err) ||
         append_ids(&w->members, (int32_t *)w->labels.data, w->labels.n / sizeof(int32_t), err)))
        return -1;
    return t5_record_splice_replacing(out, &w->record, made, 1 + has_labels, w->members.data,
                                      w->members.n, err);
}

static int put_binary(struct t5_buf *out, const struct t5_tokenize_worker *w, int has_labels,
                      struct t5_err *err)
{
    int64_t n[2] = {(int64_t)(w->input.n / sizeof(int32_t)),
                    has_labels ? (int64_t)(w->labels.n / sizeof(int32_t)) : -1};
    if (t5_buf_append(out, n, sizeof n, err))
        return -1;
    if (w->options->mode == T5_TOKENIZE_STATS)
        return 0;
    return t5_buf_append(out, w->input.data, w->input.n, err) ||
                   (has_labels && t5_buf_append(out, w->labels.data, w->labels.n, err))
               ? -1
               : 0;
}

/* 0, T5_DROPPED or -1. */
static int encode_record(struct t5_buf *out, struct t5_tokenize_worker *w, struct t5_err *err)
{
    const struct t5_tokenize_options *o = w->options;
    const struct t5_field *target = t5_record_find(&w->record, o->target);
    w->found.n = 0;
    int rc = encode_source(w, err);
    if (rc >= 0 && target) { /* a record that is bad is so though it could be dropped */
        int other = encode_target(w, target, err);
        rc = other ? other : rc;
    }
    if (rc)
        return rc;
    if (t5_unk_add(&w->unk, (struct t5_unknown *)w->found.data,
                   w->found.n / sizeof(struct t5_unknown), err))
        return -1;
    return o->mode == T5_TOKENIZE_JSONL ? put_members(out, w, target != NULL, err)
                                        : put_binary(out, w, target != NULL, err);
}

/* ---- ids to text -------------------------------------------------------------------------- */

static int decode_list(struct t5_tokenize_worker *w, const struct t5_field *field,
                       struct t5_err *err)
{
    if (t5_field_ids(&w->input, &w->record, field, t5_tokenizer_vocab(w->tokenizer), err))
        return -1;
    w->text.n = 0;
    if (t5_decode(&w->text, w->tokenizer, (int32_t *)w->input.data, w->input.n / sizeof(int32_t),
                  err))
        return -1;
    return t5_json_quote(&w->members, w->text.data, w->text.n, err);
}

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
        p++;
    return p;
}

/* A list of lists (t5-generate -n) gives a list of texts. The scanner has passed the brackets. */
static int decode_lists(struct t5_tokenize_worker *w, const struct t5_field *field,
                        struct t5_err *err)
{
    const char *p = skip_space(field->value + 1);
    int first = 1;
    if (t5_buf_append(&w->members, "[", 1, err))
        return -1;
    while (*p != ']') {
        if (*p != '[')
            return t5_record_fail(&w->record, p, err, "\"output_ids\": lists and single ids mixed");
        const char *end = strchr(p, ']') + 1; /* deeper lists fail in t5_field_ids */
        struct t5_field inner = *field;
        inner.value = p;
        inner.value_n = (size_t)(end - p);
        if ((!first && t5_buf_append(&w->members, ",", 1, err)) || decode_list(w, &inner, err))
            return -1;
        first = 0;
        p = skip_space(end);
        if (*p == ',')
            p = skip_space(p + 1);
    }
    return t5_buf_append(&w->members, "]", 1, err);
}

static int decode_record(struct t5_buf *out, struct t5_tokenize_worker *w, struct t5_err *err)
{
    static const char *const made[] = {"prediction"};
    const struct t5_field *field = t5_record_need(&w->record, "output_ids", err);
    w->members.n = 0;
    if (!field || t5_buf_append(&w->members, "\"prediction\":", 13, err))
        return -1;
    int nested = field->type == T5_JSON_ARRAY && *skip_space(field->value + 1) == '[';
    if (nested ? decode_lists(w, field, err) : decode_list(w, field, err))
        return -1;
    return t5_record_splice_replacing(out, &w->record, made, 1, w->members.data, w->members.n, err);
}

int t5_tokenize_line(struct t5_buf *out, struct t5_tokenize_worker *worker,
                     const struct t5_line *line, struct t5_err *err)
{
    size_t before = out->n;
    int rc = t5_record_from_line(&worker->record, line, err);
    if (rc != 1)
        return rc;
    rc = worker->options->mode == T5_TOKENIZE_DECODE ? decode_record(out, worker, err)
                                                     : encode_record(out, worker, err);
    if (rc)
        out->n = before;
    return rc ? rc : 1;
}
