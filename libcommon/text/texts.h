/* texts.h - the texts of a field: a string, or a list of strings. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TEXTS_H
#define T5_TEXT_TEXTS_H

#include "io/jsonl.h"

/* Texts one behind the other. The caller's struct, zero-initialised; t5_texts_free. */
struct t5_texts {
    struct t5_buf bytes, ends; /* ends: size_t, where each text ends in bytes */
};

/* Each appends. A string, or where lists is 1 also a list of at least one; anything else is an
 * error at its place. */
int t5_texts_read(struct t5_texts *texts, const struct t5_record *record,
                  const struct t5_field *field, int lists, struct t5_err *err) T5_MUST_CHECK;
int t5_texts_add(struct t5_texts *texts, const char *text, size_t n,
                 struct t5_err *err) T5_MUST_CHECK;
size_t t5_texts_count(const struct t5_texts *texts);
/* Text number i, n bytes; borrowed until the next change. */
const char *t5_texts_at(size_t *n, const struct t5_texts *texts, size_t i);
void t5_texts_clear(struct t5_texts *texts);
void t5_texts_free(struct t5_texts *texts);

#endif
