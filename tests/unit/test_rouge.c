/* test_rouge.c - scores against rouge_score's (testdata/golden/rouge/texts.jsonl), the tokeniser's
 * odd cases, the bounded word cache, running means. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/rouge.h"
#include "text/words.h"

enum { ROUGE_1, ROUGE_2, ROUGE_L, ROUGE_LSUM, MEASURES }; /* as scorer() lists them */

static struct t5_rouge_scores score(struct t5_rouge *rouge, const char *reference,
                                    const char *prediction)
{
    struct t5_rouge_scores scores;
    struct t5_err err;
    assert_int_equal(t5_rouge_score(&scores, rouge, reference, strlen(reference), prediction,
                                    strlen(prediction), &err),
                     0);
    return scores;
}

static struct t5_rouge *scorer_of(const char *list, int stem)
{
    struct t5_rouge_options options = {.stem = stem};
    struct t5_rouge *rouge;
    struct t5_err err;
    assert_int_equal(t5_rouge_measures_parse(&options.measures, list, &err), 0);
    assert_int_equal(t5_rouge_open(&rouge, &options, &err), 0);
    return rouge;
}

static struct t5_rouge *scorer(int stem)
{
    return scorer_of("1,2,L,Lsum", stem);
}

static void expect(const struct t5_rouge_scores *got, const char *const *names, int n,
                   const json_t *want, int line, const char *how)
{
    for (int k = 0; k < n; k++) {
        const json_t *numbers = json_object_get(want, names[k]);
        const struct t5_prf *s = &got->of[k];
        const double mine[] = {s->precision, s->recall, s->fmeasure};
        assert_int_equal(json_array_size(numbers), 3);
        for (size_t i = 0; i < 3; i++) {
            double theirs = json_number_value(json_array_get(numbers, i));
            if (!t5_close(mine[i], theirs, 1e-12, 0))
                fail_msg("line %d, %s, %s[%zu]: got %.17g, want %.17g", line, how, names[k], i,
                         mine[i], theirs);
        }
    }
}

static void test_golden(void **state)
{
    static const char *const how[] = {"plain", "stemmed", "long"};
    static const char *const names[] = {"rouge1", "rouge2", "rougeL", "rougeLsum"},
                             *const longer[] = {"rouge3", "rouge4", "rouge7"};
    struct t5_rouge *rouge[] = {scorer(0), scorer(1), scorer_of("3,4,7", 1)};
    FILE *f = fopen("testdata/golden/rouge/texts.jsonl", "r");
    json_t *record;
    int line = 0;
    (void)state;
    assert_non_null(f);
    while ((record = json_loadf(f, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL)) != NULL) {
        const json_t *ref = json_object_get(record, "summary");
        const json_t *pred = json_object_get(record, "prediction");
        line++;
        for (int i = 0; i < 3; i++) {
            struct t5_rouge_scores scores;
            struct t5_err err;
            assert_int_equal(t5_rouge_score(&scores, rouge[i], json_string_value(ref),
                                            json_string_length(ref), json_string_value(pred),
                                            json_string_length(pred), &err),
                             0);
            expect(&scores, i < 2 ? names : longer, i < 2 ? 4 : 3, json_object_get(record, how[i]),
                   line, how[i]);
        }
        json_decref(record);
    }
    assert_int_equal(line, 87);
    fclose(f);
    t5_rouge_close(rouge[0]);
    t5_rouge_close(rouge[1]);
    t5_rouge_close(rouge[2]);
}

/* Lists of measures, and what is none. */
static void test_measures(void **state)
{
    static const char *const bad[] = {"",
                                      ",",
                                      "1,",
                                      ",1",
                                      "1,,2",
                                      "0",
                                      "01",
                                      "-1",
                                      "100",
                                      "1e1",
                                      "l",
                                      "LSUM",
                                      "L ",
                                      "L,1,L",
                                      "2,2",
                                      "4294967297",
                                      "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"};
    struct t5_rouge_measures measures;
    char name[T5_ROUGE_NAME];
    struct t5_err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (t5_rouge_measures_parse(&measures, bad[i], &err) == 0)
            fail_msg("\"%s\" was read", bad[i]);
    assert_int_equal(
        t5_rouge_measures_parse(&measures, "Lsum,99,L,1,2,3,4,5,6,7,8,9,10,11,12,13", &err), 0);
    assert_int_equal(measures.n, 16);
    assert_string_equal(t5_rouge_name(name, measures.of[0]), "rougeLsum");
    assert_string_equal(t5_rouge_name(name, measures.of[1]), "rouge99");
    assert_int_equal(t5_rouge_measures_find(&measures, T5_ROUGE_L), 2);
    assert_int_equal(t5_rouge_measures_find(&measures, 14), -1);
}

/* Hits of n-grams against counting them one by one, for every N up to that of the texts and one
 * more. */
static void test_grams(void **state)
{
    char text[2][200];
    (void)state;
    for (int trial = 0, m = 20; trial < 40; trial++) {
        for (int side = 0; side < 2; side++)
            for (int i = 0; i <= m; i++)
                sprintf(text[side] + 2 * i, i < m ? "%c " : "",
                        "abc"[(trial * 7919 + side * 31 + i * i * (side + 3)) % 7 % 3]);
        for (int n = 1; n <= m + 1; n++) {
            struct t5_rouge_options options = {.measures = {.n = 1, .of = {n}}};
            struct t5_rouge *rouge;
            struct t5_err err;
            int taken[20] = {0}, hits = 0, all = m - n + 1;
            for (int i = 0; i < all; i++)
                for (int j = 0; j < all; j++)
                    if (!taken[j] &&
                        memcmp(text[0] + 2 * i, text[1] + 2 * j, (size_t)(2 * n)) == 0) {
                        taken[j] = 1;
                        hits++;
                        break;
                    }
            assert_int_equal(t5_rouge_open(&rouge, &options, &err), 0);
            double got = score(rouge, text[0], text[1]).of[0].recall;
            assert_true(t5_close(got, all ? (double)hits / all : 0, 1e-15, 0));
            t5_rouge_close(rouge);
        }
    }
}

/* What a word is; every line holds two texts that must be the same words. */
static void test_words(void **state)
{
    static const char *const same[][2] = {
        {"A B", "a b"},
        {"a,b;c", "a b c"},
        {"\xe2\x84\xaa"
         "elvin mil\xe2\x84\xaa",
         "kelvin milk"},                               /* KELVIN SIGN */
        {"\xc4\xb0stanbul x\xc4\xb0", "i stanbul xi"}, /* I WITH DOT, a dot after it */
        {"caf\xc3\xa9s", "caf s"},
        {"a\xff"
         "b \xe2\x84",
         "a b"}, /* not UTF-8 */
        {"walking walked", "walk walks"},
        {"cats", "cat"},
    };
    struct t5_rouge *rouge = scorer(1);
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct t5_rouge_scores s = score(rouge, same[i][0], same[i][1]);
        assert_true(s.of[ROUGE_1].fmeasure == 1);
        assert_true(s.of[ROUGE_LSUM].fmeasure == 1);
    }
    struct t5_rouge_scores s = score(rouge, "ran its", "run it"); /* 3 letters are not stemmed */
    assert_true(s.of[ROUGE_1].fmeasure == 0);
    t5_rouge_close(rouge);
}

/* More different words than the cache keeps: it starts anew between records, and scores stay right.
 */
static void test_cache(void **state)
{
    struct t5_rouge *rouge = scorer(1);
    char reference[4000], prediction[4000];
    (void)state;
    for (int record = 0, word = 0; record < 4000; record++) {
        size_t r = 0, p = 0;
        for (int i = 0; i < 100; i++, word++) {
            r += (size_t)sprintf(reference + r, "w%dx ", word);
            p += (size_t)sprintf(prediction + p, i % 2 ? "w%dx\n" : "v%dx ", word);
        }
        struct t5_rouge_scores s = score(rouge, reference, prediction);
        assert_true(s.of[ROUGE_1].fmeasure == 0.5 && s.of[ROUGE_2].fmeasure == 0);
        assert_true(s.of[ROUGE_L].recall == 0.5 && s.of[ROUGE_LSUM].precision == 0.5);
    }
    t5_rouge_close(rouge);
}

static void test_word_table(void **state)
{
    struct t5_words words = {.stem = 1};
    struct t5_err err;
    char text[32];
    int32_t a, b;
    (void)state;
    assert_int_equal(t5_words_token(&a, &words, "flies", 5, &err), 0);
    assert_int_equal(t5_words_token(&b, &words, "fly", 3, &err), 0); /* too short to be stemmed */
    assert_int_not_equal(a, b);
    assert_int_equal(t5_words_token(&b, &words, "fli", 3, &err), 0);
    assert_int_equal(a, b);
    for (int i = 0; i < 5000; i++) { /* growth keeps every number */
        int n = sprintf(text, "%d", i);
        assert_int_equal(t5_words_token(&b, &words, text, (size_t)n, &err), 0);
    }
    assert_int_equal(t5_words_token(&b, &words, "flying", 6, &err), 0);
    assert_int_equal(t5_words_token(&a, &words, "4999", 4, &err), 0);
    assert_int_equal(words.words[a].n, 4);
    t5_words_clear(&words);
    assert_int_equal(t5_words_token(&a, &words, "new", 3, &err), 0);
    assert_int_equal(a, 0);
    t5_words_free(&words);
}

/* 131,072 tokens a side are scored, one more is refused as one bad record. */
static void test_limit(void **state)
{
    struct t5_rouge *rouge = scorer(0);
    struct t5_rouge_scores scores;
    struct t5_err err;
    size_t n = (size_t)1 << 17;
    char *text = malloc(2 * n + 2);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i <= n; i++) {
        text[2 * i] = (char)('a' + i * i % 7 % 5);
        text[2 * i + 1] = ' ';
    }
    assert_int_equal(t5_rouge_score(&scores, rouge, text, 2 * n, text, 2 * n, &err), 0);
    assert_true(scores.of[ROUGE_LSUM].fmeasure == 1);
    assert_int_equal(t5_rouge_score(&scores, rouge, text, 2 * n + 2, text, 2 * n, &err), -1);
    assert_int_equal(err.status, T5_BAD_INPUT);
    assert_true(err.skippable);
    assert_non_null(strstr(err.text, "131073 x 131072"));
    t5_rouge_close(rouge);
    free(text);
}

/* One plus 2^20 times 1e-16, which plain addition loses altogether. */
static void test_mean(void **state)
{
    struct t5_rouge_total total = {0};
    struct t5_rouge_scores big = {{{1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}}}, small = {0};
    int64_t n = 1 << 20;
    (void)state;
    for (int k = 0; k < MEASURES; k++)
        small.of[k] = (struct t5_prf){1e-16, 0, 0.25};
    t5_rouge_total_add(&total, &big);
    for (int64_t i = 0; i < n; i++)
        t5_rouge_total_add(&total, &small);
    struct t5_rouge_scores mean = t5_rouge_total_mean(&total);
    double count = (double)n + 1;
    assert_int_equal(total.count, n + 1);
    for (int k = 0; k < MEASURES; k++) {
        assert_true(t5_close(mean.of[k].precision * count - 1, 1e-16 * (double)n, 1e-15, 0));
        assert_true(t5_close(mean.of[k].recall, 1 / count, 0, 1e-15));
        assert_true(t5_close(mean.of[k].fmeasure, (0.25 * (double)n + 1) / count, 0, 1e-15));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_measures),
        cmocka_unit_test(test_grams),  cmocka_unit_test(test_words),
        cmocka_unit_test(test_cache),  cmocka_unit_test(test_word_table),
        cmocka_unit_test(test_limit),  cmocka_unit_test(test_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
