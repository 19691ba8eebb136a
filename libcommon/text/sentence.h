/* sentence.h - where a sentence of running text ends, by a few rules: see sentence.c. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_SENTENCE_H
#define T5_TEXT_SENTENCE_H

#include <stddef.h>

/* Bytes of the first sentence of UTF-8 text, its end mark and closing quotes included, the white
 * space behind not; at most to the first newline. 0 only where the text is empty or begins with a
 * newline. Where a sentence does not begin as one, it still may end as one. */
size_t t5_sentence_length(const char *text, size_t n);

#endif
