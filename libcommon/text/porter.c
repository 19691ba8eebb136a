/* porter.c - the Porter stemmer with NLTK's extensions. Step numbers are those of Porter's paper;
 * "NLTK:" marks what NLTK's default mode does otherwise. Does not change case: see rouge.c. */
/* SPDX-License-Identifier: MIT */
#include "text/porter.h"

#include <string.h>

struct word {
    char *s;
    size_t n;
};

/* A suffix and what takes its place. The first `keep` letters of the suffix belong to the stem:
 * they stay, and they count in its measure. */
struct rule {
    const char *suffix, *put;
    size_t keep;
};

static int is_vowel_letter(char c)
{
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
}

/* y is a vowel after a consonant and a consonant elsewhere; in a run of y they alternate. */
static int is_vowel(char c, size_t i, int after_vowel)
{
    return c == 'y' ? i > 0 && !after_vowel : is_vowel_letter(c);
}

static int is_consonant(const char *s, size_t i)
{
    size_t first = i;
    while (first > 0 && s[first] == 'y')
        first--;
    int vowel = 0;
    for (size_t k = first; k <= i; k++)
        vowel = is_vowel(s[k], k, vowel);
    return !vowel;
}

/* m of the paper's [C](VC){m}[V]: how often a vowel is followed by a consonant. */
static size_t measure(const char *s, size_t n)
{
    size_t m = 0;
    for (size_t i = 0, before = 0; i < n; i++) {
        int vowel = is_vowel(s[i], i, (int)before);
        m += before && !vowel;
        before = (size_t)vowel;
    }
    return m;
}

/* A word's first y is a vowel only behind a consonant, so looking at neighbours is enough: a word
 * without a e i o u holds a vowel exactly when a y stands anywhere but at its start. */
static int has_vowel(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_vowel_letter(s[i]) || (s[i] == 'y' && i > 0))
            return 1;
    return 0;
}

/* *d of the paper. Two equal letters are both consonants unless they are a e i o u or yy, whose
 * second y depends on what stands before. */
static int ends_double_consonant(const char *s, size_t n)
{
    return n >= 2 && s[n - 1] == s[n - 2] && is_consonant(s, n - 1);
}

/* *o of the paper: consonant, vowel, consonant other than w x y. NLTK: also vowel, consonant alone,
 * so that "us(ed)" becomes "use". */
static int ends_cvc(const char *s, size_t n)
{
    if (n == 2)
        return !is_consonant(s, 0) && is_consonant(s, 1);
    if (n < 3 || s[n - 1] == 'w' || s[n - 1] == 'x' || s[n - 1] == 'y')
        return 0;
    return is_consonant(s, n - 3) && !is_consonant(s, n - 2) && is_consonant(s, n - 1);
}

static int ends(const struct word *w, const char *suffix)
{
    size_t n = strlen(suffix);
    return w->n >= n && memcmp(w->s + w->n - n, suffix, n) == 0;
}

static void append(struct word *w, const char *text)
{
    size_t n = strlen(text);
    memcpy(w->s + w->n, text, n);
    w->n += n;
}

/* The first rule whose suffix fits is the only one tried. Longer suffixes stand before their own
 * endings in every table. */
static void apply(struct word *w, const struct rule *rules, size_t more_than)
{
    for (const struct rule *r = rules; r->suffix; r++)
        if (ends(w, r->suffix)) {
            size_t stem = w->n - strlen(r->suffix) + r->keep;
            if (measure(w->s, stem) > more_than) {
                w->n = stem;
                append(w, r->put);
            }
            return;
        }
}

static void step_1a(struct word *w)
{
    if (ends(w, "ies"))
        w->n -= w->n == 4 ? 1 : 2; /* NLTK: "dies" to "die", while "flies" goes to "fli" */
    else if (ends(w, "sses"))
        w->n -= 2;
    else if (ends(w, "s") && !ends(w, "ss"))
        w->n -= 1;
}

/* After -ed or -ing came off: the -e that belonged to the word comes back. */
static void restore_e(struct word *w)
{
    char last = w->s[w->n - 1];
    if (ends(w, "at") || ends(w, "bl") || ends(w, "iz"))
        append(w, "e");
    else if (ends_double_consonant(w->s, w->n))
        w->n -= last != 'l' && last != 's' && last != 'z';
    else if (measure(w->s, w->n) == 1 && ends_cvc(w->s, w->n))
        append(w, "e");
}

static void step_1b(struct word *w)
{
    if (ends(w, "ied")) { /* NLTK: "died" to "die", "spied" to "spi" */
        w->n -= w->n == 4 ? 1 : 2;
        return;
    }
    if (ends(w, "eed")) {
        w->n -= measure(w->s, w->n - 3) > 0;
        return;
    }
    size_t suffix = ends(w, "ed") ? 2 : ends(w, "ing") ? 3 : 0;
    if (suffix == 0 || !has_vowel(w->s, w->n - suffix))
        return;
    w->n -= suffix;
    restore_e(w);
}

/* NLTK: y becomes i behind a consonant that does not start the word: "enjoy" stays, "spy" does
 * not. The paper asks for a vowel anywhere before instead. */
static void step_1c(struct word *w)
{
    if (ends(w, "y") && w->n > 2 && is_consonant(w->s, w->n - 2))
        w->s[w->n - 1] = 'i';
}

static void step_2(struct word *w)
{
    static const struct rule rules[] = {
        {"ational", "ate", 0}, {"tional", "tion", 0}, {"enci", "ence", 0},   {"anci", "ance", 0},
        {"izer", "ize", 0},    {"bli", "ble", 0},     {"alli", "al", 0},     {"entli", "ent", 0},
        {"eli", "e", 0},       {"ousli", "ous", 0},   {"ization", "ize", 0}, {"ation", "ate", 0},
        {"ator", "ate", 0},    {"alism", "al", 0},    {"iveness", "ive", 0}, {"fulness", "ful", 0},
        {"ousness", "ous", 0}, {"aliti", "al", 0},    {"iviti", "ive", 0},   {"biliti", "ble", 0},
        {"fulli", "ful", 0},   {"logi", "og", 1},     {NULL, NULL, 0},
    };
    /* NLTK: -alli first, then once more: "rationalli", "rational", which ends in -tional. "bli",
     * "fulli" and "logi" are extensions too; "geologi" has its measure from "geol". */
    if (ends(w, "alli") && measure(w->s, w->n - 4) > 0)
        w->n -= 2;
    apply(w, rules, 0);
}

static void step_3(struct word *w)
{
    static const struct rule rules[] = {
        {"icate", "ic", 0}, {"ative", "", 0}, {"alize", "al", 0}, {"iciti", "ic", 0},
        {"ical", "ic", 0},  {"ful", "", 0},   {"ness", "", 0},    {NULL, NULL, 0},
    };
    apply(w, rules, 0);
}

static void step_4(struct word *w)
{
    static const struct rule rules[] = {
        {"al", "", 0},   {"ance", "", 0}, {"ence", "", 0}, {"er", "", 0},    {"ic", "", 0},
        {"able", "", 0}, {"ible", "", 0}, {"ant", "", 0},  {"ement", "", 0}, {"ment", "", 0},
        {"ent", "", 0},  {"sion", "", 1}, {"tion", "", 1}, {"ou", "", 0},    {"ism", "", 0},
        {"ate", "", 0},  {"iti", "", 0},  {"ous", "", 0},  {"ive", "", 0},   {"ize", "", 0},
        {NULL, NULL, 0},
    };
    apply(w, rules, 1);
}

static void step_5(struct word *w)
{
    if (ends(w, "e")) {
        size_t m = measure(w->s, w->n - 1);
        w->n -= m > 1 || (m == 1 && !ends_cvc(w->s, w->n - 1));
    }
    if (ends(w, "ll") && measure(w->s, w->n - 1) > 1)
        w->n -= 1;
}

/* NLTK: words that the rules get wrong. */
static int irregular(struct word *w)
{
    static const char *const forms[][2] = {
        {"sky", "sky"},         {"skies", "sky"},        {"dying", "die"},
        {"lying", "lie"},       {"tying", "tie"},        {"news", "news"},
        {"innings", "inning"},  {"inning", "inning"},    {"outings", "outing"},
        {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
        {"howe", "howe"},       {"proceed", "proceed"},  {"exceed", "exceed"},
        {"succeed", "succeed"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (w->n == strlen(forms[i][0]) && memcmp(w->s, forms[i][0], w->n) == 0) {
            w->n = 0;
            append(w, forms[i][1]);
            return 1;
        }
    return 0;
}

size_t t5_porter_stem(char *word, size_t n)
{
    struct word w = {word, n};
    if (n <= 2 || irregular(&w))
        return w.n;
    step_1a(&w);
    step_1b(&w);
    step_1c(&w);
    step_2(&w);
    step_3(&w);
    step_4(&w);
    step_5(&w);
    return w.n;
}
