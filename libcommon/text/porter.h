/* porter.h - the Porter stemmer with NLTK's extensions.
 *
 * M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the changes that
 * NLTK's PorterStemmer makes in its default mode NLTK_EXTENSIONS. Not Snowball's "porter", which
 * differs on about one English word type in fifty. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_PORTER_H
#define T5_TEXT_PORTER_H

#include <stddef.h>

/* Stems a word of lower-case ASCII letters (other bytes, digits for one, count as consonants) in
 * place and returns its new length, which is never more than n. Time is linear in n. */
size_t t5_porter_stem(char *word, size_t n);

#endif
