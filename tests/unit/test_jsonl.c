/* test_jsonl.c - the JSONL reader: every verdict of its table, from a file, a pipe and one-byte
 * reads; finding, reading and splicing members; limits at the limit and one above. */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "feed.h"
#include "io/jsonl.h"

#define TEXT(s) s, sizeof(s) - 1

/* Reads everything; writes "ok LINE TEXT\n" or "bad ERROR\n" for each record into out. */
static void read_all(struct t5_buf *out, const char *path, size_t max_line)
{
    struct t5_jsonl *r;
    struct t5_record record;
    struct t5_err err = {0};
    int rc;
    assert_int_equal(t5_jsonl_open(&r, &path, 1, max_line, &err), 0);
    while ((rc = t5_jsonl_next(r, &record, &err)) != 0) {
        if (rc < 0) {
            assert_int_equal(t5_buf_printf(out, &err, "bad %s\n", err.text), 0);
            assert_true(err.skippable);
            continue;
        }
        assert_int_equal(t5_buf_printf(out, &err, "ok %lld ", (long long)record.line), 0);
        assert_int_equal(t5_buf_append(out, record.text, record.n, &err), 0);
        assert_int_equal(t5_buf_append(out, "\n", 1, &err), 0);
    }
    t5_jsonl_close(r);
    assert_int_equal(t5_buf_append(out, "", 1, &err), 0);
}

static void save(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void replace_stdin_name(struct t5_buf *b, const char *name)
{
    struct t5_buf out = {0};
    struct t5_err err;
    for (const char *p = b->data, *hit;; p = hit + 7) {
        hit = strstr(p, "<stdin>");
        size_t run = hit ? (size_t)(hit - p) : strlen(p) + 1;
        assert_int_equal(t5_buf_append(&out, p, run, &err), 0);
        if (!hit)
            break;
        assert_int_equal(t5_buf_append(&out, name, strlen(name), &err), 0);
    }
    t5_buf_free(b);
    *b = out;
}

/* The verdict, the same for a file, a pipe (7 bytes a read) and one-byte reads. */
static void expect(const char *bytes, size_t n, const char *want, int line)
{
    char path[] = "/tmp/t5-test-jsonl-XXXXXX";
    int fd = mkstemp(path);
    close(fd);
    save(path, bytes, n);
    struct t5_buf file = {0};
    read_all(&file, path, 1000);
    replace_stdin_name(&file, path);
    char *place = strstr(file.data, path);
    while (place) { /* in `want` the place is F */
        *place = 'F';
        memmove(place + 1, place + strlen(path), strlen(place + strlen(path)) + 1);
        place = strstr(file.data, path);
    }
    if (strcmp(file.data, want) != 0)
        fail_msg("row at line %d:\n got %s want %s", line, file.data, want);
    for (size_t step = 1; step <= 7; step += 6) {
        struct t5_buf piped = {0};
        pid_t pid = feed(bytes, n, step);
        read_all(&piped, "-", 1000);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        replace_stdin_name(&piped, "F");
        if (strcmp(piped.data, want) != 0)
            fail_msg("row at line %d, %zu bytes a read:\n got %s want %s", line, step, piped.data,
                     want);
        t5_buf_free(&piped);
    }
    t5_buf_free(&file);
    unlink(path);
}

#define EXPECT(bytes, want) expect(TEXT(bytes), want, __LINE__)

static void accepted(void **state)
{
    (void)state;
    EXPECT("", "");
    EXPECT("\n\n \t\r\n", "");
    EXPECT("{}", "ok 1 {}\n");
    EXPECT("{\"a\":1}\n{\"a\":2}", "ok 1 {\"a\":1}\nok 2 {\"a\":2}\n");
    EXPECT("{\"a\":1}\r\n\r\n{\"a\":2}\r\n", "ok 1 {\"a\":1}\nok 3 {\"a\":2}\n");
    EXPECT("\xef\xbb\xbf{\"a\":1}\n", "ok 1 {\"a\":1}\n");
    EXPECT("\xef\xbb\xbf\n{}\n", "ok 2 {}\n");
    EXPECT(" { \"a\" : [ 1 , -2.5e+3 , [ ] , { } , true , false , null ] } \n",
           "ok 1 { \"a\" : [ 1 , -2.5e+3 , [ ] , { } , true , false , null ] }\n");
    EXPECT("{\"\":\"\\u0000\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
           "ok 1 {\"\":\"\\u0000\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"}\n");
    EXPECT("{\"a\":{\"a\":{\"a\":[{\"a\":0}]}}}", "ok 1 {\"a\":{\"a\":{\"a\":[{\"a\":0}]}}}\n");
    EXPECT("{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\x7f\"}",
           "ok 1 {\"\xc3\xa9\":\"\xf0\x9f\x98\x80\x7f\"}\n");
}

static void rejected(void **state)
{
    (void)state;
    EXPECT("{}\n\xef\xbb\xbf{}\n{}\n",
           "ok 1 {}\nbad F:2:1: expected an object, found '\xef\xbb\xbf'\nok 3 {}\n");
    EXPECT("{\"a\":\"x\xff\"}\n{}\n", "bad F:1:8: not valid UTF-8\nok 2 {}\n");
    EXPECT("{\"a\":\"\xc0\xaf\"}\n", "bad F:1:7: not valid UTF-8\n");         /* overlong */
    EXPECT("{\"a\":\"\xed\xa0\x80\"}\n", "bad F:1:7: not valid UTF-8\n");     /* surrogate */
    EXPECT("{\"a\":\"\xf4\x90\x80\x80\"}\n", "bad F:1:7: not valid UTF-8\n"); /* > U+10FFFF */
    EXPECT("{\"a\":\"\\ud800\"}\n", "bad F:1:7: lone surrogate escape\n");
    EXPECT("{\"a\":\"\\ud800\\u0041\"}\n", "bad F:1:7: lone surrogate escape\n");
    EXPECT("{\"a\":\"\\udc00\"}\n", "bad F:1:7: lone surrogate escape\n");
    EXPECT("{\"a\":\"\\u12g4\"}\n", "bad F:1:7: \\u without four hexadecimal digits\n");
    EXPECT("{\"a\":\"\\x41\"}\n", "bad F:1:7: not an escape that JSON knows\n");
    EXPECT("{\"a\":\"\0\"}\n", "bad F:1:7: NUL byte in a string\n");
    EXPECT("{\"a\":\"\t\"}\n", "bad F:1:7: control character in a string\n");
    EXPECT("{}\0\n{}\n", "bad F:1:3: more text after the record\nok 2 {}\n");
    EXPECT("{} {}\n", "bad F:1:4: more text after the record\n");
    EXPECT("{\"a\":\n1}\n", "bad F:1:6: record ends inside an object\n"
                            "bad F:2:1: expected an object, found '1'\n");
    EXPECT("{\"a\":1}\n{\"a\":\"x", "ok 1 {\"a\":1}\nbad F:2:8: record ends inside a string\n");
    EXPECT("{\"a\":\"\\u00", "bad F:1:11: record ends inside a string\n");
    EXPECT("{\"a\":\"\\", "bad F:1:8: record ends inside a string\n");
    EXPECT("{\"a\":[1,", "bad F:1:9: record ends inside an array\n");
    EXPECT("{\"a\":-", "bad F:1:7: record ends inside a number\n");
    EXPECT("{\"a\":tru", "bad F:1:9: record ends inside a word\n");
    EXPECT("{\"a\":1\n{}\n", "bad F:1:7: record ends inside an object\nok 2 {}\n");
    EXPECT("{\"a\":1,\"a\":2}\n", "bad F:1:8: duplicate key \"a\"\n");
    EXPECT("{\"a\":1,\"\\u0061\":2}\n", "bad F:1:8: duplicate key \"\\u0061\"\n");
    EXPECT("{\"b\":{\"a\":1,\"a\":2}}\n", "bad F:1:13: duplicate key \"a\"\n");
    EXPECT("{\"a\":NaN}\n", "bad F:1:6: expected a JSON value, found 'N'\n");
    EXPECT("{\"a\":Infinity}\n", "bad F:1:6: expected a JSON value, found 'I'\n");
    EXPECT("{\"a\":-Infinity}\n", "bad F:1:7: expected a digit, found 'I'\n");
    EXPECT("{\"a\":01}\n", "bad F:1:6: number with a leading zero\n");
    EXPECT("{\"a\":1.}\n", "bad F:1:8: expected a digit, found '}'\n");
    EXPECT("{\"a\":1,}\n", "bad F:1:8: expected a key in double quotes, found '}'\n");
    EXPECT("{\"a\":[1,]}\n", "bad F:1:9: expected a JSON value, found ']'\n");
    EXPECT("{'a':1}\n", "bad F:1:2: expected a key in double quotes, found '''\n");
    EXPECT("{\"a\":1}//x\n", "bad F:1:8: more text after the record\n");
    EXPECT("{\"a\" 1}\n", "bad F:1:6: expected ':', found '1'\n");
    EXPECT("{\"a\":1 \"b\":2}\n", "bad F:1:8: expected ',' or '}', found '\"'\n");
    EXPECT("{\"a\":[1}\n", "bad F:1:8: expected ',' or ']', found '}'\n");
    EXPECT("\"text\"\n", "bad F:1:1: expected an object, found '\"'\n");
    EXPECT("\xef\xbb\xbfnull\n", "bad F:1:4: expected an object, found 'n'\n");
}

static void hinted(void **state)
{
    (void)state;
    EXPECT("[{\"a\":1}]\n",
           "bad F:1:1: expected an object, found '[' (this looks like a JSON array; one "
           "object a line is expected (jq -c '.[]' makes that))\n");
    EXPECT("\xff\xfe{\0}\0",
           "bad F:1:1: expected an object, found '\\xff' (this looks like UTF-16, convert "
           "it with iconv)\n");
    EXPECT("{\0\"\0",
           "bad F:1:2: expected a key in double quotes, found '\\x00' (this looks like UTF-16, "
           "convert it with iconv)\n");
    EXPECT("\x1f\x8b\x08\x01",
           "bad F:1:1: expected an object, found '\\x1f' (this looks like gzip data, "
           "decompress it first)\n");
    EXPECT("version https://git-lfs.github.com/spec/v1\n",
           "bad F:1:1: expected an object, found 'v' (this looks like a Git-LFS pointer, fetch the "
           "file itself)\n");
    EXPECT("<!DOCTYPE html>\n",
           "bad F:1:1: expected an object, found '<' (this looks like an HTML page)\n");
    EXPECT("\x01\x02\x03", "bad F:1:1: expected an object, found '\\x01'\n");
}

static void line_limit(void **state)
{
    (void)state;
    struct t5_buf in = {0}, want = {0};
    struct t5_err err;
    for (int over = 0; over <= 1; over++) { /* 1000 bytes are allowed by expect() */
        in.n = want.n = 0;
        assert_int_equal(t5_buf_printf(&in, &err, "{\"a\":\"%0*d\"}\n{}\n", 992 + over, 0), 0);
        assert_int_equal(over ? t5_buf_printf(&want, &err,
                                              "bad F:1:1: line longer than 1000 bytes (see "
                                              "--max-line)\nok 2 {}\n")
                              : t5_buf_printf(&want, &err, "ok 1 %.*s\nok 2 {}\n", 1000, in.data),
                         0);
        expect(in.data, in.n, want.data, __LINE__);
        expect(in.data, in.n - 3,
               over ? "bad F:1:1: line longer than 1000 bytes (see --max-line)\n"
                    : (want.data[want.n - 8] = 0, want.data),
               __LINE__);
    }
    t5_buf_free(&in);
    t5_buf_free(&want);
}

static void depth_limit(void **state)
{
    (void)state;
    char text[400];
    for (int depth = 63; depth <= 64; depth++) { /* arrays inside the record's own level */
        int n = sprintf(text, "{\"a\":");
        for (int i = 0; i < depth; i++)
            text[n++] = '[';
        for (int i = 0; i < depth; i++)
            text[n++] = ']';
        text[n++] = '}';
        text[n] = 0;
        char want[500];
        sprintf(want, depth == 63 ? "ok 1 %s\n" : "bad F:1:69: nested more than 64 levels deep\n",
                text);
        expect(text, (size_t)n, want, __LINE__);
    }
}

static void many_levels_use_no_stack(void **state)
{
    (void)state;
    size_t n = 8 << 20;
    char *text = malloc(n);
    memset(text, '[', n);
    struct t5_err err;
    assert_int_equal(t5_json_check(text, n, &err), -1);
    assert_string_equal(err.text, "byte 64: nested more than 64 levels deep");
    free(text);
}

/* A hundred megabytes in one line: refused without being kept, and the next line is read. */
static void huge_line_is_not_kept(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        static char block[1 << 16];
        memset(block, 'x', sizeof block);
        for (int i = 0; i < 1600; i++)
            if (write(fd[1], block, sizeof block) < 0)
                _exit(1);
        _exit(write(fd[1], "\n{}\n", 4) != 4);
    }
    close(fd[1]);
    dup2(fd[0], 0);
    close(fd[0]);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    struct t5_jsonl *r;
    struct t5_record record;
    struct t5_err err;
    assert_int_equal(t5_jsonl_open(&r, NULL, 0, T5_MAX_LINE, &err), 0);
    assert_int_equal(t5_jsonl_next(r, &record, &err), -1);
    assert_string_equal(err.text, "<stdin>:1:1: line longer than 16777216 bytes (see --max-line)");
    assert_true(err.skippable);
    assert_int_equal(t5_jsonl_next(r, &record, &err), 1);
    assert_int_equal(record.line, 2);
    assert_int_equal(t5_jsonl_next(r, &record, &err), 0);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 << 10 || after.ru_maxrss < 96 << 10);
    t5_jsonl_close(r);
    waitpid(pid, NULL, 0);
}

static void long_keys_and_numbers(void **state)
{
    (void)state;
    struct t5_buf b = {0};
    struct t5_err err;
    struct t5_record record = {0};
    size_t n = 1 << 20;
    char *digits = malloc(n + 1);
    memset(digits, '7', n);
    digits[n] = 0;
    assert_int_equal(t5_buf_printf(&b, &err, "{\"%s\":%s}", digits, digits), 0);
    assert_int_equal(t5_record_parse(&record, b.data, b.n, &err), 0);
    assert_int_equal(record.n_fields, 1);
    assert_int_equal(record.fields[0].type, T5_JSON_NUMBER);
    assert_int_equal(record.fields[0].value_n, n);
    assert_non_null(t5_record_find(&record, digits));
    b.n = 0; /* many keys, and the one that comes twice */
    assert_int_equal(t5_buf_printf(&b, &err, "{"), 0);
    for (int i = 0; i < 200000; i++)
        assert_int_equal(t5_buf_printf(&b, &err, "\"%d\":0,", i), 0);
    assert_int_equal(t5_buf_printf(&b, &err, "\"\\u0037\":1,\"8\":2}"), 0);
    assert_int_equal(t5_record_parse(&record, b.data, b.n, &err), -1);
    assert_non_null(strstr(err.text, "duplicate key \"\\u0037\""));
    t5_buf_free(&b);
    t5_record_free(&record);
    free(digits);
}

static void files_in_order(void **state)
{
    (void)state;
    char one[] = "/tmp/t5-test-one-XXXXXX", two[] = "/tmp/t5-test-two-XXXXXX";
    close(mkstemp(one));
    close(mkstemp(two));
    save(one, TEXT("{\"n\":1}\n{\"n\":2}"));
    save(two, TEXT("\xef\xbb\xbf{\"n\":3}\n"));
    const char *paths[] = {one, two, "/nonexistent/file"};
    struct t5_jsonl *r;
    struct t5_record record;
    struct t5_err err;
    int byte;
    assert_int_equal(t5_jsonl_open(&r, paths, 3, T5_MAX_LINE, &err), 0);
    assert_int_equal(t5_jsonl_peek(r, 0, &byte, &err), 0);
    assert_int_equal(byte, '{');
    assert_int_equal(t5_jsonl_peek(r, 5, &byte, &err), 0);
    assert_int_equal(byte, '1');
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(t5_jsonl_next(r, &record, &err), 1);
        assert_int_equal(record.text[5], '0' + i);
        assert_int_equal(record.line, i == 3 ? 1 : i);
        assert_string_equal(record.file, i == 3 ? two : one);
    }
    assert_int_equal(t5_jsonl_next(r, &record, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
    assert_false(err.skippable);
    assert_string_equal(err.text, "/nonexistent/file: No such file or directory");
    t5_jsonl_close(r);
    unlink(one);
    unlink(two);
}

static struct t5_record parse(const char *text)
{
    static struct t5_record record;
    struct t5_err err;
    assert_int_equal(t5_record_parse(&record, text, strlen(text), &err), 0);
    return record;
}

static void strings(void **state)
{
    (void)state;
    struct t5_record r =
        parse("{\"a\":\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\u0000\\n\\\"x\",\"n\":5}");
    struct t5_buf b = {0};
    struct t5_err err;
    assert_int_equal(t5_field_string(&b, &r, t5_record_find(&r, "a"), &err), 0);
    assert_int_equal(b.n, 14);
    assert_memory_equal(b.data, "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0\n\"x", 14);
    assert_int_equal(t5_field_string(&b, &r, t5_record_find(&r, "n"), &err), -1);
    assert_string_equal(err.text, "column 54: \"n\": expected a string, found a number");
    assert_null(t5_record_need(&r, "labels", &err));
    assert_string_equal(err.text, "column 1: no \"labels\"");
    assert_true(err.skippable);
    assert_int_equal(err.status, T5_BAD_INPUT);
    r = parse("{\"\\u0061b\":1,\"c\":2}");
    assert_ptr_equal(t5_record_find(&r, "ab"), &r.fields[0]);
    assert_null(t5_record_find(&r, "a"));
    assert_null(t5_record_find(&r, "abc"));
    t5_buf_free(&b);
}

static void ids(void **state)
{
    (void)state;
    static const struct {
        const char *text, *err;
    } bad[] = {
        {"{\"i\":[1,-2]}",
         "column 9: \"i\": item 1: expected a whole number from 0 to 99, found -2"},
        {"{\"i\":[5.0]}",
         "column 7: \"i\": item 0: expected a whole number from 0 to 99, found 5.0"},
        {"{\"i\":[1e1]}",
         "column 7: \"i\": item 0: expected a whole number from 0 to 99, found 1e1"},
        {"{\"i\":[99,100]}",
         "column 10: \"i\": item 1: expected a whole number from 0 to 99, found 100"},
        {"{\"i\":[18446744073709551617]}",
         "column 7: \"i\": item 0: expected a whole number from 0 to "
         "99, found 18446744073709551617"},
        {"{\"i\":[\"1\"]}",
         "column 7: \"i\": item 0: expected a whole number from 0 to 99, found \"1\""},
        {"{\"i\":[[1]]}",
         "column 7: \"i\": item 0: expected a whole number from 0 to 99, found [1]"},
        {"{\"i\":[null]}",
         "column 7: \"i\": item 0: expected a whole number from 0 to 99, found null"},
        {"{\"i\":7}", "column 6: \"i\": expected an array of whole numbers, found a number"},
    };
    struct t5_buf b = {0};
    struct t5_err err;
    struct t5_record r = parse("{\"i\":[ 0 , 1,99\t,42 ],\"e\":[ ],\"one\":[7]}");
    assert_int_equal(t5_field_ids(&b, &r, &r.fields[0], 100, &err), 0);
    assert_int_equal(b.n, 16);
    assert_memory_equal(b.data, ((int32_t[]){0, 1, 99, 42}), 16);
    assert_int_equal(t5_field_ids(&b, &r, &r.fields[2], 100, &err), 0);
    assert_int_equal(b.n, 4);
    assert_int_equal(t5_field_ids(&b, &r, &r.fields[1], 100, &err), 0);
    assert_int_equal(b.n, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = parse(bad[i].text);
        assert_int_equal(t5_field_ids(&b, &r, &r.fields[0], 100, &err), -1);
        assert_string_equal(err.text, bad[i].err);
    }
    t5_buf_free(&b);
}

static void splice(void **state)
{
    (void)state;
    static const struct {
        const char *record, *members, *want;
    } rows[] = {
        {"{}", "\"x\":1", "{\"x\":1}\n"},
        {"{ }", "\"x\":1", "{ \"x\":1}\n"},
        {"{}", "", "{}\n"},
        {"{\"a\":1}", "", "{\"a\":1}\n"},
        {"{ \"a\" : 1.0 , \"b\":\"\\u00e9\" }", "\"x\":1",
         "{ \"a\" : 1.0 , \"b\":\"\\u00e9\" ,\"x\":1}\n"},
        {"{\"x\":0}", "\"x\":1", "{\"x\":1}\n"},
        {"{\"x\":0}", "", "{}\n"},
        {"{\"x\":0,\"a\":1}", "\"x\":1", "{\"a\":1,\"x\":1}\n"},
        {"{\"a\":1,\"x\":[0]}", "\"x\":1", "{\"a\":1,\"x\":1}\n"},
        {"{\"a\":1, \"x\":0, \"b\":2}", "\"x\":1", "{\"a\":1, \"b\":2,\"x\":1}\n"},
        {"{\"y\":9,\"x\":0,\"a\":1}", "\"x\":1", "{\"a\":1,\"x\":1}\n"},
        {"{\"y\":9,\"a\":1,\"\\u0078\":0}", "\"x\":1", "{\"a\":1,\"x\":1}\n"},
    };
    const char *drop[] = {"x", "y"};
    struct t5_buf b = {0};
    struct t5_err err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct t5_record r = parse(rows[i].record);
        b.n = 0;
        assert_int_equal(t5_record_splice_replacing(&b, &r, drop, 2, rows[i].members,
                                                    strlen(rows[i].members), &err),
                         0);
        assert_int_equal(t5_buf_append(&b, "", 1, &err), 0);
        assert_string_equal(b.data, rows[i].want);
    }
    t5_buf_free(&b);
}

/* Punctuation inside strings and escapes does not end them. */
static void next_string(void **state)
{
    (void)state;
    static const char *const want[] = {"", "],\"", "\\", "x"};
    struct t5_record r = parse(
        "{\"a\":[ \"\",\"],\\\"\"\t,\"\\\\\" , \"\\u0078\" ],"
        "\"b\":[],\"c\":[\"d\",[]]}");
    struct t5_buf b = {0};
    struct t5_field item;
    struct t5_err err;
    const char *at = NULL;
    for (size_t i = 0; i < 4; i++) {
        b.n = 0;
        assert_int_equal(t5_field_next_string(&item, &at, &r, t5_record_find(&r, "a"), &err), 1);
        assert_int_equal(t5_field_string(&b, &r, &item, &err), 0);
        assert_int_equal(t5_buf_append(&b, "", 1, &err), 0);
        assert_string_equal(b.data, want[i]);
    }
    assert_int_equal(t5_field_next_string(&item, &at, &r, t5_record_find(&r, "a"), &err), 0);
    at = NULL;
    assert_int_equal(t5_field_next_string(&item, &at, &r, t5_record_find(&r, "b"), &err), 0);
    at = NULL;
    assert_int_equal(t5_field_next_string(&item, &at, &r, t5_record_find(&r, "c"), &err), 1);
    assert_int_equal(t5_field_next_string(&item, &at, &r, t5_record_find(&r, "c"), &err), -1);
    assert_true(err.skippable && strstr(err.text, "an item of \"c\" is not a string"));
    t5_buf_free(&b);
}

static void quote(void **state)
{
    (void)state;
    struct t5_buf b = {0};
    struct t5_err err;
    assert_int_equal(
        t5_json_quote(&b, TEXT("a\"b\\\n\t\x01\0\xc3\xa9\xff\x7f/ and a longer run"), &err), 0);
    assert_int_equal(t5_buf_append(&b, "", 1, &err), 0);
    assert_string_equal(
        b.data, "\"a\\\"b\\\\\\n\\t\\u0001\\u0000\xc3\xa9\xef\xbf\xbd\x7f/ and a longer run\"");
    t5_buf_free(&b);
}

static void documents(void **state)
{
    (void)state;
    struct t5_err err;
    assert_int_equal(t5_json_check(TEXT(" [1, {\"a\": 2}]\n"), &err), 0);
    assert_int_equal(t5_json_check(TEXT("12"), &err), 0);
    assert_int_equal(t5_json_check(TEXT(""), &err), -1);
    assert_int_equal(t5_json_check(TEXT("[1] 2"), &err), -1);
    assert_string_equal(err.text, "byte 4: more text after the value");
    assert_int_equal(t5_json_check(TEXT("[{\"a\":1,\"\\u0061\":1}]"), &err), -1);
    assert_string_equal(err.text, "byte 8: duplicate key \"\\u0061\"");
    assert_int_equal(t5_json_check(TEXT("[\"x"), &err), -1);
    assert_string_equal(err.text, "byte 3: text ends inside a string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted),
        cmocka_unit_test(rejected),
        cmocka_unit_test(hinted),
        cmocka_unit_test(line_limit),
        cmocka_unit_test(depth_limit),
        cmocka_unit_test(many_levels_use_no_stack),
        cmocka_unit_test(huge_line_is_not_kept),
        cmocka_unit_test(long_keys_and_numbers),
        cmocka_unit_test(files_in_order),
        cmocka_unit_test(strings),
        cmocka_unit_test(ids),
        cmocka_unit_test(splice),
        cmocka_unit_test(next_string),
        cmocka_unit_test(quote),
        cmocka_unit_test(documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
