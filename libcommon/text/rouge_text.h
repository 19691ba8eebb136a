/* rouge_text.h - a text as ROUGE sees it: tokens of the lower-cased text, and where its lines end.
 */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_TEXT_H
#define T5_TEXT_ROUGE_TEXT_H

#include "text/words.h"

enum t5_rouge_tokens {
    T5_ROUGE_ASCII,   /* runs of a-z and 0-9; every other character separates: rouge_score's */
    T5_ROUGE_UNICODE, /* runs of letters and digits with their marks (letters.h) */
    T5_ROUGE_CHARS    /* each letter or digit with its marks */
};
struct t5_rouge_cut {
    enum t5_rouge_tokens tokens;
    int sentences; /* 1: a sentence is a line (sentence.h) */
};

/* The caller's struct, zero-initialised; t5_rouge_text_free. Lines without a token are left out:
 * they match nothing. */
struct t5_rouge_text {
    int32_t *tokens;    /* (n) */
    uint32_t *line_end; /* (n_lines) index one past the line's last token */
    size_t n, n_lines, capacity;
    struct t5_buf word; /* the one being read */
    int discards;       /* T5_ROUGE_ASCII: it has letters or digits that separate */
};

/* Sets text to p[0..n), whose words are numbered by `words`. A text that is too long is skippable.
 */
int t5_rouge_text_set(struct t5_rouge_text *text, struct t5_words *words,
                      const struct t5_rouge_cut *cut, const char *p, size_t n,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_rouge_text_free(struct t5_rouge_text *text);

#endif
