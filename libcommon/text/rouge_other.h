/* rouge_other.h - the records of a second file, read whole, and which of them belongs to a record
 * of the first: by order or by an id. They hold the predictions of a second system or the
 * references. A field that both have may have to be the same, so that files of different order do
 * not pass for pairs. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_OTHER_H
#define T5_TEXT_ROUGE_OTHER_H

#include "text/texts.h"

struct t5_rouge_other; /* owns all texts: memory grows with the file */

struct t5_rouge_other_fields {
    const char *text;  /* what is looked for */
    int lists;         /* 1: it may be a list of texts */
    const char *check; /* what must be the same where a partner has it; NULL: nothing */
    const char *id;    /* NULL: the first record's partner is the first, and so on */
};

/* Names are borrowed. Any bad record, or an id that comes twice, is an error of the whole. */
int t5_rouge_other_open(struct t5_rouge_other **out, const char *path,
                        const struct t5_rouge_other_fields *fields, size_t max_line,
                        struct t5_err *err) T5_MUST_CHECK;
void t5_rouge_other_close(struct t5_rouge_other *other);

/* Sets out to the texts of the partner of record number i (from 0, bad ones counted). No partner,
 * one taken before or one with another reference: skippable. */
int t5_rouge_other_find(struct t5_texts *out, struct t5_rouge_other *other,
                        const struct t5_record *record, int64_t i,
                        struct t5_err *err) T5_MUST_CHECK;
/* An error if one has not been found. */
int t5_rouge_other_end(const struct t5_rouge_other *other, struct t5_err *err) T5_MUST_CHECK;

#endif
