/* test_formats.c - JSON arrays and CSV through the record reader: the verdict on each table row,
 * the same from a file and from reads of one and three bytes; limits at the limit and one above;
 * what is taken for what. */
/* SPDX-License-Identifier: MIT */
#include "feed.h"
#include "files.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include "io/jsonl.h"

#define FULL ((size_t)1 << 20)
#define TEXT(s) s, sizeof(s) - 1

struct row {
    const char *bytes;
    size_t n;
    const char *want; /* a line each: "LINE:COLUMN #NUMBER RECORD", "skip ERROR", "stop ERROR" */
};

static int put(struct t5_buf *out, const char *what, const char *text)
{
    struct t5_err err;
    const char *at =
        strstr(text, ": ") ? strchr(text, ':') + 1 : text; /* without the file's name */
    return t5_buf_printf(out, &err, "%s %s\n", what, at);
}

/* Whether the reader is asked for readiness in between must make no difference. */
static void read_all(struct t5_buf *out, const char *path, enum t5_input_format format, size_t max,
                     int ask)
{
    struct t5_jsonl *r;
    struct t5_record record;
    struct t5_err err = {0};
    int rc = 1;
    assert_int_equal(t5_jsonl_open(&r, &path, 1, max, &err), 0);
    t5_jsonl_format(r, format);
    while (rc > 0 || err.skippable) {
        err.skippable = 0;
        for (int i = 0; i < ask; i++)
            (void)t5_jsonl_ready(r);
        rc = t5_jsonl_next(r, &record, &err);
        if (rc < 0)
            assert_int_equal(put(out, err.skippable ? "skip" : "stop", err.text), 0);
        if (rc <= 0)
            continue;
        assert_int_equal(t5_buf_printf(out, &err, "%lld:%zu #%lld ", (long long)record.line,
                                       record.column, (long long)record.number),
                         0);
        assert_int_equal(t5_record_splice(out, &record, "", 0, &err), 0);
    }
    t5_jsonl_close(r);
    assert_int_equal(t5_buf_append(out, "", 1, &err), 0);
}

static void expect(const struct row *row, enum t5_input_format format, size_t max)
{
    const char *path = files_write("in", row->bytes, row->n);
    for (size_t step = 0; step <= 3; step++) {
        struct t5_buf got = {0};
        int status = 0;
        pid_t pid = step ? feed(row->bytes, row->n, step) : 0;
        read_all(&got, step ? "-" : path, format, max, (int)step % 3);
        if (strcmp(got.data, row->want) != 0)
            fail_msg("%.60s, reads of %zu:\ngot:\n%s\nwant:\n%s", row->bytes, step, got.data,
                     row->want);
        if (pid)
            assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        t5_buf_free(&got);
    }
}

static void test_arrays(void **state)
{
    static const struct row rows[] = {
        {TEXT("[]"), ""},
        {TEXT(" \r\n[\t]\n "), ""},
        {TEXT("[{\"a\":1}]"), "1:2 #1 {\"a\":1}\n"},
        {TEXT("\xef\xbb\xbf[{\"a\":1}]"), "1:5 #1 {\"a\":1}\n"},
        {TEXT("[\n {\"a\": 1},\n\n{\n  \"b\": [1,\r\n   2],\n\t\"c\": \" ] \\\" }\"\r\n},{}]\n"),
         "2:2 #1 {\"a\": 1}\n4:1 #2 {\"b\": [1,2],\"c\": \" ] \\\" }\"}\n8:3 #3 {}\n"},
        {TEXT("[{\"a\":\"\\\\\"},{\"a\":\"\\\\\\\"}\"}]"),
         "1:2 #1 {\"a\":\"\\\\\"}\n1:13 #2 {\"a\":\"\\\\\\\"}\"}\n"},
        /* objects one after the other */
        {TEXT("{\"a\":1}"), "1:1 #1 {\"a\":1}\n"},
        {TEXT("{\n\"a\":1\n}\n{\"b\":2}{\"c\":3}\n"),
         "1:1 #1 {\"a\":1}\n4:1 #2 {\"b\":2}\n4:8 #3 {\"c\":3}\n"},
        {TEXT(""), ""},
        /* records that are none: the next one comes */
        {TEXT("[1, \"]\" ,null,[{}],{}]"),
         "skip 1:2: record 1: expected an object, found '1'\n"
         "skip 1:5: record 2: expected an object, found '\"'\n"
         "skip 1:10: record 3: expected an object, found 'n'\n"
         "skip 1:15: record 4: expected an object, found '['\n1:20 #5 {}\n"},
        {TEXT("[{\"a\":1,\n\"a\":2},{\"b\":[1}, {\n\"c\":\"\x01\"},{\"d\": .5},{}]"),
         "skip 2:1: record 1: duplicate key \"a\"\n"
         "skip 2:15: record 2: expected ',' or ']', found '}'\n"
         "stop 3:23: the file ends inside the array, behind record 2\n"}, /* the bracket is open */
        {TEXT("[{\"a\":\"\n\"},{\"b\":\"\xff\"},{\"c\":tru},{}]"),
         "skip 1:8: record 1: control character in a string\n"
         "skip 2:10: record 2: not valid UTF-8\n"
         "skip 2:19: record 3: expected a JSON value, found 't'\n2:24 #4 {}\n"},
        /* arrays that are none */
        {TEXT("[{},]"), "1:2 #1 {}\nstop 1:5: expected a record, found ']'\n"},
        {TEXT("[,{}]"), "stop 1:2: expected a record, found ','\n"},
        {TEXT("[{},,{}]"), "1:2 #1 {}\nstop 1:5: expected a record, found ','\n"},
        {TEXT("[{}\n{}]"), "1:2 #1 {}\nstop 2:1: expected ',' or ']' behind a record, found '{'\n"},
        {TEXT("[{}}"), "1:2 #1 {}\nstop 1:4: expected ',' or ']' behind a record, found '}'\n"},
        {TEXT("[{}] []"), "1:2 #1 {}\nstop 1:6: expected nothing behind the array, found '['\n"},
        {TEXT("[{}]\n\0"),
         "1:2 #1 {}\nstop 2:1: expected nothing behind the array, found '\\x00'\n"},
        {TEXT("]"), "stop 1:1: expected a record, found ']'\n"},
        {TEXT("{},{}"), "1:1 #1 {}\nstop 1:3: expected a record, found ','\n"},
        /* cut short */
        {TEXT("["), "stop 1:2: the file ends inside the array, behind record 0\n"},
        {TEXT("[{}"), "1:2 #1 {}\nstop 1:4: the file ends inside the array, behind record 1\n"},
        {TEXT("[{},\n"), "1:2 #1 {}\nstop 2:1: the file ends inside the array, behind record 1\n"},
        {TEXT("[{},{\"a\":\n \"x"), "1:2 #1 {}\nskip 2:4: record 2: record ends inside a string\n"
                                    "stop 2:4: the file ends inside the array, behind record 2\n"},
        {TEXT("{}{\"a\""), "1:1 #1 {}\nskip 1:7: record 2: record ends inside an object\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(&rows[i], T5_INPUT_JSON, FULL);
}

static void test_csv(void **state)
{
    static const struct row rows[] = {
        {TEXT("a,b\n1,2\n"), "2:0 #1 {\"a\":\"1\",\"b\":\"2\"}\n"},
        {TEXT("\xef\xbb\xbf"
              "a,b\r\n1,2\r\n\r\n\n3,4"),
         "2:0 #1 {\"a\":\"1\",\"b\":\"2\"}\n5:0 #2 {\"a\":\"3\",\"b\":\"4\"}\n"},
        {TEXT("a\n"), ""},
        {TEXT("a"), ""},
        {TEXT("\"a\r\nb\",\"c\"\"d\",\n\"x\n\"\"y\"\"\r\nz\",, q \n\"\",\",\",\"\"\"\"\r\n"),
         "3:0 #1 {\"a\\r\\nb\":\"x\\n\\\"y\\\"\\r\\nz\",\"c\\\"d\":\"\",\"\":\" q \"}\n"
         "6:0 #2 {\"a\\r\\nb\":\"\",\"c\\\"d\":\",\",\"\":\"\\\"\"}\n"},
        {TEXT("a\n\t\x01\x7f\xc3\xa9\n\"\"\n"),
         "2:0 #1 {\"a\":\"\\t\\u0001\x7f\xc3\xa9\"}\n3:0 #2 {\"a\":\"\"}\n"},
        /* rows that are none: the next one comes */
        {TEXT("a,b\n1\n1,2,3\n1,2\n\"1,2\"\n,\n"),
         "skip 2:1: record 1: 1 field where the header has 2\n"
         "skip 3:1: record 2: 3 fields where the header has 2\n4:0 #3 {\"a\":\"1\",\"b\":\"2\"}\n"
         "skip 5:1: record 4: 1 field where the header has 2\n6:0 #5 {\"a\":\"\",\"b\":\"\"}\n"},
        {TEXT("a,b\n1,5\" disk\n1,\"5\" disk\n1,x\ry\n1,2\n"),
         "skip 2:4: record 1: a quote in a field without quotes\n"
         "skip 3:6: record 2: text behind the closing quote of a field\n"
         "skip 4:4: record 3: a carriage return in a field without quotes\n"
         "5:0 #4 {\"a\":\"1\",\"b\":\"2\"}\n"},
        {TEXT("a,b\n1,\"x\n\xff\"\n1,\0\n\"\0\",2\n1,\xed\xa0\x80\n1,2"),
         "skip 3:1: record 1: not valid UTF-8\nskip 4:3: record 2: NUL byte\n"
         "skip 5:2: record 3: NUL byte\nskip 6:3: record 4: not valid UTF-8\n"
         "7:0 #5 {\"a\":\"1\",\"b\":\"2\"}\n"},
        {TEXT("a,b\n1,2\n3,\"4\n5,6\n"),
         "2:0 #1 {\"a\":\"1\",\"b\":\"2\"}\nskip 3:3: record 2: quotes that do not close\n"},
        /* headers that are none */
        {TEXT(""), "stop 1:1: no header row\n"},
        {TEXT("\r\na\n"), "stop 1:1: no header row\n"},
        {TEXT("a,b,a\n1,2,3\n"), "stop 1:5: header: two columns are called \"a\"\n"},
        {TEXT("a,,b,\n1,2,3\n"), "stop 1:6: header: two columns are called \"\"\n"},
        {TEXT("a,\"b\n1,2\n"), "stop 1:3: header: quotes that do not close\n"},
        {TEXT("\"a\"b\n1,2\n"), "stop 1:4: header: text behind the closing quote of a field\n"},
        {TEXT("\xff\xfe"
              "a\0"),
         "stop 1:1: header: not valid UTF-8 (this looks like UTF-16, convert it with iconv)\n"},
        {TEXT("\x1f\x8b\x08\0\n"),
         "stop 1:2: header: not valid UTF-8 (this looks like gzip data, decompress it first)\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(&rows[i], T5_INPUT_CSV, FULL);
}

/* A record of 10 bytes at a limit of 10 and of 9; line breaks do not count. */
static void test_limits(void **state)
{
    static const struct row array[] = {
        {TEXT("[ {\"a\":1234}, {\"b\":12345}\n,{}]"),
         "1:3 #1 {\"a\":1234}\nskip 1:15: record 2: longer than 10 bytes (see --max-line)\n2:2 #3 "
         "{}\n"},
        {TEXT("[{},\n{\"b\":123456"),
         "1:2 #1 {}\nskip 2:1: record 2: longer than 10 bytes (see --max-line)\n"
         "stop 2:12: the file ends inside the array, behind record 2\n"},
        {TEXT("[12345678901,1234567890]"),
         "skip 1:2: record 1: longer than 10 bytes (see --max-line)\n"
         "skip 1:14: record 2: expected an object, found '1'\n"},
    };
    static const struct row csv[] = {
        {TEXT("aaaaaaaaa,\r\n123456789,\r\n1234567890,\r\n\"3\n5678\",\n\"3\n56789\",\n,\n"),
         "2:0 #1 {\"aaaaaaaaa\":\"123456789\",\"\":\"\"}\n"
         "skip 3:1: record 2: longer than 10 bytes (see --max-line)\n"
         "4:0 #3 {\"aaaaaaaaa\":\"3\\n5678\",\"\":\"\"}\n"
         "6:0 #4 {\"aaaaaaaaa\":\"3\\n56789\",\"\":\"\"}\n8:0 #5 {\"aaaaaaaaa\":\"\",\"\":\"\"}\n"},
        {TEXT("a\n1\n\"23456789012\n1\n"),
         "2:0 #1 {\"a\":\"1\"}\n"
         "skip 3:1: record 2: longer than 10 bytes (see --max-line); do its quotes close?\n"},
        {TEXT("aaaaaaaaaa,\n1\n"), "stop 1:1: header: longer than 10 bytes (see --max-line)\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof array / sizeof *array; i++)
        expect(&array[i], T5_INPUT_JSON, 10);
    for (size_t i = 0; i < sizeof csv / sizeof *csv; i++)
        expect(&csv[i], T5_INPUT_CSV, 10);
}

/* Columns and the header's bytes: at the limit, and one more. */
static void test_header_limits(void **state)
{
    static char text[70000];
    struct t5_buf got = {0};
    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        int n = 0;
        for (int i = 0; i < 1024 + extra; i++)
            n += sprintf(text + n, "%s%d", i ? "," : "", i);
        got.n = 0;
        read_all(&got, files_write("in", text, (size_t)n), T5_INPUT_CSV, FULL, 0);
        assert_int_equal(strstr(got.data, "header: more than 1024 columns\n") != NULL, extra);
        memset(text, 'x', sizeof text);
        got.n = 0;
        read_all(&got, files_write("in", text, 65536 + (size_t)extra), T5_INPUT_CSV, FULL, 0);
        assert_string_equal(got.data, extra ? "stop 1:1: header: longer than 65536 bytes\n" : "");
    }
    t5_buf_free(&got);
}

/* By name and first byte; white space and a byte-order mark before it count for nothing. */
static void test_auto(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } rows[] = {
        {"x.json", "[{}]", "1:2 #1 {}\n"},
        {"x", "\xef\xbb\xbf\n\n\t[\n{}]", "4:1 #1 {}\n"},
        {"x.json", "{}\n{}\n", "1:1 #0 {}\n2:1 #0 {}\n"},
        {"x.csv", "a\n[1]\n", "2:0 #1 {\"a\":\"[1]\"}\n"},
        {"x.CSV", "[{}]\n{}", "2:0 #1 {\"[{}]\":\"{}\"}\n"},
        {".csv", "{}", "1:1 #0 {}\n"},
        {"x.jsonl", "\xef\xbb\xbf \n{}", "2:1 #0 {}\n"},
        {"x.tsv", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct t5_buf got = {0};
        const char *path = files_write(rows[i].name, rows[i].text, strlen(rows[i].text));
        if (i ==
            5) { /* a name that is nothing but the ending: relative, so that it is all there is */
            assert_int_equal(chdir(files_dir), 0);
            path = ".csv";
        }
        read_all(&got, path, T5_INPUT_AUTO, FULL, 1);
        assert_string_equal(got.data, rows[i].want);
        t5_buf_free(&got);
    }
}

/* 48 MiB of array and of CSV, with one record of 24 MiB, in the memory that 1 MiB lines need. */
static void test_memory(void **state)
{
    static const char *const begin[] = {"[{\"a\":\"", "a\n\""},
                             *const next[] = {"\"},{\"a\":\"", "\"\n\""},
                             *const end[] = {"\"}]", "\""};
    static char page[1 << 16];
    struct rusage before, after;
    (void)state;
    memset(page, 'x', sizeof page);
    for (int csv = 0; csv < 2; csv++) {
        FILE *f = fopen(files_path("big"), "w");
        struct t5_buf got = {0};
        assert_non_null(f);
        fputs(begin[csv], f);
        for (int i = 0; i < 768; i++) { /* record 4 has 384 pages, the others 8 */
            fwrite(page, 1, sizeof page, f);
            if (i % 8 == 7 && (i < 24 || i >= 408))
                fputs(i == 767 ? end[csv] : next[csv], f);
        }
        assert_int_equal(fclose(f), 0);
        getrusage(RUSAGE_SELF, &before);
        struct t5_jsonl *r;
        struct t5_record record;
        struct t5_err err = {0};
        const char *path = files_path("big");
        int rc, good = 0, bad = 0;
        assert_int_equal(t5_jsonl_open(&r, &path, 1, FULL, &err), 0);
        t5_jsonl_format(r, csv ? T5_INPUT_CSV : T5_INPUT_JSON);
        while ((rc = t5_jsonl_next(r, &record, &err)) != 0) {
            assert_true(rc == 1 || err.skippable);
            *(rc == 1 ? &good : &bad) += 1;
        }
        t5_jsonl_close(r);
        getrusage(RUSAGE_SELF, &after);
        assert_int_equal(bad, 1);
        assert_int_equal(good, 47);
        assert_true(after.ru_maxrss - before.ru_maxrss < 12 << 10); /* KiB */
        t5_buf_free(&got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays), cmocka_unit_test(test_csv),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_auto),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
