/* rouge_text.h - a text as ROUGE sees it: tokens, and where its lines end. Tokens are runs of a-z
 * and 0-9 of the lower-cased text; every other character separates. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_TEXT_H
#define T5_TEXT_ROUGE_TEXT_H

#include "text/words.h"

/* The caller's struct, zero-initialised; t5_rouge_text_free. Lines without a token are left out:
 * they match nothing. */
struct t5_rouge_text {
    int32_t *tokens;    /* (n) */
    uint32_t *line_end; /* (n_lines) index one past the line's last token */
    size_t n, n_lines, capacity;
    struct t5_buf word; /* the one being read */
};

/* Sets text to p[0..n), whose words are numbered by `words`. A text that is too long is skippable. */
int t5_rouge_text_set(struct t5_rouge_text *text, struct t5_words *words, const char *p, size_t n,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_rouge_text_free(struct t5_rouge_text *text);

#endif
