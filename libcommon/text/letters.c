/* letters.c - two tables and where to look in them. */
/* SPDX-License-Identifier: MIT */
#include "text/letters.h"

#include <stddef.h>

struct range {
    uint32_t first, last;
    enum t5_letter letter;
};

struct run { /* first, first + step ... last become themselves + delta */
    uint32_t first, last;
    int32_t delta;
    uint32_t step;
};

#include "text/letters_table.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Rows ascend; first and last lead each row. The index of the first row that does not end before
 * the character. */
#define FIND(at, table, character)                                                                 \
    for (size_t low = 0, high = COUNT(table); (at = low) < high;) {                                \
        size_t middle = (low + high) / 2;                                                          \
        if ((character) > (table)[middle].last)                                                    \
            low = middle + 1;                                                                      \
        else                                                                                       \
            high = middle;                                                                         \
    }

enum t5_letter t5_letter_of(uint32_t character)
{
    size_t at = 0;
    FIND(at, ranges, character)
    return at < COUNT(ranges) && character >= ranges[at].first ? ranges[at].letter : T5_SIGN;
}

uint32_t t5_letter_lower(uint32_t character)
{
    size_t at = 0;
    FIND(at, runs, character)
    if (at == COUNT(runs) || character < runs[at].first ||
        (character - runs[at].first) % runs[at].step)
        return character;
    return character + (uint32_t)runs[at].delta;
}
