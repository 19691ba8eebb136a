/* rouge_text.c - texts to tokens: see rouge_text.h. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_text.h"

#include <stdlib.h>
#include <string.h>

static void drop(struct t5_rouge_text *text)
{
    free(text->tokens);
    free(text->line_end);
    text->tokens = NULL;
    text->line_end = NULL;
    text->capacity = 0;
}

void t5_rouge_text_free(struct t5_rouge_text *text)
{
    drop(text);
    t5_buf_free(&text->word);
}

/* n bytes hold at most n / 2 + 1 tokens. */
static int reserve(struct t5_rouge_text *text, size_t n, struct t5_err *err)
{
    size_t capacity = n / 2 + 1;
    text->n = text->n_lines = 0;
    if (capacity <= text->capacity)
        return 0;
    if (capacity > INT32_MAX) {
        t5_fail(err, "a text of %zu bytes is too long to score", n);
        err->skippable = 1;
        return -1;
    }
    drop(text);
    text->tokens = t5_alloc(capacity, sizeof *text->tokens, "tokens", err);
    text->line_end = t5_alloc(capacity, sizeof *text->line_end, "lines", err);
    if (!text->tokens || !text->line_end) {
        drop(text);
        return -1;
    }
    text->capacity = capacity;
    return 0;
}

/* a-z, 0-9 for what Unicode's lower-casing maps there from one byte; 0 for the rest. */
static char lower_ascii(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c + ('a' - 'A'));
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : 0;
}

/* The letter a-z, 0-9 at p after lower-casing, or 0, and the bytes it takes. Beyond ASCII there are
 * two: KELVIN SIGN is k, and capital I WITH DOT is i and a combining dot (which separates). */
static char letter_at(size_t *bytes, int *ends_word, const char *p, size_t n)
{
    *bytes = 1;
    *ends_word = 0;
    char c = lower_ascii(*p);
    if (c || !((unsigned char)*p & 0x80))
        return c;
    if (n >= 3 && memcmp(p, "\xe2\x84\xaa", 3) == 0) {
        *bytes = 3;
        return 'k';
    }
    if (n >= 2 && memcmp(p, "\xc4\xb0", 2) == 0) {
        *bytes = 2;
        *ends_word = 1;
        return 'i';
    }
    return 0;
}

static int end_word(struct t5_rouge_text *text, struct t5_words *words, struct t5_err *err)
{
    size_t n = text->word.n;
    if (n == 0)
        return 0;
    text->word.n = 0;
    return t5_words_token(&text->tokens[text->n++], words, text->word.data, n, err);
}

static void end_line(struct t5_rouge_text *text)
{
    size_t start = text->n_lines ? text->line_end[text->n_lines - 1] : 0;
    if (text->n > start)
        text->line_end[text->n_lines++] = (uint32_t)text->n;
}

int t5_rouge_text_set(struct t5_rouge_text *text, struct t5_words *words, const char *p, size_t n,
                      struct t5_err *err)
{
    text->word.n = 0;
    if (reserve(text, n, err) || t5_buf_reserve(&text->word, n, err))
        return -1;
    for (const char *end = p + n; p < end;) {
        size_t bytes;
        int ends_word;
        char c = letter_at(&bytes, &ends_word, p, (size_t)(end - p));
        if (c)
            text->word.data[text->word.n++] = c;
        if ((!c || ends_word) && end_word(text, words, err))
            return -1;
        if (*p == '\n')
            end_line(text);
        p += bytes;
    }
    if (end_word(text, words, err))
        return -1;
    end_line(text);
    return 0;
}
