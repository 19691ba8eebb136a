/* rouge_text.c - texts to tokens: see rouge_text.h. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/letters.h"
#include "text/sentence.h"

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

/* Tokens are separated, so that n bytes hold at most n / 2 + 1, unless each character is one. */
static int reserve(struct t5_rouge_text *text, enum t5_rouge_tokens tokens, size_t n,
                   struct t5_err *err)
{
    size_t capacity = tokens == T5_ROUGE_CHARS ? n + 1 : n / 2 + 1;
    text->n = text->n_lines = text->word.n = 0;
    text->discards = 0;
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

static int is_letter(uint32_t c, enum t5_rouge_tokens tokens)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    return tokens != T5_ROUGE_ASCII && t5_letter_of(c) == T5_LETTER;
}

/* A character of a text that is lower-cased. */
static int take(struct t5_rouge_text *text, struct t5_words *words, enum t5_rouge_tokens tokens,
                uint32_t c, struct t5_err *err)
{
    int letter = is_letter(c, tokens);
    enum t5_letter kind = letter ? T5_LETTER : c < 0x80 ? T5_SIGN : t5_letter_of(c);
    unsigned char bytes[4];
    if (tokens == T5_ROUGE_ASCII) {
        text->discards |= kind == T5_LETTER && !letter;
        kind = letter ? T5_LETTER : T5_SIGN;
    }
    if (kind == T5_HIDDEN)
        return 0;
    if ((kind == T5_SIGN || (kind == T5_LETTER && tokens == T5_ROUGE_CHARS)) &&
        end_word(text, words, err))
        return -1;
    if (kind == T5_SIGN || (kind == T5_MARK && text->word.n == 0))
        return 0;
    return t5_buf_append(&text->word, bytes, t5_utf8_encode(bytes, c), err);
}

/* Python's lower case: that of a capital I with a dot is two characters. */
static int take_lower(struct t5_rouge_text *text, struct t5_words *words,
                      enum t5_rouge_tokens tokens, uint32_t c, struct t5_err *err)
{
    if (c != 0x130)
        return take(text, words, tokens, t5_letter_lower(c), err);
    return take(text, words, tokens, 'i', err) || take(text, words, tokens, 0x307, err) ? -1 : 0;
}

/* a-z, 0-9 in lower case; 0 for the rest. */
static char lower_ascii(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c + ('a' - 'A'));
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : 0;
}

/* The tokens of a line. */
static int cut_line(struct t5_rouge_text *text, struct t5_words *words, enum t5_rouge_tokens tokens,
                    const char *p, const char *end, struct t5_err *err)
{
    size_t n;
    for (; p < end; p += n) {
        char c = lower_ascii(*p);
        n = 1;
        if (c && tokens != T5_ROUGE_CHARS) { /* the usual case, made short */
            text->word.data[text->word.n++] = c;
            continue;
        }
        n = t5_utf8_length(p, (size_t)(end - p));
        uint32_t character = n ? t5_utf8_decode(p, n) : 0xfffd;
        n += n == 0;
        if (take_lower(text, words, tokens, character, err) ||
            t5_buf_reserve(&text->word, (size_t)(end - p), err))
            return -1;
    }
    return end_word(text, words, err);
}

int t5_rouge_text_set(struct t5_rouge_text *text, struct t5_words *words,
                      const struct t5_rouge_cut *cut, const char *p, size_t n, struct t5_err *err)
{
    if (reserve(text, cut->tokens, n, err) || t5_buf_reserve(&text->word, n, err))
        return -1;
    for (const char *end = p + n; p < end;) {
        size_t left = (size_t)(end - p);
        const char *newline = memchr(p, '\n', left);
        const char *stop = cut->sentences ? p + t5_sentence_length(p, left)
                           : newline      ? newline
                                          : end;
        if (cut_line(text, words, cut->tokens, p, stop, err))
            return -1;
        end_line(text);
        p = stop + (stop < end && *stop == '\n');
    }
    return 0;
}
