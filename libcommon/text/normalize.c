/* normalize.c - grapheme clusters and the character map, in the fast tokenizer's way. */
/* SPDX-License-Identifier: MIT */
#include "text/normalize.h"

#include <string.h>

#include "base/utf8.h"

/* A cluster is [PREPEND]* base [JOIN or SPACING]*; BREAK characters stand alone. Behind PICTURE
 * [JOIN]* U+200D comes another PICTURE, where that JOIN is not U+200D itself. UAX #29 joins more
 * (Hangul syllables, flags, Indic conjuncts), but those reach 6 bytes, where the fast tokenizer
 * takes each character alone anyway. */
enum class { OTHER, JOIN, BREAK, SPACING, PREPEND, PICTURE };

static const struct range {
    uint32_t first, last;
    enum class class;
} ranges[] = {
#include "text/grapheme_table.h"
};

static enum class class_of(const char *p, size_t len)
{
    uint32_t c = t5_utf8_decode(p, len);
    size_t lo = 0, hi = sizeof ranges / sizeof *ranges;
    if (c >= 0x20 && c < 0x7f)
        return OTHER;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > ranges[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < sizeof ranges / sizeof *ranges && c >= ranges[lo].first ? ranges[lo].class : OTHER;
}

/* Bytes of the character at p; text that is not UTF-8 goes on byte by byte. */
static size_t char_length(const char *p, size_t n)
{
    size_t len = t5_utf8_length(p, n);
    return len ? len : 1;
}

size_t t5_white_space(const char *p, size_t n)
{
    unsigned char first = (unsigned char)*p;
    if (first < 0x80)
        return first == ' ' || (first >= 9 && first <= 13);
    if (first != 0xc2 && first != 0xe1 && first != 0xe2 && first != 0xe3)
        return 0;
    size_t len = char_length(p, n);
    uint32_t c = t5_utf8_decode(p, len);
    int space = c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
                c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
    return space ? len : 0;
}

static int all_space(const char *s)
{
    size_t n = strlen(s), len;
    if (n == 0)
        return 0;
    for (; n; s += len, n -= len)
        if (!(len = t5_white_space(s, n)))
            return 0;
    return 1;
}

void t5_normalizer_init(struct t5_normalizer *out, const struct t5_charsmap *map)
{
    *out = (struct t5_normalizer){.map = *map};
    for (int c = 0; c < 128; c++) {
        char byte = (char)c;
        out->ascii[c] = t5_charsmap_find(map, &byte, 1);
        /* A space forms clusters with marks behind it, so it must start no key at all; controls
         * stand alone, so it is enough that they become white space. */
        if (out->ascii[c])
            out->delimiter[c] = c != ' ' && class_of(&byte, 1) == BREAK && all_space(out->ascii[c]);
        else
            out->delimiter[c] = t5_white_space(&byte, 1) && !t5_charsmap_starts(map, (unsigned char)c);
    }
}

/* Each character of s alone. */
static int map_characters(struct t5_buf *out, const struct t5_normalizer *z, const char *s, size_t n,
                          struct t5_err *err)
{
    for (size_t len; n; s += len, n -= len) {
        len = char_length(s, n);
        const char *to = t5_charsmap_find(&z->map, s, len);
        if (to ? t5_buf_append(out, to, strlen(to), err) : t5_buf_append(out, s, len, err))
            return -1;
    }
    return 0;
}

/* The cluster at s: its bytes, and in *one whether it is a single character. */
static size_t cluster_length(const char *s, size_t n, int *one)
{
    size_t first = char_length(s, n), len = first;
    enum class c = class_of(s, len);
    while (c == PREPEND && len < n) {
        size_t more = char_length(s + len, n - len);
        enum class next = class_of(s + len, more);
        if (next == BREAK)
            break;
        len += more;
        c = next;
    }
    for (int glue = c == PICTURE ? 1 : 0; c != BREAK && len < n;) { /* 2: a picture may follow */
        size_t more = char_length(s + len, n - len);
        enum class next = class_of(s + len, more);
        if (next != JOIN && next != SPACING && !(next == PICTURE && glue == 2))
            break;
        if (next == PICTURE)
            glue = 1;
        else if (glue)
            glue = next == JOIN && glue == 1 ? 1 + (t5_utf8_decode(s + len, more) == 0x200d) : 0;
        len += more;
    }
    *one = len == first;
    return len;
}

static int map_cluster(struct t5_buf *out, const struct t5_normalizer *z, const char *s, size_t len,
                       int one, struct t5_err *err)
{
    const char *to = len < 6 || one ? t5_charsmap_find(&z->map, s, len) : NULL;
    if (to)
        return t5_buf_append(out, to, strlen(to), err);
    return one ? t5_buf_append(out, s, len, err) : map_characters(out, z, s, len, err);
}

int t5_word_starts_with_mark(const char *word, size_t n)
{
    if ((unsigned char)*word < 0x80)
        return 0;
    enum class c = class_of(word, char_length(word, n));
    return c == JOIN || c == SPACING;
}

int t5_normalize_word(struct t5_buf *out, const struct t5_normalizer *z, const char *word, size_t n,
                      int after_space, struct t5_err *err)
{
    size_t i = 0;
    while (after_space && i < n && t5_word_starts_with_mark(word + i, n - i)) {
        size_t len = char_length(word + i, n - i);
        if (map_characters(out, z, word + i, len, err))
            return -1;
        i += len;
    }
    while (i < n) {
        size_t run = i; /* plain ASCII: up to the last one before something else */
        while (run < n && (unsigned char)word[run] < 0x80 && !z->ascii[(unsigned char)word[run]] &&
               (run + 1 == n || (unsigned char)word[run + 1] < 0x80))
            run++;
        if (run > i && t5_buf_append(out, word + i, run - i, err))
            return -1;
        i = run;
        if (i < n) {
            int one;
            size_t len = cluster_length(word + i, n - i, &one);
            if (map_cluster(out, z, word + i, len, one, err))
                return -1;
            i += len;
        }
    }
    return 0;
}
