/* letters.h - what Unicode calls a letter, and its lower case, character by character: no grapheme
 * clusters, no normal forms. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_LETTERS_H
#define T5_TEXT_LETTERS_H

#include <stdint.h>

enum t5_letter {
    T5_SIGN,   /* none of these */
    T5_LETTER, /* a letter or a digit */
    T5_MARK,   /* part of the letter before it: an accent, a vowel sign */
    T5_HIDDEN  /* a joiner, soft hyphen or variation selector: not to be seen */
};
enum t5_letter t5_letter_of(uint32_t character);
/* A character without a lower case, or whose lower case is two (U+0130 alone), is its own. Both
 * small sigmas are one. */
uint32_t t5_letter_lower(uint32_t character);

#endif
