/* test_tokenizer.c - ids and text against transformers' fast tokenizer, with our small model; the
 * library behind its C face; the grapheme rules that keep raw words apart. */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "io/jsonl.h"
#include "text/spm.h"
#include "text/tokenizer.h"

#define FOLDER "testdata/golden/tokenizer/"
static const char model_path[] = FOLDER "spiece.model";

static struct t5_tokenizer *open_tokenizer(const struct t5_segment_library *how, int special)
{
    struct t5_tokenizer *t;
    struct t5_err err;
    if (t5_tokenizer_open(&t, model_path, how, special, &err))
        fail_msg("%s", err.text);
    return t;
}

static struct t5_encoder *open_encoder(const struct t5_tokenizer *t)
{
    struct t5_encoder *e;
    struct t5_err err;
    assert_int_equal(t5_encoder_open(&e, t, &err), 0);
    return e;
}

/* Calls check for each record of a file. */
static void each(const char *path, void (*check)(const struct t5_record *, void *), void *arg)
{
    struct t5_jsonl *r;
    struct t5_record record;
    struct t5_err err;
    int rc, n = 0;
    assert_int_equal(t5_jsonl_open(&r, &path, 1, T5_MAX_LINE, &err), 0);
    while ((rc = t5_jsonl_next(r, &record, &err)) == 1) {
        check(&record, arg);
        n++;
    }
    assert_int_equal(rc, 0);
    assert_true(n > 10);
    t5_jsonl_close(r);
}

static void take(struct t5_buf *text, struct t5_buf *ids, const struct t5_record *record,
                 const char *text_name, const struct t5_field *ids_field)
{
    struct t5_err err;
    text->n = 0;
    if (text_name)
        assert_int_equal(t5_field_string(text, record, t5_record_find(record, text_name), &err), 0);
    assert_int_equal(t5_field_ids(ids, record, ids_field, INT32_MAX, &err), 0);
}

static void same_ids(const struct t5_record *record, const struct t5_buf *got,
                     const struct t5_buf *want)
{
    if (got->n == want->n && (got->n == 0 || memcmp(got->data, want->data, got->n) == 0))
        return;
    print_message("got ");
    for (size_t i = 0; i < got->n / 4; i++)
        print_message(" %d", ((int32_t *)got->data)[i]);
    fail_msg(" for line %lld: %.*s", (long long)record->line, (int)record->n, record->text);
}

struct pair {
    struct t5_encoder *plain, *special, *library;
};

static void check_case(const struct t5_record *record, void *arg)
{
    struct pair *p = arg;
    struct t5_buf text = {0}, want = {0}, got = {0};
    struct t5_err err;
    const struct t5_field *ids = t5_record_find(record, "ids");
    const struct t5_field *special = t5_record_find(record, "special");
    const struct t5_field *library = t5_record_find(record, "library");
    take(&text, &want, record, "text", ids ? ids : special);
    for (int again = 0; again < 2; again++) { /* the second time words are remembered */
        assert_int_equal(t5_encode(&got, ids ? p->plain : p->special, text.data, text.n, 0, &err), 0);
        same_ids(record, &got, &want);
    }
    if (ids) { /* text without special tokens: the option changes nothing */
        assert_int_equal(t5_encode(&got, p->special, text.data, text.n, 0, &err), 0);
        same_ids(record, &got, &want);
    }
    /* Cut at every length: the first ids, and </s> last. */
    for (size_t max = 1; max <= want.n / 4; max++) {
        assert_int_equal(t5_encode(&got, ids ? p->plain : p->special, text.data, text.n, max, &err), 0);
        assert_int_equal(got.n, 4 * max);
        assert_memory_equal(got.data, want.data, got.n - 4);
        assert_int_equal(((int32_t *)got.data)[max - 1], T5_EOS);
    }
    if (library) {
        take(&text, &want, record, "text", library);
        assert_int_equal(t5_encode(&got, p->library, text.data, text.n, 0, &err), 0);
        assert_int_equal(((int32_t *)got.data)[got.n / 4 - 1], T5_EOS);
        got.n -= 4;
        same_ids(record, &got, &want);
    }
    t5_buf_free(&text);
    t5_buf_free(&want);
    t5_buf_free(&got);
}

static void encode_as_transformers(void **state)
{
    (void)state;
    struct t5_tokenizer *t = open_tokenizer(NULL, 0);
    struct t5_tokenizer *s = open_tokenizer(NULL, 1);
    struct t5_tokenizer *l = open_tokenizer(&t5_spm_library, 0);
    struct pair p = {open_encoder(t), open_encoder(s), open_encoder(l)};
    each(FOLDER "cases.jsonl", check_case, &p);
    t5_encoder_close(p.plain);
    t5_encoder_close(p.special);
    t5_encoder_close(p.library);
    t5_tokenizer_close(t);
    t5_tokenizer_close(s);
    t5_tokenizer_close(l);
}

static void check_decoding(const struct t5_record *record, void *arg)
{
    struct t5_buf want = {0}, ids = {0}, got = {0};
    struct t5_err err;
    take(&want, &ids, record, "prediction", t5_record_find(record, "output_ids"));
    assert_int_equal(t5_decode(&got, arg, (int32_t *)ids.data, ids.n / 4, &err), 0);
    if (got.n != want.n || (got.n && memcmp(got.data, want.data, got.n) != 0))
        fail_msg("'%.*s' for line %lld: %.*s", (int)got.n, got.data, (long long)record->line,
                 (int)record->n, record->text);
    t5_buf_free(&want);
    t5_buf_free(&ids);
    t5_buf_free(&got);
}

static void decode_as_transformers(void **state)
{
    (void)state;
    struct t5_tokenizer *t = open_tokenizer(NULL, 0);
    each(FOLDER "decode.jsonl", check_decoding, t);
    /* Ids behind the sentinels, where a padded embedding has rows, have no text. */
    struct t5_buf got = {0};
    struct t5_err err;
    const int32_t beyond[] = {t5_tokenizer_size(t), t5_tokenizer_vocab(t) - 1};
    assert_true(t5_tokenizer_vocab(t) % 128 == 0 && t5_tokenizer_vocab(t) >= t5_tokenizer_size(t));
    assert_int_equal(t5_decode(&got, t, beyond, 2, &err), 0);
    assert_int_equal(got.n, 0);
    t5_buf_free(&got);
    t5_tokenizer_close(t);
}

/* Without the option, special tokens in foreign text are characters like any others. */
static void special_tokens_are_text_by_default(void **state)
{
    (void)state;
    struct t5_tokenizer *t = open_tokenizer(NULL, 0);
    struct t5_encoder *e = open_encoder(t);
    static const char *const texts[] = {"</s>", "<pad>", "<unk>", "<extra_id_0>", "\xef\xbc\x9c/s\xef\xbc\x9e"};
    struct t5_buf got = {0};
    struct t5_err err;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(t5_encode(&got, e, texts[i], strlen(texts[i]), 0, &err), 0);
        const int32_t *ids = (int32_t *)got.data;
        size_t n = got.n / 4;
        assert_true(n > 2);
        for (size_t k = 0; k < n - 1; k++)
            assert_true(ids[k] >= T5_UNK && ids[k] < t5_tokenizer_size(t) - 100);
        assert_int_equal(ids[n - 1], T5_EOS);
    }
    t5_buf_free(&got);
    t5_encoder_close(e);
    t5_tokenizer_close(t);
}

/* A megabyte without a space, of three kinds, in linear time: ten times as long takes about ten
 * times as long. */
static void long_words_take_linear_time(void **state)
{
    (void)state;
    struct t5_tokenizer *t = open_tokenizer(NULL, 0);
    struct t5_encoder *e = open_encoder(t);
    static const char *const units[] = {"a", "\xe6\x97\xa5", "\xcc\x81"};
    struct t5_buf text = {0}, got = {0};
    struct t5_err err;
    for (size_t i = 0; i < 3; i++) {
        text.n = 0;
        while (text.n < 1 << 20)
            assert_int_equal(t5_buf_append(&text, units[i], strlen(units[i]), &err), 0);
        clock_t start = clock();
        assert_int_equal(t5_encode(&got, e, text.data, text.n, 0, &err), 0);
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 5); /* quadratic time would be hours */
        assert_true(got.n >= 8);
    }
    t5_buf_free(&text);
    t5_buf_free(&got);
    t5_encoder_close(e);
    t5_tokenizer_close(t);
}

/* More words than the memory has places for: what is forgotten is found again. */
static void word_memory_forgets_rightly(void **state)
{
    (void)state;
    struct t5_tokenizer *t = open_tokenizer(NULL, 0);
    struct t5_encoder *e = open_encoder(t), *fresh;
    struct t5_buf a = {0}, b = {0};
    struct t5_err err;
    char word[32];
    for (int i = 0; i < 100000; i++) {
        int n = sprintf(word, "the%dx%d", i % 40000, i % 7);
        assert_int_equal(t5_encode(&a, e, word, (size_t)n, 0, &err), 0);
        if (i % 5000 == 0) {
            fresh = open_encoder(t);
            assert_int_equal(t5_encode(&b, fresh, word, (size_t)n, 0, &err), 0);
            assert_int_equal(a.n, b.n);
            assert_memory_equal(a.data, b.data, a.n);
            t5_encoder_close(fresh);
        }
    }
    t5_buf_free(&a);
    t5_buf_free(&b);
    t5_encoder_close(e);
    t5_tokenizer_close(t);
}

static void library_refuses_rubbish(void **state)
{
    (void)state;
    struct t5_spm *spm;
    struct t5_err err;
    assert_int_equal(t5_spm_open(&spm, "rubbish", 7, &err), -1);
    assert_null(spm);
    assert_memory_equal(err.text, "SentencePiece: ", 15);
}

static void missing_model(void **state)
{
    (void)state;
    struct t5_tokenizer *t;
    struct t5_err err;
    assert_int_equal(t5_tokenizer_open(&t, "/nonexistent", NULL, 0, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
    assert_string_equal(err.text, "/nonexistent: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_as_transformers),
        cmocka_unit_test(decode_as_transformers),
        cmocka_unit_test(special_tokens_are_text_by_default),
        cmocka_unit_test(long_words_take_linear_time),
        cmocka_unit_test(word_memory_forgets_rightly),
        cmocka_unit_test(library_refuses_rubbish),
        cmocka_unit_test(missing_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
