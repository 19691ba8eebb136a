/* sentence.c - sentences end
 *   at a newline;
 *   behind ! or ? where white space follows;
 *   behind a full stop, and behind any of the three and quotes or brackets that close, where white
 *   space follows and then a capital letter or a digit, perhaps behind ones that open;
 *   but not behind one full stop that belongs to an abbreviation: a word of the list, or a single
 *   letter other than I;
 *   and behind the full stops of scripts that have no capitals, white space or not.
 * No rule is learned from the text. How far that agrees with NLTK's Punkt: see NOTES.md. */
/* SPDX-License-Identifier: MIT */
#include "text/sentence.h"

#include <string.h>

#include "base/utf8.h"
#include "text/letters.h"

/* Words that a full stop follows inside of sentences. Those that end a sentence as often (etc.,
 * a.m., Inc.) are not here: a capital letter behind them decides. */
static const char *const abbreviations[] = {
    "Mr",   "Mrs", "Ms",     "Dr",  "Prof", "St",  "Sr",  "Jr",   "Rev",  "Hon", "Gen", "Col",
    "Capt", "Lt",  "Sgt",    "Maj", "Gov",  "Sen", "Rep", "Pres", "Mt",   "Ft",  "vs",  "cf",
    "e.g",  "i.e", "approx", "Fig", "Vol",  "Jan", "Feb", "Aug",  "Sept", "Oct", "Nov", "Dec",
};

static int is_one_of(const char *const *list, size_t count, const char *p, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) == n && memcmp(list[i], p, n) == 0)
            return 1;
    return 0;
}

static int is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Bytes of the mark at p, if it is in the list of marks with blanks between, or 0. */
static size_t mark_at(const char *marks, const char *p, size_t n)
{
    for (size_t len; *marks; marks += len + (marks[len] == ' ')) {
        len = strcspn(marks, " ");
        if (len <= n && memcmp(marks, p, len) == 0)
            return len;
    }
    return 0;
}

static size_t skip_marks(const char *marks, const char *text, size_t at, size_t n)
{
    for (size_t len; (len = mark_at(marks, text + at, n - at)); at += len)
        ;
    return at;
}

/* Whether the full stop at text[at] belongs to the word before it. */
static int is_abbreviation(const char *text, size_t at)
{
    size_t begin = at;
    while (begin > 0 && !is_white(text[begin - 1]))
        begin--;
    while (strchr("(\"'[", text[begin]))
        begin++; /* at the full stop at the latest */
    const char *word = text + begin;
    size_t n = at - begin;
    if (n == 1)
        return ((*word >= 'A' && *word <= 'Z') || (*word >= 'a' && *word <= 'z')) && *word != 'I';
    return is_one_of(abbreviations, sizeof abbreviations / sizeof *abbreviations, word, n);
}

/* Whether a sentence can begin at text[at], behind white space. */
static int can_begin(const char *text, size_t at, size_t n)
{
    at = skip_marks("\" ' ( [ \xe2\x80\x9c \xe2\x80\x98 \xc2\xab \xc2\xbf \xc2\xa1", text, at, n);
    size_t len = t5_utf8_length(text + at, n - at);
    if (len == 0)
        return 0;
    uint32_t c = t5_utf8_decode(text + at, len);
    return (c >= '0' && c <= '9') || t5_letter_lower(c) != c || c == 0x130;
}

/* Whether a sentence ends behind the marks text[from, to) and what closes up to `behind`. */
static int ends(const char *text, size_t from, size_t to, size_t behind, size_t n)
{
    size_t next = behind;
    while (next < n && is_white(text[next]) && text[next] != '\n')
        next++;
    if (next == behind || next == n)
        return 0; /* or the end of the text or line, which is one anyway */
    if (behind == to && text[to - 1] != '.')
        return 1;
    if (behind == to && to == from + 1 && is_abbreviation(text, from))
        return 0;
    return can_begin(text, next, n);
}

size_t t5_sentence_length(const char *text, size_t n)
{
    static const char wide[] =
        "\xe3\x80\x82 \xef\xbc\x81 \xef\xbc\x9f \xef\xbd\xa1 \xe0\xa5\xa4 \xdb\x94 \xd8\x9f";
    static const char closing[] =
        "\" ' ) ] \xe2\x80\x9d \xe2\x80\x99 \xc2\xbb \xe3\x80\x8d \xe3\x80\x8f \xef\xbc\x89";
    size_t at = 0;
    while (at < n && text[at] != '\n') {
        size_t mark = skip_marks(wide, text, at, n);
        if (mark > at)
            return skip_marks(closing, text, mark, n);
        mark = skip_marks(". ! ?", text, at, n);
        if (mark > at) {
            size_t behind = skip_marks(closing, text, mark, n);
            if (ends(text, at, mark, behind, n))
                return behind;
        }
        at = mark + (mark == at);
    }
    return at;
}
