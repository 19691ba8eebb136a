/* test_porter.c - the stemmer against NLTK's: testdata/golden/rouge/stems.tsv, and with
 * T5_TEST_WORDS=FILE any list of "word TAB stem" lines (tests/golden/rouge.py --words makes them).
 */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/porter.h"

static void expect(const char *word, const char *stem)
{
    char got[256];
    size_t n = strlen(word);
    assert_true(n < sizeof got);
    memcpy(got, word, n);
    size_t stem_n = t5_porter_stem(got, n);
    assert_true(stem_n <= n);
    got[stem_n] = 0;
    if (strcmp(got, stem) != 0)
        fail_msg("%s: got %s, want %s", word, got, stem);
}

static long compare_list(const char *path)
{
    char line[512];
    long n = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: cannot be opened", path);
    while (fgets(line, sizeof line, f)) {
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = 0;
        tab[1 + strcspn(tab + 1, "\n")] = 0;
        expect(line, tab + 1);
        n++;
    }
    fclose(f);
    return n;
}

/* The examples of Porter's paper, where NLTK does not part from it. */
static void test_paper(void **state)
{
    static const char *const pairs[][2] = {
        {"caresses", "caress"},     {"ponies", "poni"},     {"cats", "cat"},
        {"feed", "feed"},           {"agreed", "agre"},     {"plastered", "plaster"},
        {"bled", "bled"},           {"motoring", "motor"},  {"sing", "sing"},
        {"conflated", "conflat"},   {"troubled", "troubl"}, {"sized", "size"},
        {"hopping", "hop"},         {"tanned", "tan"},      {"falling", "fall"},
        {"hissing", "hiss"},        {"fizzed", "fizz"},     {"failing", "fail"},
        {"filing", "file"},         {"happy", "happi"},     {"relational", "relat"},
        {"conditional", "condit"},  {"rational", "ration"}, {"vietnamization", "vietnam"},
        {"triplicate", "triplic"},  {"formative", "form"},  {"goodness", "good"},
        {"revival", "reviv"},       {"adoption", "adopt"},  {"bowdlerize", "bowdler"},
        {"probate", "probat"},      {"rate", "rate"},       {"cease", "ceas"},
        {"controlling", "control"}, {"rolling", "roll"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        expect(pairs[i][0], pairs[i][1]);
}

/* Where NLTK's extensions give other stems than the paper or Snowball. */
static void test_extensions(void **state)
{
    static const char *const pairs[][2] = {
        {"dies", "die"},          {"flies", "fli"},
        {"died", "die"},          {"spied", "spi"},
        {"enjoy", "enjoy"},       {"spy", "spi"},
        {"say", "say"},           {"by", "by"},
        {"used", "use"},          {"geology", "geolog"},
        {"news", "news"},         {"skies", "sky"},
        {"dying", "die"},         {"innings", "inning"},
        {"howe", "howe"},         {"succeed", "succeed"},
        {"rationally", "ration"}, {"hopefully", "hope"},
        {"visibly", "visibl"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        expect(pairs[i][0], pairs[i][1]);
}

static void test_golden(void **state)
{
    const char *own = getenv("T5_TEST_WORDS");
    (void)state;
    long n = compare_list(own ? own : "testdata/golden/rouge/stems.tsv");
    assert_true(own ? n > 0 : n == 2000);
}

/* A word of a million letters takes no longer than its letters: y alternates between vowel and
 * consonant. */
static void test_long(void **state)
{
    size_t n = 1 << 20;
    char *word = malloc(n);
    (void)state;
    assert_non_null(word);
    memset(word, 'y', n);
    memcpy(word + n - 7, "fulness", 7);
    assert_int_equal(t5_porter_stem(word, n), n - 7);
    assert_memory_equal(word + n - 8, "y", 1);
    free(word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
