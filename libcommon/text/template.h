/* template.h - the source text of a record as a pattern of its fields: "Summarize:\n{dialogue}". */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TEMPLATE_H
#define T5_TEXT_TEMPLATE_H

#include "base/buf.h"

struct t5_template_part { /* one of the two, both end in NUL */
    char *text;  /* literal; owned */
    char *field; /* name; owned */
};

struct t5_template {
    struct t5_template_part *parts; /* owned; a literal never follows a literal */
    size_t n;
    const char *given; /* as it was written; borrowed */
};

/* Reads `{name}` as a field, `{{` and `}}` as braces, `\n`, `\t`, `\r` and `\\` as in C; anything else as
 * itself. Refused (T5_USAGE): other escapes, a single brace, a name that is empty or has a brace or
 * a backslash, text that is not UTF-8, and a template without a field. */
int t5_template_parse(struct t5_template *out, const char *text, struct t5_err *err) T5_MUST_CHECK;
void t5_template_free(struct t5_template *t);
/* The literal behind the last field, or "": borrowed from t. */
const char *t5_template_tail(const struct t5_template *t);
/* Whether some part is the field of that name. */
int t5_template_has(const struct t5_template *t, const char *field);

#endif
