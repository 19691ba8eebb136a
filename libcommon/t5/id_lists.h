/* id_lists.h - lists of token ids, from arguments and files: what a search is told not to write. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_ID_LISTS_H
#define T5_T5_ID_LISTS_H

#include <stdint.h>

#include "base/buf.h"

/* Starts as zeros. */
struct t5_id_lists {
    struct t5_buf ids;  /* int32_t, one list behind the other */
    struct t5_buf ends; /* int64_t (n): where each ends */
    int64_t n;
};

/* List i, borrowed until the next change. */
const int32_t *t5_id_lists_at(const struct t5_id_lists *lists, int64_t i, int64_t *n);
/* Appends "5,6,7". option names the place in messages; ids lie in [0, vocab). */
int t5_id_lists_parse(struct t5_id_lists *lists, const char *text, int64_t vocab,
                      const char *option, struct t5_err *err) T5_MUST_CHECK;
/* Appends the input_ids of every record of a token file, JSONL or packed, without a final eos. */
int t5_id_lists_read(struct t5_id_lists *lists, const char *path, int64_t vocab, int32_t eos,
                     struct t5_err *err) T5_MUST_CHECK;
void t5_id_lists_free(struct t5_id_lists *lists);

#endif
