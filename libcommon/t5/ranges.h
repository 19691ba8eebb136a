/* ranges.h - a set of numbers as people write it: "120-135,200". */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_RANGES_H
#define T5_T5_RANGES_H

#include <stdint.h>

#include "base/err.h"

#define T5_RANGES 12
#define T5_RANGES_TEXT 256 /* T5_RANGES times two numbers of nine digits are shorter */
struct t5_ranges {
    int64_t first[T5_RANGES], last[T5_RANGES]; /* ascending, with a gap between */
    int n;
};

/* Numbers from 1 to 999999999, any order, overlaps allowed. what: "--option", for messages
 * (T5_USAGE). */
int t5_ranges_parse(struct t5_ranges *out, const char *text, const char *what,
                    struct t5_err *err) T5_MUST_CHECK;
/* The shortest way to write those up to `most`. Returns out. */
char *t5_ranges_print(char out[T5_RANGES_TEXT], const struct t5_ranges *ranges, int64_t most);
int t5_ranges_have(const struct t5_ranges *ranges, int64_t number);

#endif
