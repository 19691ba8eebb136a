/* test_safetensors.c - the reader's verdict on every kind of bad file, the same for a file, a pipe
 * and one byte at a time; the writer; the checksum. */
/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "io/atomic.h"
#include "io/safetensors.h"

/* ---- verdicts ---- */

enum way { FILE_WAY, PIPE_WAY, BYTES_WAY };

/* The read end of a pipe that a child fills: in one go, or as packets of one byte, each of which
 * one read takes alone. */
static int pipe_of(const char *bytes, size_t n, int one_by_one, pid_t *child)
{
    int ends[2];
    assert_int_equal(pipe2(ends, one_by_one ? O_DIRECT : 0), 0);
    *child = fork();
    assert_true(*child >= 0);
    if (*child == 0) {
        close(ends[0]);
        signal(SIGPIPE, SIG_IGN);
        for (size_t at = 0; at < n;) {
            ssize_t done = write(ends[1], bytes + at, one_by_one ? 1 : n - at);
            if (done <= 0)
                break;
            at += (size_t)done;
        }
        _exit(0);
    }
    close(ends[1]);
    return ends[0];
}

/* 0 accepted, -1 rejected with err filled. */
static int judge(enum way way, const char *bytes, size_t n, struct t5_err *err)
{
    struct t5_safetensors *file = NULL;
    pid_t child = 0;
    int rc;
    *err = (struct t5_err){0};
    if (way == FILE_WAY)
        rc = t5_safetensors_open(&file, files_write("f", bytes, n), err);
    else
        rc = t5_safetensors_open_fd(&file, pipe_of(bytes, n, way == BYTES_WAY, &child), "p", err);
    if (child)
        waitpid(child, NULL, 0);
    assert_int_equal(rc, file ? 0 : -1);
    t5_safetensors_close(file);
    return rc;
}

/* want: NULL for "accepted", else a part of the message. All three ways must agree. */
static void expect_bytes(const char *bytes, size_t n, const char *want)
{
    struct t5_err err;
    for (enum way way = FILE_WAY; way <= BYTES_WAY; way++) {
        int rc = judge(way, bytes, n, &err);
        if (!want && rc)
            fail_msg("way %d: %s", (int)way, err.text);
        if (want && (rc == 0 || err.status != T5_BAD_INPUT || !strstr(err.text, want)))
            fail_msg("way %d: expected '%s', found '%s'", (int)way, want,
                     rc ? err.text : "accepted");
        assert_null(strchr(err.text, '\n'));
    }
}

static void expect_length(uint64_t header_length, const char *want)
{
    char bytes[64] = {0};
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(header_length >> (8 * i));
    memcpy(bytes + 8, "{}", 2);
    expect_bytes(bytes, 10, want);
}

/* A file of this header and so many bytes of data. */
static size_t build(char **out, const char *header, size_t header_n, size_t data)
{
    size_t n = 8 + header_n + data;
    *out = calloc(n, 1);
    assert_non_null(*out);
    for (int i = 0; i < 8; i++)
        (*out)[i] = (char)((uint64_t)header_n >> (8 * i));
    memcpy(*out + 8, header, header_n);
    return n;
}

static void expect_n(const char *header, size_t header_n, size_t data, const char *want)
{
    char *bytes;
    size_t n = build(&bytes, header, header_n, data);
    expect_bytes(bytes, n, want);
    free(bytes);
}

static void expect(const char *header, size_t data, const char *want)
{
    expect_n(header, strlen(header), data, want);
}

/* One tensor 'a' with these three values. */
static void expect_entry(const char *dtype, const char *shape, const char *offsets, size_t data,
                         const char *want)
{
    char header[512];
    snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":%s}}",
             dtype, shape, offsets);
    expect(header, data, want);
}

#define U8_4 "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"
#define U8_8 "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}"

static void lengths(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++)
        expect_bytes("\x10\0\0\0\0\0\0\0", n, "inside the header's length");
    expect_length(0, "header of 0 bytes");
    expect_length(3, "ends at byte 10, inside its header, which ends at 11");
    expect_length(100000000, "inside its header");
    expect_length(100000001, "header of 100000001 bytes");
    expect_length((uint64_t)1 << 63, "header of 9223372036854775808 bytes");
    expect_length(UINT64_MAX, "header of 18446744073709551615 bytes");
    expect_length(UINT64_MAX - 7, "header of 18446744073709551608 bytes");
    expect_length(2, NULL);
}

static void mistaken(void **state)
{
    (void)state;
    const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
               html[] = "<!DOCTYPE html><p>404";
    expect_bytes(lfs, sizeof lfs - 1, "Git LFS pointer");
    expect_bytes(html, sizeof html - 1, "HTML page");
    expect_bytes("PK\x03\x04"
                 "aaaaaaaa",
                 12, "zip archive");
    expect_bytes("\x1f\x8b"
                 "aaaaaaaa",
                 10, "gzip");
    expect_bytes("{\"a\": 1, \"b\": 2}", 16, "JSON");
}

static void text(void **state)
{
    (void)state;
    expect("{\"a\xff\":" U8_4 "}", 4, "not UTF-8");
    expect("{\"\xc0\xaf\":" U8_4 "}", 4, "not UTF-8");
    expect("{\"\xed\xa0\x80\":" U8_4 "}", 4, "not UTF-8");
    expect("{\"\\ud800\":" U8_4 "}", 4, "lone surrogate");
    expect("{\"\\udc00\":" U8_4 "}", 4, "lone surrogate");
    expect("{\"\\ud800\\u0041\":" U8_4 "}", 4, "lone surrogate");
    expect("{\"\\ud83d\\ude00\":" U8_4 "}", 4, NULL);
    expect("\xef\xbb\xbf{}", 0, "must begin with '{'");
    expect("hello", 0, "must begin with '{'");
    expect("[]", 0, "must begin with '{'");
    expect(" {}", 0, "must begin with '{'");
    expect("{}x", 0, "something follows");
    expect_n("{}\0", 3, 0, "something follows");
    expect("{\"a\":" U8_4 ",}", 4, "expected '\"'");
    expect("{\"a\":" U8_4, 4, "header ends before");
    expect("{\"a", 4, "inside a string");
    expect("{\"a\n\":" U8_4 "}", 4, "control character");
    expect("{\"a\\x\":" U8_4 "}", 4, "unknown escape");
    expect("{\"a\":[[[[[[", 4, "expected '{'");
    expect("{}      ", 0, NULL);
    expect(" \n{}", 0, "must begin with '{'");
    expect("{ \"a\" :\n" U8_4 "\t}", 4, NULL);
}

static void depth(void **state)
{
    (void)state;
    const int depths[] = {200, 100000};
    for (int i = 0; i < 2; i++) {
        size_t n = (size_t)depths[i];
        char *header = malloc(n + 16);
        strcpy(header, "{\"a\":");
        memset(header + 5, i ? '{' : '[', n);
        expect_n(header, n + 5, 0, "expected");
        free(header);
    }
}

static void duplicates(void **state)
{
    (void)state;
    expect("{\"a\":" U8_4 ",\"a\":" U8_4 "}", 4, "duplicate tensor name 'a'");
    expect("{\"a\":" U8_4 ",\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
           "duplicate tensor name 'a'");
    expect("{\"a\":" U8_4 ",\"\\u0061\":" U8_4 "}", 4, "duplicate tensor name 'a'");
    expect("{\"a\":" U8_4 ",\"a\":" U8_8 "}", 8, "duplicate tensor name 'a'");
    expect("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate __metadata__");
    expect("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
           "duplicate key");
    expect("{\"__metadata__\":{\"k\":\"1\",\"k\":\"1\"}}", 0, "duplicate key in __metadata__");
}

static void metadata(void **state)
{
    (void)state;
    expect("{\"__metadata__\":{\"k\":1}}", 0, "expected '\"'");
    expect("{\"__metadata__\":[]}", 0, "expected '{'");
    expect("{\"__metadata__\":null}", 0, "expected '{'");
    expect("{\"__metadata__\":{\"k\":\"v\"}}", 0, NULL);
    expect("{\"__metadata__\":{}}", 0, NULL);
    expect("{\"__metadata__\":{\"k\\u0000\":\"v\"}}", 0, "NUL in a name");
}

static void names(void **state)
{
    (void)state;
    char header[1024], name[514];
    expect("{\"a\\u0000b\":" U8_4 "}", 4, "NUL in a tensor name");
    expect("{\"\":" U8_4 "}", 4, NULL);
    for (int n = 512; n <= 513; n++) {
        memset(name, 'n', sizeof name);
        name[n] = 0;
        snprintf(header, sizeof header, "{\"%s\":" U8_4 "}", name);
        expect(header, 4, n == 512 ? NULL : "longer than 512 bytes");
    }
}

static void layout(void **state)
{
    (void)state;
    expect("{\"a\":" U8_4 ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6,
           "tensors overlap");
    expect("{\"a\":" U8_4 ",\"b\":" U8_4 "}", 4, "tensors overlap");
    expect("{\"a\":" U8_4 ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}", 9,
           "there is a hole");
    expect("{\"a\":" U8_8 "}", 8, "there is a hole");
    expect_entry("U8", "[4]", "[4,0]", 4, "before its beginning");
    expect("{\"a\":" U8_4 "}", 5, "header describes");
    expect("{\"a\":" U8_4 "}", 3, "header describes");
    expect("{\"b\":" U8_8 ",\"a\":" U8_4 "}", 8, NULL); /* unsorted */
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
           5, NULL); /* misaligned */
}

static void numbers(void **state)
{
    (void)state;
    expect_entry("U8", "[4]", "[0,-4]", 4, "whole number");
    expect_entry("U8", "[4]", "[0.0,4]", 4, "whole number");
    expect_entry("U8", "[4]", "[0,4e0]", 4, "whole number");
    expect_entry("U8", "[4]", "[0,4,8]", 4, "expected ']'");
    expect_entry("U8", "[4]", "[0]", 4, "expected ','");
    expect_entry("U8", "[4]", "[00,4]", 4, "whole number");
    expect_entry("U8", "[-4]", "[0,4]", 4, "whole number");
    expect_entry("U8", "4", "[0,4]", 4, "expected '['");
    expect_entry("U8", "[4]", "[0,99999999999999999999]", 4, "too large");
}

static void shapes(void **state)
{
    (void)state;
    expect_entry("U8", "[5]", "[0,4]", 4, "5 bytes expected from its shape, found 4");
    expect_entry("F32", "[1]", "[0,8]", 8, "4 bytes expected");
    expect_entry("U8", "[4294967296,4294967296]", "[0,16]", 16, "too large"); /* wraps to 0 */
    expect_entry("F32", "[4611686018427387908]", "[0,16]", 16, "too large");  /* x 4 wraps to 16 */
    expect_entry("U8", "[9223372036854775808]", "[0,4]", 4, "too large");
    expect_entry("U8", "[18446744073709551617]", "[0,4]", 4, "too large");
    expect_entry("U8", "[9223372036854775808,4,0]", "[0,0]", 0, "too large");
    expect_entry("U8", "[0,9223372036854775808,4]", "[0,0]", 0, NULL); /* empty: no product wraps */
    expect_entry("F32", "[0]", "[0,0]", 0, NULL);
    expect_entry("F32", "[]", "[0,4]", 4, NULL);
    expect_entry("U8", "[1,1,1,1,1,1,1,4]", "[0,4]", 4, NULL);
    expect_entry("U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]", 4, "more than 8 dimensions");
}

static void entries(void **state)
{
    (void)state;
    expect_entry("f32", "[1]", "[0,4]", 4, "dtype 'f32' not known");
    expect_entry("F8_E5M2", "[4]", "[0,4]", 4, "dtype 'F8_E5M2' not known");
    expect_entry("F4", "[8]", "[0,4]", 4, "dtype 'F4' not known");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4,
           "unknown key");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "missing");
    expect("{\"a\":{}}", 4, "missing");
    expect("{\"a\":null}", 4, "expected '{'");
}

/* A claim of a huge tensor costs no more memory than what arrives. */
static void claims(void **state)
{
    (void)state;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    expect_entry("U8", "[1000000000000]", "[0,1000000000000]", 100, "header describes 1000000000");
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 * 1024);
}

/* ---- limits ---- */

static void many_tensors(void **state)
{
    (void)state;
    for (int n = 65536; n <= 65537; n++) {
        char *header = malloc((size_t)n * 80);
        size_t at = 0;
        for (int i = 0; i < n; i++)
            at += (size_t)sprintf(
                header + at, "%c\"%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                i ? ',' : '{', i);
        header[at++] = '}';
        char *bytes;
        size_t size = build(&bytes, header, at, 0);
        struct t5_err err;
        int rc = judge(FILE_WAY, bytes, size, &err);
        assert_int_equal(rc, n == 65536 ? 0 : -1);
        if (rc)
            assert_non_null(strstr(err.text, "more than 65536 tensors"));
        free(bytes);
        free(header);
    }
}

static void largest_header(void **state)
{
    (void)state;
    size_t n = 100000000;
    char *header = malloc(n), *bytes;
    struct t5_err err;
    memset(header, ' ', n);
    memcpy(header, "{}", 2);
    size_t size = build(&bytes, header, n, 0);
    if (judge(FILE_WAY, bytes, size, &err))
        fail_msg("%s", err.text);
    free(header);
    free(bytes);
}

/* ---- cut and grown streams ---- */

static void every_cut(void **state)
{
    (void)state;
    char *bytes;
    const char header[] = "{\"a\":" U8_4 ",\"b\":" U8_8 "}";
    size_t n = build(&bytes, header, strlen(header), 9); /* one byte too many */
    for (size_t k = 0; k <= n; k++) {
        struct t5_err err;
        for (enum way way = FILE_WAY; way <= PIPE_WAY; way++)
            assert_int_equal(judge(way, bytes, k, &err), k == n - 1 ? 0 : -1);
    }
    free(bytes);
}

/* ---- reading ---- */

static void finds(void **state)
{
    (void)state;
    const char header[] = "{\"z\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"__"
                          "metadata__\":{\"k\":\"a\\u0000b\"},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[1,5]}}";
    char *bytes;
    size_t n = build(&bytes, header, strlen(header), 5), value_n;
    const float value = 1.5f;
    float got;
    memcpy(bytes + n - 4, &value, 4);
    struct t5_safetensors *f;
    struct t5_err err;
    assert_int_equal(t5_safetensors_open(&f, files_write("f", bytes, n), &err), 0);
    assert_int_equal(t5_safetensors_count(f), 2);
    assert_string_equal(t5_safetensors_at(f, 0)->name, "z");
    const struct t5_tensor *t = t5_safetensors_find(f, "b");
    assert_non_null(t);
    assert_int_equal(t->rank, 2);
    memcpy(&got, t->data, 4);
    assert_true(got == value);
    assert_null(t5_safetensors_find(f, "a"));
    assert_memory_equal(t5_safetensors_metadata(f, "k", &value_n), "a\0b", 3);
    assert_int_equal(value_n, 3);
    assert_null(t5_safetensors_metadata(f, "none", NULL));
    t5_safetensors_close(f);
    free(bytes);
}

/* A file cut by somebody else while it is mapped ends the program with a message, not by SIGBUS. */
static void cut_while_read(void **state)
{
    (void)state;
    const size_t data = 1 << 20;
    const char header[] =
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1048576],\"data_offsets\":[0,1048576]}}";
    char *bytes, text[400] = {0};
    size_t n = build(&bytes, header, strlen(header), data);
    const char *path = files_write("cut", bytes, n);
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct t5_safetensors *f;
        struct t5_err err;
        dup2(ends[1], STDERR_FILENO);
        if (t5_safetensors_open(&f, path, &err) || truncate(path, 100))
            _exit(99);
        const volatile unsigned char *p = t5_safetensors_at(f, 0)->data;
        _exit(p[data - 1] ? 98 : 97);
    }
    close(ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    close(ends[0]);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), T5_ENVIRONMENT);
    assert_non_null(strstr(text, "was cut while it was being read"));
    free(bytes);
}

static void no_file(void **state)
{
    (void)state;
    struct t5_safetensors *f;
    struct t5_err err;
    assert_int_equal(t5_safetensors_open(&f, files_path("none"), &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
    assert_int_equal(t5_safetensors_open(&f, files_dir, &err), -1);
    assert_int_equal(err.status, T5_BAD_INPUT);
    assert_null(f);
}

/* ---- writing ---- */

static const float floats[6] = {1, -2, 3.5f, 0, 1e-30f, 7};
static const int8_t bytes3[3] = {1, -1, 127};
static const struct t5_tensor two[] = {
    {.name = "x.weight",
     .type = T5_F32,
     .rank = 2,
     .shape = {2, 3},
     .elements = 6,
     .data = floats,
     .bytes = 24},
    {.name = "sm\xc3\xb8rrebr\xc3\xb8"
             "d \"quoted\"\n",
     .type = T5_I8,
     .rank = 1,
     .shape = {3},
     .elements = 3,
     .data = bytes3,
     .bytes = 3},
};
static const struct t5_metadata pair = {"note", "a \"b\"\n\x01"};

static void round_trip(void **state)
{
    (void)state;
    struct t5_safetensors *f;
    struct t5_err err;
    const char *path = files_path("two");
    if (t5_safetensors_save(path, two, 2, &pair, 1, &err) || t5_safetensors_open(&f, path, &err))
        fail_msg("%s", err.text);
    assert_int_equal(t5_safetensors_count(f), 2);
    for (int i = 0; i < 2; i++) {
        const struct t5_tensor *t = t5_safetensors_find(f, two[i].name);
        assert_non_null(t);
        assert_int_equal(t->type, two[i].type);
        assert_int_equal(t->rank, two[i].rank);
        assert_int_equal(t->bytes, two[i].bytes);
        assert_memory_equal(t->shape, two[i].shape, sizeof t->shape[0] * (size_t)t->rank);
        assert_memory_equal(t->data, two[i].data, t->bytes);
    }
    assert_string_equal(t5_safetensors_metadata(f, "note", NULL), pair.value);
    assert_int_equal((uintptr_t)t5_safetensors_at(f, 0)->data % 64, 0);
    assert_int_equal(t5_safetensors_verify(f, &err), 0);
    t5_safetensors_close(f);
}

/* Any bit of the data flipped is found in a file that we wrote. */
static void checksum(void **state)
{
    (void)state;
    struct t5_err err;
    size_t n;
    assert_int_equal(t5_safetensors_save(files_path("two"), two, 2, &pair, 1, &err), 0);
    char *bytes = files_read(files_path("two"), &n);
    for (size_t bit = 0; bit < 27 * 8; bit++) {
        struct t5_safetensors *f;
        bytes[n - 27 + bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(t5_safetensors_open(&f, files_write("flipped", bytes, n), &err), 0);
        assert_int_equal(t5_safetensors_verify(f, &err), -1);
        assert_int_equal(err.status, T5_BAD_INPUT);
        assert_non_null(strstr(err.text, "damaged"));
        t5_safetensors_close(f);
        bytes[n - 27 + bit / 8] ^= (char)(1 << bit % 8);
    }
    free(bytes);
}

static void wrong_amount(void **state)
{
    (void)state;
    struct t5_err err;
    for (size_t n = 26; n <= 28; n++) {
        struct t5_atomic *file;
        struct t5_safetensors_writer *w;
        char zeros[28] = {0};
        assert_int_equal(t5_atomic_open(&file, files_path("amount"), &err), 0);
        assert_int_equal(t5_safetensors_write_open(&w, file, two, 2, NULL, 0, &err), 0);
        int rc = t5_safetensors_write(w, zeros, n, &err);
        rc = t5_safetensors_write_close(w, &err) || rc ? -1 : 0;
        assert_int_equal(rc, n == 27 ? 0 : -1);
        t5_atomic_abandon(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),        cmocka_unit_test(mistaken),
        cmocka_unit_test(text),           cmocka_unit_test(depth),
        cmocka_unit_test(duplicates),     cmocka_unit_test(metadata),
        cmocka_unit_test(names),          cmocka_unit_test(layout),
        cmocka_unit_test(numbers),        cmocka_unit_test(shapes),
        cmocka_unit_test(entries),        cmocka_unit_test(claims),
        cmocka_unit_test(many_tensors),   cmocka_unit_test(largest_header),
        cmocka_unit_test(every_cut),      cmocka_unit_test(finds),
        cmocka_unit_test(cut_while_read), cmocka_unit_test(no_file),
        cmocka_unit_test(round_trip),     cmocka_unit_test(checksum),
        cmocka_unit_test(wrong_amount),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
