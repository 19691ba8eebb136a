/* safetensors_header.c - a strict scanner for the one JSON grammar that a safetensors header has:
 * an object of {dtype, shape, data_offsets} and one of strings. It does not recurse, so depth costs
 * no stack; it reads whole numbers to 2^64 - 1, which general JSON readers do not. */
/* SPDX-License-Identifier: MIT */
#include "io/safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/utf8.h"

struct entry {
    struct t5_tensor tensor;
    uint64_t begin, end;
};

struct cursor {
    const char *text, *p, *end;
    const char *shown;
    struct t5_buf string; /* the last string read, escapes undone, with a NUL behind it */
    struct t5_err *err;
};

static int bad(struct cursor *c, const char *at, const char *what)
{
    return t5_fail(c->err, "%s: byte %zu: %s", c->shown, 8 + (size_t)(at - c->text), what);
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

/* Moves past the byte `want` and any white space before it. */
static int expect(struct cursor *c, char want)
{
    char what[32];
    skip_space(c);
    if (c->p < c->end && *c->p == want) {
        c->p++;
        return 0;
    }
    snprintf(what, sizeof what, c->p < c->end ? "expected '%c'" : "header ends before '%c'", want);
    return bad(c, c->p, what);
}

/* After a member or element: 1 there is another, 0 `close` ended the list, -1 error. */
static int more(struct cursor *c, char close)
{
    skip_space(c);
    if (c->p < c->end && *c->p == ',') {
        c->p++;
        return 1;
    }
    return expect(c, close);
}

static int empty(struct cursor *c, char close)
{
    skip_space(c);
    if (c->p < c->end && *c->p == close) {
        c->p++;
        return 1;
    }
    return 0;
}

static int hex4(struct cursor *c, const char *at, unsigned *out)
{
    *out = 0;
    if (c->end - at < 4)
        return bad(c, at, "string ends inside an escape");
    for (int i = 0; i < 4; i++) {
        unsigned char h = (unsigned char)at[i], low = h | 0x20;
        if (h >= '0' && h <= '9')
            *out = *out << 4 | (unsigned)(h - '0');
        else if (low >= 'a' && low <= 'f')
            *out = *out << 4 | (unsigned)(low - 'a' + 10);
        else
            return bad(c, at + i, "not a hexadecimal digit");
    }
    return 0;
}

/* p is behind "\u". Appends the character as UTF-8; a surrogate pair is one character. */
static int unicode_escape(struct cursor *c)
{
    unsigned u, low;
    char b[4];
    size_t n;
    if (hex4(c, c->p, &u))
        return -1;
    if (u >= 0xdc00 && u < 0xe000)
        return bad(c, c->p, "lone surrogate");
    if (u >= 0xd800 && u < 0xdc00) {
        if (c->end - c->p < 6 || c->p[4] != '\\' || c->p[5] != 'u')
            return bad(c, c->p, "lone surrogate");
        if (hex4(c, c->p + 6, &low))
            return -1;
        if (low < 0xdc00 || low >= 0xe000)
            return bad(c, c->p, "lone surrogate");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
        c->p += 6;
    }
    c->p += 4;
    if (u < 0x80)
        b[0] = (char)u, n = 1;
    else if (u < 0x800)
        b[0] = (char)(0xc0 | u >> 6), b[1] = (char)(0x80 | (u & 63)), n = 2;
    else if (u < 0x10000)
        b[0] = (char)(0xe0 | u >> 12), b[1] = (char)(0x80 | (u >> 6 & 63)),
        b[2] = (char)(0x80 | (u & 63)), n = 3;
    else
        b[0] = (char)(0xf0 | u >> 18), b[1] = (char)(0x80 | (u >> 12 & 63)),
        b[2] = (char)(0x80 | (u >> 6 & 63)), b[3] = (char)(0x80 | (u & 63)), n = 4;
    return t5_buf_append(&c->string, b, n, c->err);
}

static int escape(struct cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (c->p >= c->end)
        return bad(c, c->p, "string ends inside an escape");
    char e = *c->p++;
    if (e == 'u')
        return unicode_escape(c);
    const char *found = e ? strchr(from, e) : NULL;
    if (!found)
        return bad(c, c->p - 1, "unknown escape");
    return t5_buf_append(&c->string, &to[found - from], 1, c->err);
}

/* Reads a string into c->string. */
static int read_string(struct cursor *c)
{
    if (expect(c, '"'))
        return -1;
    c->string.n = 0;
    for (;;) {
        const char *run = c->p;
        while (c->p < c->end && *c->p != '"' && *c->p != '\\') {
            size_t n = t5_utf8_length(c->p, (size_t)(c->end - c->p));
            if (n == 0)
                return bad(c, c->p, "not UTF-8");
            if ((unsigned char)*c->p < 0x20)
                return bad(c, c->p, "control character in a string");
            c->p += n;
        }
        if (t5_buf_append(&c->string, run, (size_t)(c->p - run), c->err))
            return -1;
        if (c->p >= c->end)
            return bad(c, c->p, "header ends inside a string");
        if (*c->p++ == '"')
            break;
        if (escape(c))
            return -1;
    }
    if (t5_buf_append(&c->string, "", 1, c->err))
        return -1;
    c->string.n--;
    return 0;
}

static int string_is(const struct cursor *c, const char *want)
{
    return c->string.n == strlen(want) && memcmp(c->string.data, want, c->string.n) == 0;
}

static char *take_string(struct cursor *c)
{
    char *copy = t5_alloc(c->string.n + 1, 1, "a name", c->err);
    if (copy)
        memcpy(copy, c->string.data, c->string.n + 1);
    return copy;
}

static int read_whole(struct cursor *c, uint64_t *out)
{
    skip_space(c);
    const char *at = c->p;
    *out = 0;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
        uint64_t digit = (uint64_t)(*c->p - '0');
        if (__builtin_mul_overflow(*out, (uint64_t)10, out) ||
            __builtin_add_overflow(*out, digit, out))
            return bad(c, at, "number too large");
        c->p++;
    }
    if (c->p == at || (c->p < c->end && strchr(".eE", *c->p)) || (*at == '0' && c->p > at + 1))
        return bad(c, at, "expected a whole number");
    return 0;
}

static int read_dtype(struct cursor *c, struct t5_tensor *t)
{
    char shown[T5_ESCAPED], name[T5_ESCAPED];
    if (read_string(c))
        return -1;
    if (t5_dtype_parse(&t->type, c->string.data, c->string.n))
        return t5_fail(c->err, "%s: tensor '%s': dtype '%s' not known", c->shown,
                       t5_escape(name, t->name, strlen(t->name)),
                       t5_escape(shown, c->string.data, c->string.n));
    return 0;
}

/* The product is checked at each step and never taken again: [0, 2^63, 4] is empty, [2^63, 4]
 * wraps. */
static int read_shape(struct cursor *c, struct t5_tensor *t)
{
    const char *at = c->p;
    uint64_t elements = 1, dim;
    int rc = 1;
    if (expect(c, '['))
        return -1;
    if (empty(c, ']'))
        rc = 0;
    while (rc == 1) {
        if (read_whole(c, &dim))
            return -1;
        if (t->rank == T5_MAX_RANK)
            return bad(c, at, "more than 8 dimensions");
        if (__builtin_mul_overflow(elements, dim, &elements) || elements > INT64_MAX)
            return bad(c, at, "shape too large");
        t->shape[t->rank++] = dim > INT64_MAX ? INT64_MAX : (int64_t)dim;
        rc = more(c, ']');
    }
    t->elements = (int64_t)elements;
    return rc;
}

static int read_offsets(struct cursor *c, struct entry *e)
{
    return expect(c, '[') || read_whole(c, &e->begin) || expect(c, ',') || read_whole(c, &e->end) ||
                   expect(c, ']')
               ? -1
               : 0;
}

static int check_size(struct cursor *c, struct entry *e, const char *at)
{
    struct t5_tensor *t = &e->tensor;
    uint64_t want;
    char name[T5_ESCAPED];
    t5_escape(name, t->name, strlen(t->name));
    if (e->end < e->begin)
        return t5_fail(c->err, "%s: tensor '%s': ends at %llu, before its beginning at %llu",
                       c->shown, name, (unsigned long long)e->end, (unsigned long long)e->begin);
    if (__builtin_mul_overflow((uint64_t)t->elements, (uint64_t)t5_dtype_size(t->type), &want))
        return bad(c, at, "shape too large");
    if (want != e->end - e->begin)
        return t5_fail(c->err, "%s: tensor '%s': %llu bytes expected from its shape, found %llu",
                       c->shown, name, (unsigned long long)want,
                       (unsigned long long)(e->end - e->begin));
    t->bytes = (size_t)want;
    return 0;
}

/* The value of one tensor's member; e->tensor.name is set. */
static int read_entry(struct cursor *c, struct entry *e)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    int seen = 0, rc = 1;
    skip_space(c);
    const char *at = c->p;
    if (expect(c, '{'))
        return -1;
    if (empty(c, '}'))
        rc = 0;
    while (rc == 1) {
        skip_space(c);
        const char *key = c->p;
        if (read_string(c))
            return -1;
        int which = string_is(c, "dtype")          ? DTYPE
                    : string_is(c, "shape")        ? SHAPE
                    : string_is(c, "data_offsets") ? OFFSETS
                                                   : 0;
        if (!which || (seen & which))
            return bad(c, key,
                       which ? "duplicate key"
                             : "unknown key (dtype, shape, data_offsets expected)");
        seen |= which;
        if (expect(c, ':') || (which == DTYPE   ? read_dtype(c, &e->tensor)
                               : which == SHAPE ? read_shape(c, &e->tensor)
                                                : read_offsets(c, e)))
            return -1;
        rc = more(c, '}');
    }
    if (rc < 0)
        return -1;
    if (seen != (DTYPE | SHAPE | OFFSETS))
        return bad(c, at, "dtype, shape or data_offsets missing");
    return check_size(c, e, at);
}

static int order_pairs(const void *a, const void *b)
{
    return strcmp(((const struct t5_header_pair *)a)->key, ((const struct t5_header_pair *)b)->key);
}

static int read_metadata(struct cursor *c, struct t5_header *h)
{
    int rc = 1, capacity = 0;
    if (expect(c, '{'))
        return -1;
    if (empty(c, '}'))
        return 0;
    while (rc == 1) {
        if (h->n_metadata == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            void *grown = realloc(h->metadata, (size_t)capacity * sizeof *h->metadata);
            if (!grown)
                return t5_fail_memory(c->err, (size_t)capacity * sizeof *h->metadata, "metadata");
            h->metadata = grown;
        }
        struct t5_header_pair *pair = &h->metadata[h->n_metadata];
        *pair = (struct t5_header_pair){0};
        skip_space(c);
        const char *at = c->p;
        if (read_string(c))
            return -1;
        if (strlen(c->string.data) != c->string.n)
            return bad(c, at, "NUL in a name");
        if (!(pair->key = take_string(c)))
            return -1;
        h->n_metadata++; /* from here on t5_header_free frees it */
        if (expect(c, ':') || read_string(c) || !(pair->value = take_string(c)))
            return -1;
        pair->value_n = c->string.n;
        rc = more(c, '}');
    }
    if (rc < 0)
        return -1;
    qsort(h->metadata, (size_t)h->n_metadata, sizeof *h->metadata, order_pairs);
    for (int i = 1; i < h->n_metadata; i++)
        if (strcmp(h->metadata[i].key, h->metadata[i - 1].key) == 0)
            return bad(c, c->p, "duplicate key in __metadata__");
    return 0;
}

struct entries {
    struct entry *items;
    int n, capacity;
};

static int read_tensor(struct cursor *c, struct entries *list, const char *at)
{
    if (strlen(c->string.data) != c->string.n)
        return bad(c, at, "NUL in a tensor name");
    if (c->string.n > T5_MAX_TENSOR_NAME)
        return bad(c, at, "tensor name longer than 512 bytes");
    if (list->n == T5_MAX_TENSORS)
        return bad(c, at, "more than 65536 tensors");
    if (list->n == list->capacity) {
        int capacity = list->capacity ? 2 * list->capacity : 64;
        void *grown = realloc(list->items, (size_t)capacity * sizeof *list->items);
        if (!grown)
            return t5_fail_memory(c->err, (size_t)capacity * sizeof *list->items, "tensors");
        list->items = grown;
        list->capacity = capacity;
    }
    struct entry *e = &list->items[list->n];
    *e = (struct entry){.tensor.file = c->shown};
    if (!(e->tensor.name = take_string(c)))
        return -1;
    list->n++;
    return expect(c, ':') || read_entry(c, e) ? -1 : 0;
}

static int read_all(struct cursor *c, struct t5_header *h, struct entries *list)
{
    int rc = 1, metadata_seen = 0;
    if (c->p == c->end || *c->p != '{')
        return bad(c, c->p, "header must begin with '{'");
    c->p++;
    if (empty(c, '}'))
        rc = 0;
    while (rc == 1) {
        skip_space(c);
        const char *at = c->p;
        if (read_string(c))
            return -1;
        if (!string_is(c, "__metadata__"))
            rc = read_tensor(c, list, at);
        else if (metadata_seen++)
            rc = bad(c, at, "duplicate __metadata__");
        else
            rc = expect(c, ':') || read_metadata(c, h) ? -1 : 0;
        if (rc < 0)
            return -1;
        rc = more(c, '}');
    }
    if (rc < 0)
        return -1;
    skip_space(c);
    return c->p == c->end ? 0 : bad(c, c->p, "something follows the header's object");
}

static int order_entries(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name);
}

static int order_names(const void *pa, const void *pb, void *context)
{
    const struct t5_tensor *tensors = context;
    return strcmp(tensors[*(const int *)pa].name, tensors[*(const int *)pb].name);
}

/* Moves the entries into h, sorted; the names with them. */
static int arrange(struct t5_header *h, struct entries *list, struct t5_err *err)
{
    size_t n = (size_t)list->n;
    h->tensors = t5_alloc(n, sizeof *h->tensors, "tensors", err);
    h->begin = t5_alloc(n, sizeof *h->begin, "tensors", err);
    h->by_name = t5_alloc(n, sizeof *h->by_name, "tensors", err);
    if (!h->tensors || !h->begin || !h->by_name)
        return -1;
    if (n)
        qsort(list->items, n, sizeof *list->items, order_entries);
    for (int i = 0; i < list->n; i++) {
        h->tensors[i] = list->items[i].tensor;
        h->begin[i] = list->items[i].begin;
        h->by_name[i] = i;
    }
    h->n = list->n;
    list->n = 0;
    if (n)
        qsort_r(h->by_name, n, sizeof *h->by_name, order_names, h->tensors);
    return 0;
}

static int check_table(struct t5_header *h, const char *shown, struct t5_err *err)
{
    char name[T5_ESCAPED];
    for (int i = 1; i < h->n; i++) {
        const char *a = h->tensors[h->by_name[i - 1]].name, *b = h->tensors[h->by_name[i]].name;
        if (strcmp(a, b) == 0)
            return t5_fail(err, "%s: duplicate tensor name '%s'", shown,
                           t5_escape(name, b, strlen(b)));
    }
    for (int i = 0; i < h->n; i++) {
        const struct t5_tensor *t = &h->tensors[i];
        if (h->begin[i] != h->data_bytes)
            return t5_fail(err, "%s: tensor '%s': data begin at %llu, expected at %llu (%s)", shown,
                           t5_escape(name, t->name, strlen(t->name)),
                           (unsigned long long)h->begin[i], (unsigned long long)h->data_bytes,
                           h->begin[i] < h->data_bytes ? "tensors overlap" : "there is a hole");
        h->data_bytes += t->bytes; /* begin + bytes = end, which fitted 64 bits */
    }
    return 0;
}

int t5_header_parse(struct t5_header *out, const char *text, size_t n, const char *shown,
                    struct t5_err *err)
{
    struct cursor c = {.text = text, .p = text, .end = text + n, .shown = shown, .err = err};
    struct entries list = {0};
    *out = (struct t5_header){0};
    int rc = read_all(&c, out, &list) || arrange(out, &list, err) || check_table(out, shown, err)
                 ? -1
                 : 0;
    for (int i = 0; i < list.n; i++)
        free((char *)list.items[i].tensor.name);
    free(list.items);
    t5_buf_free(&c.string);
    if (rc)
        t5_header_free(out);
    return rc;
}

void t5_header_free(struct t5_header *h)
{
    for (int i = 0; i < h->n; i++)
        free((char *)h->tensors[i].name);
    for (int i = 0; i < h->n_metadata; i++) {
        free(h->metadata[i].key);
        free(h->metadata[i].value);
    }
    free(h->tensors);
    free(h->begin);
    free(h->by_name);
    free(h->metadata);
    *h = (struct t5_header){0};
}
