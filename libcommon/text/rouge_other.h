/* rouge_other.h - the predictions of a second system, read whole, and which of them belongs to a
 * record of the first: by order or by an id. A partner's reference, where it has one, must be the
 * record's own, so that files of different order do not pass for pairs. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_OTHER_H
#define T5_TEXT_ROUGE_OTHER_H

#include "io/jsonl.h"

struct t5_rouge_other; /* owns all texts: memory grows with the file */

struct t5_rouge_other_fields {
    const char *prediction, *reference;
    const char *id; /* NULL: the first record's partner is the first, and so on */
};

/* Names are borrowed. Any bad record, or an id that comes twice, is an error of the whole. */
int t5_rouge_other_open(struct t5_rouge_other **out, const char *path,
                        const struct t5_rouge_other_fields *fields, size_t max_line,
                        struct t5_err *err) T5_MUST_CHECK;
void t5_rouge_other_close(struct t5_rouge_other *other);

/* The prediction to hold against record number i (from 0, bad ones counted): UTF-8, borrowed until
 * close. No partner, one taken before or one with another reference: skippable. */
int t5_rouge_other_find(const char **text, size_t *n, struct t5_rouge_other *other,
                        const struct t5_record *record, int64_t i,
                        struct t5_err *err) T5_MUST_CHECK;
/* An error if one has not been found. */
int t5_rouge_other_end(const struct t5_rouge_other *other, struct t5_err *err) T5_MUST_CHECK;

#endif
