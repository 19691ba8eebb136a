/* test_sentence.c - where sentences end, and that long texts of nothing but marks take linear time.
 * With T5_TEST_SENTENCES=FILE it says how far a list of "text TAB sentence TAB sentence ..." lines
 * agrees (tests/golden/rouge.py --sentences makes them). */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/letters.h"
#include "text/sentence.h"

/* '|' is where a sentence ends; each text is given without it. */
static void test_table(void **state)
{
    static const char *const texts[] = {
        "",
        "No mark at all",
        "One.| Two.",
        "One!| two?| three...| Four",
        "one. two",
        "At 7.| 3 came.",
        "3.5 litres cost $4.99.| Really.",
        "Mr. Jones and Dr. No met Prof. X. Then J. R. Smith, e.g. Ann, left.",
        "It was I.| Bob knew.",
        "She can't.| He won't.| They may not.",
        "(See Fig. 3.)| \"Stop!\"| Ann said.",
        "\"Stop!\" said Ann.| \"Why?\"| Bob asked.",
        "\xe2\x80\x9cStop.\xe2\x80\x9d| \xe2\x80\x9cNo.\xe2\x80\x9d",
        "Hm.| \xc3\x89mile comes.| \xd0\x90\xd0\xbd\xd0\xbd\xd0\xb0",
        "He said... nothing.| Yes.",
        "www.example.org is v.2.0 of it",
        "What?!| no!!   ",
        "\xe5\xa5\xbd\xe3\x80\x82|\xe5\xa5\xbd\xef\xbc\x81\xe3\x80\x8d|\xe5\xa5\xbd",
        "End.",
        ".",
        ".| A",
        "bad\xff. \xff",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[200], got[200];
        size_t n = 0, at = 0, out = 0;
        for (const char *p = texts[i]; *p; p++)
            if (*p != '|')
                text[n++] = *p;
        while (at < n) {
            size_t len = t5_sentence_length(text + at, n - at);
            assert_in_range(len, 1, n - at);
            memcpy(got + out, text + at, len);
            out += len;
            at += len;
            if (at < n)
                got[out++] = '|';
        }
        got[out] = 0;
        if (strcmp(got, texts[i]) != 0)
            fail_msg("got:  %s\nwant: %s", got, texts[i]);
    }
}

static void test_lines(void **state)
{
    (void)state;
    assert_int_equal(t5_sentence_length("one\nTwo", 7), 3);
    assert_int_equal(t5_sentence_length("one.\nTwo", 8), 4);
    assert_int_equal(t5_sentence_length("one. \n Two", 10), 5);
    assert_int_equal(t5_sentence_length("\nTwo", 4), 0);
    assert_int_equal(t5_sentence_length("", 0), 0);
    assert_int_equal(t5_sentence_length("a\0. B", 5), 3);
}

/* Seconds if each mark looked at the whole text. */
static void test_long(void **state)
{
    static const char *const parts[] = {".", "a.", ". ", "!)", "Mr. ", "a. a", "\"", "("};
    size_t n = (size_t)1 << 20;
    char *text = malloc(n);
    (void)state;
    assert_non_null(text);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        size_t len = strlen(parts[k]), at = 0;
        for (size_t i = 0; i < n; i++)
            text[i] = parts[k][i % len];
        while (at < n) {
            size_t sentence = t5_sentence_length(text + at, n - at);
            assert_in_range(sentence, 1, n - at);
            at += sentence;
        }
    }
    free(text);
}

static void test_letters(void **state)
{
    static const struct {
        uint32_t c, lower;
        enum t5_letter letter;
    } rows[] = {
        {'A', 'a', T5_LETTER},         {'7', '7', T5_LETTER},
        {' ', ' ', T5_SIGN},           {0xc4, 0xe4, T5_LETTER},
        {0xd7, 0xd7, T5_SIGN},         {0x130, 0x130, T5_LETTER},
        {0x100, 0x101, T5_LETTER},     {0x101, 0x101, T5_LETTER},
        {0x3a3, 0x3c3, T5_LETTER},     {0x3c2, 0x3c3, T5_LETTER},
        {0x301, 0x301, T5_MARK},       {0x200d, 0x200d, T5_HIDDEN},
        {0x212a, 'k', T5_LETTER},      {0x2163, 0x2173, T5_LETTER},
        {0xb2, 0xb2, T5_SIGN},         {0x4e00, 0x4e00, T5_LETTER},
        {0x10400, 0x10428, T5_LETTER}, {0x1f600, 0x1f600, T5_SIGN},
        {0x20000, 0x20000, T5_LETTER}, {0xe01ef, 0xe01ef, T5_HIDDEN},
        {0x10ffff, 0x10ffff, T5_SIGN}, {0, 0, T5_SIGN},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(t5_letter_lower(rows[i].c), rows[i].lower);
        assert_int_equal(t5_letter_of(rows[i].c), rows[i].letter);
    }
}

/* Whether the text's sentences are those of the list, tabs between. */
static int agrees(const char *text, size_t n, const char *list)
{
    for (size_t at = 0; at < n;) {
        size_t len = t5_sentence_length(text + at, n - at);
        if (strncmp(list, text + at, len) != 0 || !strchr("\t\n", list[len]))
            return 0;
        list += len + 1;
        for (at += len; at < n && text[at] == ' '; at++)
            ;
    }
    return 1;
}

static void test_list(void **state)
{
    FILE *f = fopen(getenv("T5_TEST_SENTENCES"), "r");
    char *line = NULL;
    size_t capacity = 0;
    long lines = 0, same = 0;
    (void)state;
    assert_non_null(f);
    for (; getline(&line, &capacity, f) > 0; lines++) {
        const char *tab = strchr(line, '\t');
        assert_non_null(tab);
        same += agrees(line, (size_t)(tab - line), tab + 1);
    }
    print_message("# %ld of %ld texts have the same sentences\n", same, lines);
    assert_true(same > 0.95 * (double)lines);
    free(line);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest list[] = {cmocka_unit_test(test_list)};
    if (getenv("T5_TEST_SENTENCES"))
        return cmocka_run_group_tests(list, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
