/* test_event_file.c - event files: the bytes that TensorBoard writes for the same events
 * (testdata/golden/events), and files read back record by record. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/crc32.h"
#include "io/event_file.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call)                                                                                  \
            fail_msg("%s", err.text);                                                              \
    } while (0)

static void test_crc32c(void **state)
{
    static const unsigned char zeros[32] = {0};
    (void)state;
    assert_int_equal(t5_crc32c("123456789", 9), 0xe3069283u); /* RFC 3720 B.4 for the next */
    assert_int_equal(t5_crc32c(zeros, sizeof zeros), 0x8a9136aau);
    assert_int_equal(t5_crc32c("", 0), 0);
}

static size_t read_file(unsigned char *out, size_t room, const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, room, f);
    fclose(f);
    return n;
}

/* tests/golden/events.py has the same events. */
static void test_golden(void **state)
{
    static const struct t5_scalar train[] = {{"train/loss", 0.75}, {"train/learning_rate", 1e-3}};
    static const struct t5_scalar eval[] = {{"eval/loss", INFINITY}}, zero[] = {{"x", 0}};
    const struct t5_event events[] = {
        {.wall_time = 1234567890.125, .file_version = "brain.Event:2"},
        {.wall_time = 1234567890.25, .step = 300, .session_start = 1},
        {.wall_time = 1234567890.5, .step = 1, .scalars = train, .n_scalars = 2},
        {.wall_time = 1234567890.5, .step = (int64_t)1 << 40, .scalars = eval, .n_scalars = 1},
        {.wall_time = 1234567890.5, .step = 2, .scalars = zero, .n_scalars = 1},
    };
    struct t5_err err = {0};
    struct t5_buf got = {0};
    unsigned char want[512];
    size_t n = read_file(want, sizeof want, "testdata/golden/events/scalars.tfevents");
    (void)state;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        OK(t5_event_append(&got, &events[i], &err));
    assert_int_equal(got.n, n);
    assert_memory_equal(got.data, want, n);
    t5_buf_free(&got);
}

/* The only file of a directory. */
static void only_file(char path[512], const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    int n = 0;
    assert_non_null(d);
    while ((entry = readdir(d)))
        if (entry->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", dir, entry->d_name);
            n++;
        }
    closedir(d);
    assert_int_equal(n, 1);
}

static uint32_t word(const unsigned char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static uint32_t unmasked(uint32_t crc)
{
    crc -= 0xa282ead8u;
    return crc << 15 | crc >> 17;
}

/* Records are whole and their checksums right; times are now, and the values are where they should
 * be. */
static void test_file(void **state)
{
    static unsigned char bytes[4096];
    struct t5_err err = {0};
    struct t5_event_file *file;
    char root[] = "/tmp/t5-test-XXXXXX", dir[64], path[512];
    int records = 0;
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(dir, sizeof dir, "%s/events", root);
    OK(t5_event_file_open(&file, dir, 1, &err));
    for (int step = 1; step <= 20; step++) {
        struct t5_scalar scalar = {"t", 0.5 * step};
        OK(t5_event_file_add(file, step, &scalar, 1, &err));
    }
    OK(t5_event_file_close(file, &err));
    only_file(path, dir);
    size_t n = read_file(bytes, sizeof bytes, path);
    for (size_t at = 0; at < n; records++) {
        const unsigned char *head = bytes + at, *data = head + 12;
        uint32_t length = word(head);
        double when;
        assert_true(at + 16 + length <= n && word(head + 4) == 0);
        assert_int_equal(unmasked(word(head + 8)), t5_crc32c(head, 8));
        assert_int_equal(unmasked(word(data + length)), t5_crc32c(data, length));
        memcpy(&when, data + 1, sizeof when);
        assert_true(data[0] == 9 && when > 1.7e9 && when < 1e11);
        if (records >= 2) { /* step as one byte, then the summary with its one value */
            float value;
            memcpy(&value, data + length - sizeof value, sizeof value);
            assert_true(data[9] == 0x10 && data[10] == records - 1);
            assert_true(value == 0.5f * (float)(records - 1));
        }
        at += 16 + length;
    }
    assert_int_equal(records, 22);
    assert_int_equal(unlink(path) | rmdir(dir) | rmdir(root), 0);
}

static void test_no_directory(void **state)
{
    struct t5_err err = {0};
    struct t5_event_file *file;
    (void)state;
    assert_int_equal(t5_event_file_open(&file, "/tmp/t5-none/such/dir", 1, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
    assert_int_equal(t5_event_file_open(&file, "/dev/null", 1, &err), -1);
    assert_null(file);
    OK(t5_event_file_close(NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
