/* template.c - patterns with fields in braces, read once. Does not fill them: see
 * tokenize_record.c. */
/* SPDX-License-Identifier: MIT */
#include "text/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Adds what `text` holds as a part, and empties it. */
static int add(struct t5_template *t, struct t5_buf *text, int is_field, struct t5_err *err)
{
    struct t5_template_part *parts = realloc(t->parts, (t->n + 1) * sizeof *parts);
    if (!parts)
        return t5_fail_memory(err, (t->n + 1) * sizeof *parts, "a template");
    t->parts = parts;
    char *owned = strndup(text->n ? text->data : "", text->n);
    if (!owned)
        return t5_fail_memory(err, text->n + 1, "a template");
    parts[t->n++] = is_field ? (struct t5_template_part){.field = owned}
                             : (struct t5_template_part){.text = owned};
    text->n = 0;
    return 0;
}

/* The character that p, a backslash, stands for with the next; 0: none that is known. */
static char escaped(const char *p)
{
    return p[1] == 'n' ? '\n' : p[1] == 't' ? '\t' : p[1] == 'r' ? '\r' : p[1] == '\\' ? '\\' : 0;
}

/* A field at p, its brace: adds literal and name, and sets *end behind the closing brace. */
static int read_field(struct t5_template *t, struct t5_buf *literal, const char **end, const char *p,
                      struct t5_err *err)
{
    size_t n = strcspn(++p, "{}\\");
    if (p[n] != '}')
        return t5_fail_as(err, T5_USAGE, "a '{' without its '}' (write {{ for a brace)");
    if (n == 0)
        return t5_fail_as(err, T5_USAGE, "{} has no field name (write {{ and }} for braces)");
    *end = p + n + 1;
    if (literal->n && add(t, literal, 0, err))
        return -1;
    return t5_buf_append(literal, p, n, err) || add(t, literal, 1, err) ? -1 : 0;
}

static int read_parts(struct t5_template *t, struct t5_buf *literal, const char *p,
                      struct t5_err *err)
{
    while (*p) {
        char c = *p;
        if (c == '{' && p[1] != '{') {
            if (read_field(t, literal, &p, p, err))
                return -1;
            continue;
        }
        if (c == '}' && p[1] != '}')
            return t5_fail_as(err, T5_USAGE, "a '}' without its '{' (write }} for a brace)");
        if (c == '\\' && !(c = escaped(p)))
            return t5_fail_as(err, T5_USAGE, "known escapes are \\n, \\t, \\r and \\\\");
        p += *p == '{' || *p == '}' || *p == '\\' ? 2 : 1;
        if (t5_buf_append(literal, &c, 1, err))
            return -1;
    }
    return literal->n ? add(t, literal, 0, err) : 0;
}

int t5_template_parse(struct t5_template *out, const char *text, struct t5_err *err)
{
    struct t5_buf literal = {0};
    int rc = -1, fields = 0;
    *out = (struct t5_template){.given = text};
    for (size_t n = strlen(text), i = 0, len; i < n; i += len)
        if (!(len = t5_utf8_length(text + i, n - i)))
            return t5_fail_as(err, T5_USAGE, "not valid UTF-8");
    if (read_parts(out, &literal, text, err))
        goto out;
    for (size_t i = 0; i < out->n; i++)
        fields += out->parts[i].field != NULL;
    rc = fields ? 0 : t5_fail_as(err, T5_USAGE, "no field, such as {dialogue}");
out:
    t5_buf_free(&literal);
    if (rc)
        t5_template_free(out);
    return rc;
}

void t5_template_free(struct t5_template *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->parts[i].text);
        free(t->parts[i].field);
    }
    free(t->parts);
    *t = (struct t5_template){0};
}

const char *t5_template_tail(const struct t5_template *t)
{
    return t->n && t->parts[t->n - 1].text ? t->parts[t->n - 1].text : "";
}

int t5_template_has(const struct t5_template *t, const char *field)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->parts[i].field && strcmp(t->parts[i].field, field) == 0)
            return 1;
    return 0;
}
