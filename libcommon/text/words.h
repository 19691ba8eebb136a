/* words.h - words as small numbers, with their stems remembered. Does not cut text into words: see
 * rouge_text.c. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_WORDS_H
#define T5_TEXT_WORDS_H

#include <stdint.h>

#include "base/buf.h"

struct t5_word {
    size_t at, n; /* its bytes in text */
    uint64_t hash;
    int32_t token; /* the number of its stem, -1: not asked for yet */
    int32_t count; /* the caller's; 0 at first */
};

/* The caller's struct, zero-initialised but for stem. */
struct t5_words {
    int stem; /* 1: ASCII words of more than 3 letters stand for their Porter stem */
    struct t5_buf text, scratch;
    struct t5_word *words; /* (n) */
    size_t n, capacity;
    int32_t *slots; /* (n_slots) hash table: number + 1, 0: free */
    size_t n_slots;
};

void t5_words_free(struct t5_words *words);
/* Forgets every word: numbers given out before mean nothing afterwards. */
void t5_words_clear(struct t5_words *words);
/* The number of the word's stem (of the word itself without stemming): equal numbers, equal stems.
 */
int t5_words_token(int32_t *token, struct t5_words *words, const char *word, size_t n,
                   struct t5_err *err) T5_MUST_CHECK;

#endif
