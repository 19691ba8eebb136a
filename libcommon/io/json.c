/* json.c - the strict scanner (RFC 8259 and no duplicate keys), and undoing of escapes. Nesting is
 * a counter and a bit a level, so depth costs no stack. Speed matters: every program reads records.
 * */
/* SPDX-License-Identifier: MIT */
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct walk { /* one scan under way */
    struct t5_json_scan *scan;
    const char *text;
    size_t at, n;
    int depth;
    uint64_t objects;                  /* bit d: level d is an object, else an array */
    uint32_t first_key[T5_JSON_DEPTH]; /* where the level's keys begin in scan->keys */
    const char *noun;                  /* "record" or "text", for messages */
    struct t5_err *err;
};

static int bad(struct walk *w, size_t at, const char *what)
{
    w->scan->bad = at;
    return t5_fail(w->err, "%s", what);
}

static int cut(struct walk *w, const char *where)
{
    w->scan->bad = w->n;
    return t5_fail(w->err, "%s ends inside %s", w->noun, where);
}

static int in_object(const struct walk *w)
{
    return w->depth > 0 && (w->objects >> (w->depth - 1) & 1);
}

static int unexpected(struct walk *w, const char *expected)
{
    if (w->at >= w->n)
        return w->depth == 0 ? bad(w, w->n, "nothing here")
                             : cut(w, in_object(w) ? "an object" : "an array");
    char shown[T5_ESCAPED];
    size_t len = t5_utf8_length(w->text + w->at, w->n - w->at);
    w->scan->bad = w->at;
    return t5_fail(w->err, "expected %s, found '%s'", expected,
                   t5_escape(shown, w->text + w->at, len ? len : 1));
}

static inline void skip_space(struct walk *w)
{
    while (w->at < w->n) {
        char c = w->text[w->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            return;
        w->at++;
    }
}

/* ---- strings ------------------------------------------------------------------------------ */

/* Bytes from s on that are printable ASCII but neither quote nor backslash; looks at 8 at once. */
static size_t plain_run(const char *s, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, s + i, 8);
        uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\');
        /* A borrow can mark a byte above a true hit, never below the first one: the loop only
         * asks whether there is a hit at all. */
        uint64_t hit = (v | (v - ones * 0x20) | (quote - ones) | (slash - ones)) & tops;
        if (hit)
            break;
    }
    for (; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
            break;
    }
    return i;
}

static int hex4(const char *s, size_t n, unsigned *out)
{
    if (n < 4)
        return -1;
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)s[i], low = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v << 4 | (unsigned)(c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v << 4 | (unsigned)(low - 'a' + 10);
        else
            return -1;
    }
    *out = v;
    return 0;
}

/* At a backslash. */
static int scan_escape(struct walk *w)
{
    const char *s = w->text + w->at;
    size_t left = w->n - w->at;
    if (left < 2)
        return cut(w, "a string");
    if (s[1] != 'u') {
        if (!s[1] || !strchr("\"\\/bfnrt", s[1]))
            return bad(w, w->at, "not an escape that JSON knows");
        w->at += 2;
        return 0;
    }
    unsigned high, low;
    if (hex4(s + 2, left - 2, &high))
        return memchr(s, '"', left) ? bad(w, w->at, "\\u without four hexadecimal digits")
                                    : cut(w, "a string");
    if (high >= 0xdc00 && high < 0xe000)
        return bad(w, w->at, "lone surrogate escape");
    w->at += 6;
    if (high >= 0xd800 && high < 0xdc00) {
        if (left < 12 || s[6] != '\\' || s[7] != 'u' || hex4(s + 8, left - 8, &low) ||
            low < 0xdc00 || low >= 0xe000)
            return bad(w, w->at - 6, "lone surrogate escape");
        w->at += 6;
    }
    return 0;
}

/* At the opening quote; leaves at after the closing one. */
static int scan_string(struct walk *w, int *escaped)
{
    *escaped = 0;
    w->at++;
    for (;;) {
        w->at += plain_run(w->text + w->at, w->n - w->at);
        if (w->at >= w->n)
            return cut(w, "a string");
        unsigned char c = (unsigned char)w->text[w->at];
        if (c == '"') {
            w->at++;
            return 0;
        }
        if (c == '\\') {
            *escaped = 1;
            if (scan_escape(w))
                return -1;
        } else if (c < 0x20) {
            return bad(w, w->at, c ? "control character in a string" : "NUL byte in a string");
        } else {
            size_t len = t5_utf8_length(w->text + w->at, w->n - w->at);
            if (len == 0)
                return bad(w, w->at, "not valid UTF-8");
            w->at += len;
        }
    }
}

int t5_json_take(unsigned char out[4], const char **p, const char *end)
{
    const char *s = *p;
    if (*s != '\\') {
        *p = s + 1;
        out[0] = (unsigned char)*s;
        return 1;
    }
    if (s[1] != 'u') {
        const char *from = "\"\\/bfnrt", *to = "\"\\/\b\f\n\r\t";
        *p = s + 2;
        out[0] = (unsigned char)to[strchr(from, s[1]) - from];
        return 1;
    }
    unsigned c = 0, low = 0;
    hex4(s + 2, (size_t)(end - s - 2), &c);
    *p = s + 6;
    if (c >= 0xd800 && c < 0xdc00) {
        hex4(s + 8, (size_t)(end - s - 8), &low);
        *p = s + 12;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    return (int)t5_utf8_encode(out, c);
}

/* Order of two checked strings (insides), escapes undone, as memcmp would have it. */
static int compare(const char *a, size_t na, const char *b, size_t nb)
{
    const char *enda = a + na, *endb = b + nb;
    unsigned char ca[4], cb[4];
    int la = 0, lb = 0, ia = 0, ib = 0;
    for (;;) {
        if (ia == la)
            la = a < enda ? t5_json_take(ca, &a, enda) : 0, ia = 0;
        if (ib == lb)
            lb = b < endb ? t5_json_take(cb, &b, endb) : 0, ib = 0;
        if (!la || !lb)
            return (la > 0) - (lb > 0);
        if (ca[ia] != cb[ib])
            return ca[ia] < cb[ib] ? -1 : 1;
        ia++, ib++;
    }
}

/* ---- keys --------------------------------------------------------------------------------- */

static int add_key(struct walk *w, size_t at, size_t n, int escaped)
{
    struct t5_json_scan *scan = w->scan;
    if (scan->n_keys == scan->capacity_keys) {
        size_t capacity = scan->capacity_keys ? 2 * scan->capacity_keys : 64;
        void *p = realloc(scan->keys, capacity * sizeof *scan->keys);
        if (!p)
            return t5_fail_memory(w->err, capacity * sizeof *scan->keys, "keys");
        scan->keys = p;
        scan->capacity_keys = capacity;
    }
    scan->keys[scan->n_keys++] = (struct t5_json_key){(uint32_t)at, (uint32_t)n, escaped};
    return 0;
}

static int compare_keys(const char *text, const struct t5_json_key *a, const struct t5_json_key *b)
{
    if (a->escaped || b->escaped)
        return compare(text + a->at, a->n, text + b->at, b->n);
    int c = memcmp(text + a->at, text + b->at, a->n < b->n ? a->n : b->n);
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

static int by_name(const void *a, const void *b, void *text)
{
    const struct t5_json_key *x = a, *y = b;
    int c = compare_keys(text, x, y);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

static int duplicate(struct walk *w, const struct t5_json_key *key)
{
    char shown[T5_ESCAPED];
    w->scan->bad = key->at - 1;
    return t5_fail(w->err, "duplicate key \"%s\"", t5_escape(shown, w->text + key->at, key->n));
}

/* The keys of the object that closes: none twice. Few are compared pairwise, many are sorted, so
 * that a million keys take n log n. */
static int check_keys(struct walk *w)
{
    struct t5_json_key *keys = w->scan->keys + w->first_key[w->depth - 1];
    size_t n = w->scan->n_keys - w->first_key[w->depth - 1];
    if (n <= 12) {
        for (size_t i = 1; i < n; i++)
            for (size_t j = 0; j < i; j++)
                if ((keys[i].n == keys[j].n || keys[i].escaped || keys[j].escaped) &&
                    compare_keys(w->text, &keys[i], &keys[j]) == 0)
                    return duplicate(w, &keys[i]);
    } else {
        qsort_r(keys, n, sizeof *keys, by_name, (void *)w->text);
        const struct t5_json_key *first = NULL;
        for (size_t i = 1; i < n; i++)
            if (compare_keys(w->text, &keys[i - 1], &keys[i]) == 0 &&
                (!first || keys[i].at < first->at))
                first = &keys[i];
        if (first)
            return duplicate(w, first);
    }
    w->scan->n_keys = w->first_key[w->depth - 1];
    return 0;
}

static int add_field(struct walk *w, size_t at, size_t n)
{
    struct t5_json_scan *scan = w->scan;
    if (scan->n_fields == scan->capacity_fields) {
        size_t capacity = scan->capacity_fields ? 2 * scan->capacity_fields : 16;
        void *p = realloc(scan->fields, capacity * sizeof *scan->fields);
        if (!p)
            return t5_fail_memory(w->err, capacity * sizeof *scan->fields, "fields");
        scan->fields = p;
        scan->capacity_fields = capacity;
    }
    scan->fields[scan->n_fields++] = (struct t5_field){.key = w->text + at, .key_n = n};
    return 0;
}

/* ---- values ------------------------------------------------------------------------------- */

static int is_digit(const struct walk *w)
{
    return w->at < w->n && w->text[w->at] >= '0' && w->text[w->at] <= '9';
}

static int digits(struct walk *w)
{
    if (!is_digit(w))
        return w->at >= w->n ? cut(w, "a number") : unexpected(w, "a digit");
    while (is_digit(w))
        w->at++;
    return 0;
}

static int scan_number(struct walk *w)
{
    size_t start = w->at;
    if (w->text[w->at] == '-')
        w->at++;
    if (w->at < w->n && w->text[w->at] == '0') {
        w->at++;
        if (is_digit(w))
            return bad(w, start, "number with a leading zero");
    } else if (digits(w)) {
        return -1;
    }
    if (w->at < w->n && w->text[w->at] == '.') {
        w->at++;
        if (digits(w))
            return -1;
    }
    if (w->at < w->n && (w->text[w->at] | 0x20) == 'e') {
        w->at++;
        if (w->at < w->n && (w->text[w->at] == '+' || w->text[w->at] == '-'))
            w->at++;
        if (digits(w))
            return -1;
    }
    return 0;
}

static int scan_word(struct walk *w, const char *word)
{
    size_t n = strlen(word), left = w->n - w->at;
    if (left >= n && memcmp(w->text + w->at, word, n) == 0) {
        w->at += n;
        return 0;
    }
    if (left < n && memcmp(w->text + w->at, word, left) == 0)
        return cut(w, "a word");
    return unexpected(w, "a JSON value");
}

static int scan_scalar(struct walk *w, enum t5_json_type *type)
{
    int escaped;
    switch (w->text[w->at]) {
    case '"':
        *type = T5_JSON_STRING;
        return scan_string(w, &escaped);
    case 't':
        *type = T5_JSON_TRUE;
        return scan_word(w, "true");
    case 'f':
        *type = T5_JSON_FALSE;
        return scan_word(w, "false");
    case 'n':
        *type = T5_JSON_NULL;
        return scan_word(w, "null");
    default:
        *type = T5_JSON_NUMBER;
        return is_digit(w) || w->text[w->at] == '-' ? scan_number(w)
                                                    : unexpected(w, "a JSON value");
    }
}

static int push(struct walk *w, int object)
{
    if (w->depth == T5_JSON_DEPTH)
        return bad(w, w->at, "nested more than 64 levels deep");
    w->first_key[w->depth] = (uint32_t)w->scan->n_keys;
    w->objects &= ~((uint64_t)1 << w->depth);
    w->objects |= (uint64_t)(object != 0) << w->depth;
    w->depth++;
    w->at++;
    return 0;
}

/* At the opening quote of a key; leaves at behind the colon. */
static int scan_key(struct walk *w, int keep)
{
    int escaped;
    size_t start = w->at + 1;
    if (w->at >= w->n || w->text[w->at] != '"')
        return unexpected(w, "a key in double quotes");
    if (scan_string(w, &escaped) || add_key(w, start, w->at - 1 - start, escaped))
        return -1;
    if (keep && w->depth == 1 && add_field(w, start, w->at - 1 - start))
        return -1;
    skip_space(w);
    if (w->at >= w->n || w->text[w->at] != ':')
        return unexpected(w, "':'");
    w->at++;
    return 0;
}

/* Behind a value: the comma or the brackets that follow it. 1: another member or item comes. */
static int scan_after(struct walk *w, int keep)
{
    while (w->depth > 0) {
        int object = in_object(w);
        skip_space(w);
        char c = w->at < w->n ? w->text[w->at] : 0;
        if (c == ',') {
            w->at++;
            return 1;
        }
        if (c != (object ? '}' : ']'))
            return unexpected(w, object ? "',' or '}'" : "',' or ']'");
        if (object && check_keys(w))
            return -1;
        w->at++;
        w->depth--;
        if (keep && w->depth == 1) {
            struct t5_field *f = &w->scan->fields[w->scan->n_fields - 1];
            f->value_n = (size_t)(w->text + w->at - f->value);
        }
    }
    return 0;
}

/* A value's first byte is at w->at. 0: the value is complete; 1: its first member or item comes
 * next. */
static int scan_value(struct walk *w, int keep)
{
    if (w->at >= w->n)
        return unexpected(w, "a JSON value");
    size_t start = w->at;
    char c = w->text[start];
    int open = c == '{' || c == '[', outer = keep && w->depth == 1;
    enum t5_json_type type = c == '{' ? T5_JSON_OBJECT : T5_JSON_ARRAY;
    if (open ? push(w, c == '{') : scan_scalar(w, &type))
        return -1;
    if (outer) {
        struct t5_field *f = &w->scan->fields[w->scan->n_fields - 1];
        f->type = type;
        f->value = w->text + start;
        f->value_n = w->at - start; /* containers: set again when they close */
    }
    if (!open)
        return 0;
    skip_space(w);
    return !(w->at < w->n && w->text[w->at] == (c == '{' ? '}' : ']'));
}

static int scan_document(struct walk *w, int keep)
{
    for (;;) {
        skip_space(w);
        if (in_object(w)) {
            if (scan_key(w, keep))
                return -1;
            skip_space(w);
        }
        int rc = scan_value(w, keep);
        if (rc < 0)
            return -1;
        if (rc == 0) {
            rc = scan_after(w, keep);
            if (rc <= 0)
                return rc;
        }
    }
}

int t5_json_scan(struct t5_json_scan *scan, const char *text, size_t n, int want_record,
                 struct t5_err *err)
{
    struct walk w = {.scan = scan, .text = text, .n = n, .err = err};
    w.noun = want_record ? "record" : "text";
    scan->n_keys = scan->n_fields = scan->begin = scan->end = scan->bad = 0;
    if (n > UINT32_MAX)
        return bad(&w, 0, "longer than 4 GiB");
    skip_space(&w);
    scan->begin = w.at;
    if (want_record && (w.at >= n || text[w.at] != '{'))
        return unexpected(&w, "an object");
    if (scan_document(&w, want_record))
        return -1;
    scan->end = w.at;
    skip_space(&w);
    if (w.at < n)
        return bad(&w, w.at,
                   want_record ? "more text after the record" : "more text after the value");
    return 0;
}

void t5_json_scan_free(struct t5_json_scan *scan)
{
    free(scan->keys);
    free(scan->fields);
    *scan = (struct t5_json_scan){0};
}

int t5_json_check(const char *text, size_t n, struct t5_err *err)
{
    struct t5_json_scan scan = {0};
    int rc = t5_json_scan(&scan, text, n, 0, err);
    if (rc && err->status == T5_BAD_INPUT)
        t5_err_at(err, "byte %zu", scan.bad);
    t5_json_scan_free(&scan);
    return rc;
}

const char *t5_json_type_name(enum t5_json_type type)
{
    static const char *const names[] = {"null",     "false",    "true",     "a number",
                                        "a string", "an array", "an object"};
    return names[type];
}

/* ---- writing ------------------------------------------------------------------------------ */

int t5_json_quote(struct t5_buf *out, const char *text, size_t n, struct t5_err *err)
{
    if (t5_buf_reserve(out, n + 2, err))
        return -1;
    out->data[out->n++] = '"';
    for (size_t i = 0; i < n;) {
        size_t run = plain_run(text + i, n - i);
        if (t5_buf_append(out, text + i, run, err))
            return -1;
        i += run;
        if (i >= n)
            break;
        unsigned char c = (unsigned char)text[i];
        size_t len = t5_utf8_length(text + i, n - i);
        int rc;
        if (c >= 0x80) {
            rc = len ? t5_buf_append(out, text + i, len, err)
                     : t5_buf_append(out, "\xef\xbf\xbd", 3, err);
            i += len ? len : 1;
        } else {
            const char *from = "\"\\\b\f\n\r\t", *to = "\"\\bfnrt",
                       *hit = c ? strchr(from, c) : NULL;
            rc = hit ? t5_buf_printf(out, err, "\\%c", to[hit - from])
                     : t5_buf_printf(out, err, "\\u%04x", c);
            i++;
        }
        if (rc)
            return -1;
    }
    return t5_buf_append(out, "\"", 1, err);
}
