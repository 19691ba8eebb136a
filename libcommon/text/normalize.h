/* normalize.h - text to the words that get segmented, as transformers' fast T5 tokenizer does it.
 * That differs from the SentencePiece library where marks pile up: the fast tokenizer maps whole
 * grapheme clusters below 6 bytes by the shortest key that starts them, and anything else character
 * by character.  A raw word is a run of bytes without a delimiter: a byte that becomes white space
 * wherever it stands. Raw words are normalised alone, so their ids can be remembered. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_NORMALIZE_H
#define T5_TEXT_NORMALIZE_H

#include "base/buf.h"
#include "text/spiece.h"

struct t5_normalizer {
    struct t5_charsmap map; /* borrowed */
    unsigned char delimiter[256];
    const char *ascii[128]; /* what a lone ASCII character becomes; NULL: itself */
};

void t5_normalizer_init(struct t5_normalizer *out, const struct t5_charsmap *map);
/* Appends the normal form of a raw word (valid UTF-8). after_space: a space stands before it, and
 * marks at its start belong to that. */
int t5_normalize_word(struct t5_buf *out, const struct t5_normalizer *normalizer, const char *word,
                      size_t n, int after_space, struct t5_err *err) T5_MUST_CHECK;
/* Whether the word's normal form depends on after_space: it starts with a mark. */
int t5_word_starts_with_mark(const char *word, size_t n);
/* Bytes of the white space character (White_Space property) at p, or 0. */
size_t t5_white_space(const char *p, size_t n);

#endif
