/* test_choices.c - answers kept in a file: found again, damaged or foreign ones ignored, the first
 * answer to a key believed, places that cannot be written. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/choices.h"

static char root[] = "/tmp/t5-choices-XXXXXX", file[200];

static struct t5_choices *opened(const char *identity)
{
    struct t5_choices *c;
    struct t5_err err = {0};
    if (t5_choices_open(&c, "test", identity, &err))
        fail_msg("%s", err.text);
    return c;
}

static void keep(struct t5_choices *c, const char *key, const char *value, const char *stands)
{
    char text[32];
    snprintf(text, sizeof text, "%s", value);
    assert_int_equal(t5_choices_keep(text, sizeof text, c, key), 1);
    assert_string_equal(text, stands);
}

static void expect(const char *identity, const char *key, const char *value)
{
    char text[32];
    struct t5_choices *c = opened(identity);
    assert_int_equal(t5_choices_find(text, sizeof text, c, key), value != NULL);
    if (value)
        assert_string_equal(text, value);
    t5_choices_close(c);
}

/* The one file of answers that is there. */
static void find_file(void)
{
    char dir[64];
    snprintf(dir, sizeof dir, "%s/cache/t5-tools", root);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "test-", 5) == 0 && !strstr(e->d_name, ".lock"))
            snprintf(file, sizeof file, "%s/%.100s", dir, e->d_name);
    closedir(d);
}

static void test_kept(void **state)
{
    struct t5_choices *a = opened("card 1"), *b = opened("card 1");
    (void)state;
    keep(a, "512 64", "3", "3");
    keep(a, "512 6", "5", "5");
    keep(b, "512 64", "4", "3"); /* the other process was first */
    keep(b, "1 1", "7", "7");
    keep(a, "1 1", "8", "7");
    t5_choices_close(a);
    t5_choices_close(b);
    expect("card 1", "512 64", "3");
    expect("card 1", "512 6", "5");
    expect("card 1", "1 1", "7");
    expect("card 1", "512", NULL);
    expect("card 2", "512 64", NULL);
}

/* Every byte of the file changed in turn, and the file cut at every length: an answer is the right
 * one or not there. */
static void test_damaged(void **state)
{
    char text[32], whole[512];
    (void)state;
    expect("card 1", "512 64", "3");
    find_file();
    FILE *f = fopen(file, "rb");
    size_t n = fread(whole, 1, sizeof whole, f);
    fclose(f);
    assert_in_range(n, 40, 511);
    for (int cut = 0; cut < 2; cut++)
        for (size_t i = 0; i < n; i++) {
            char bent[512];
            memcpy(bent, whole, n);
            bent[i] ^= 1;
            f = fopen(file, "wb");
            fwrite(cut ? whole : bent, 1, cut ? i : n, f);
            fclose(f);
            struct t5_choices *c = opened("card 1");
            if (t5_choices_find(text, sizeof text, c, "512 64"))
                assert_string_equal(text, "3");
            t5_choices_close(c);
        }
    struct t5_choices *c = opened("card 1"); /* cut by one byte: the last answer is gone */
    keep(c, "1 1", "9", "9");
    t5_choices_close(c);
    expect("card 1", "512 6", "5");
    expect("card 1", "1 1", "9");
}

/* Processes that answer the same keys at once all go by the same answers. */
static void test_together(void **state)
{
    enum { PROCESSES = 6, KEYS = 8 };
    int status[PROCESSES];
    pid_t pid[PROCESSES];
    char said[PROCESSES][KEYS];
    (void)state;
    for (int p = 0; p < PROCESSES; p++) {
        int to[2];
        assert_int_equal(pipe(to), 0);
        if ((pid[p] = fork()) == 0) {
            struct t5_choices *c = opened("together");
            for (int k = 0; k < KEYS; k++) {
                char key[8], value[8];
                snprintf(key, sizeof key, "k%d", k);
                snprintf(value, sizeof value, "%d", p);
                if (!t5_choices_keep(value, sizeof value, c, key) || write(to[1], value, 1) != 1)
                    _exit(1);
            }
            _exit(0);
        }
        close(to[1]);
        status[p] = to[0];
    }
    for (int p = 0; p < PROCESSES; p++) {
        int rc;
        for (int k = 0; k < KEYS; k++)
            assert_int_equal(read(status[p], &said[p][k], 1), 1);
        waitpid(pid[p], &rc, 0);
        assert_int_equal(rc, 0);
        close(status[p]);
        assert_memory_equal(said[p], said[0], KEYS);
    }
}

static void test_nowhere(void **state)
{
    struct t5_choices *c;
    struct t5_err err = {0};
    char value[8] = "1";
    (void)state;
    setenv("XDG_CACHE_HOME", "relative", 1);
    unsetenv("HOME");
    assert_int_equal(t5_choices_open(&c, "test", "x", &err), -1);
    assert_null(c);
    setenv("XDG_CACHE_HOME", "/dev/null/cache", 1);
    assert_int_equal(t5_choices_open(&c, "test", "x", &err), -1);
    setenv("XDG_CACHE_HOME", root, 1);
    c = opened("gone");
    char dir[64], command[160];
    snprintf(dir, sizeof dir, "%s/t5-tools", root);
    snprintf(command, sizeof command, "rm -rf %s && touch %s", dir, dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(t5_choices_keep(value, sizeof value, c, "k"), 0);
    assert_string_equal(value, "1");
    t5_choices_close(c);
}

static int setup(void **state)
{
    char cache[64];
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(cache, sizeof cache, "%s/cache", root);
    return setenv("XDG_CACHE_HOME", cache, 1);
}

static int teardown(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kept), cmocka_unit_test(test_damaged),
                                       cmocka_unit_test(test_together),
                                       cmocka_unit_test(test_nowhere)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
