/* test_atomic.c - outputs that are old or new, never half; what killed runs leave; the directory
 * lock. */
/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "io/atomic.h"

static int count_temporaries(void)
{
    DIR *d = opendir(files_dir);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strncmp(e->d_name, ".t5tmp.", 7) == 0;
    closedir(d);
    return n;
}

static void expect_content(const char *path, const char *want)
{
    size_t n;
    char *got = files_read(path, &n);
    assert_string_equal(got, want);
    free(got);
}

static void old_or_new(void **state)
{
    (void)state;
    struct t5_err err;
    struct t5_atomic *file;
    const char *path = files_write("out", "old", 3);
    assert_int_equal(t5_atomic_open(&file, path, &err), 0);
    assert_int_equal(t5_atomic_write(file, "new", 3, &err), 0);
    expect_content(path, "old");
    assert_int_equal(count_temporaries(), 1);
    t5_atomic_abandon(file);
    expect_content(path, "old");
    assert_int_equal(count_temporaries(), 0);
    assert_int_equal(t5_atomic_open(&file, path, &err), 0);
    assert_int_equal(t5_atomic_write(file, "n__", 3, &err), 0);
    assert_true(t5_atomic_can_patch(file));
    assert_int_equal(t5_atomic_patch(file, 1, "ew", 2, &err), 0);
    assert_int_equal(t5_atomic_commit(file, &err), 0);
    expect_content(path, "new");
    assert_int_equal(count_temporaries(), 0);
    t5_atomic_abandon(NULL);
}

/* A run that is killed leaves its temporary; the next sweep takes it, and leaves
 * one in use alone. */
static void sweep(void **state)
{
    (void)state;
    struct t5_err err;
    struct t5_atomic *file;
    const char *path = files_path("swept");
    pid_t child = fork();
    if (child == 0) {
        if (t5_atomic_open(&file, path, &err) || t5_atomic_write(file, "half", 4, &err))
            _exit(1);
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
    assert_int_equal(count_temporaries(), 1);
    assert_int_equal(t5_atomic_open(&file, path, &err), 0);
    assert_int_equal(count_temporaries(), 2);
    assert_int_equal(t5_atomic_sweep(files_dir, &err), 0);
    assert_int_equal(count_temporaries(), 1);
    assert_int_equal(t5_atomic_write(file, "whole", 5, &err), 0);
    assert_int_equal(t5_atomic_commit(file, &err), 0);
    expect_content(path, "whole");
    assert_int_equal(count_temporaries(), 0);
}

static void remove_all(void **state)
{
    (void)state;
    struct t5_err err;
    struct t5_atomic *file;
    assert_int_equal(t5_atomic_open(&file, files_path("removed"), &err), 0);
    assert_int_equal(count_temporaries(), 1);
    t5_atomic_remove_all();
    assert_int_equal(count_temporaries(), 0);
    t5_atomic_abandon(file);
    t5_atomic_remove_all();
}

/* -o /dev/null must not replace the device; a link is followed; a full disk is the environment's
 * fault. */
static void special_targets(void **state)
{
    (void)state;
    struct t5_err err;
    struct stat st;
    const char *target = files_write("target", "old", 3), *link = files_path("link");
    assert_int_equal(t5_atomic_save("/dev/null", "x", 1, &err), 0);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(t5_atomic_save(link, "new", 3, &err), 0);
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    expect_content(target, "new");
    assert_int_equal(t5_atomic_save("/dev/full", "x", 1, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
    assert_non_null(strstr(err.text, "/dev/full"));
    assert_int_equal(t5_atomic_save(files_path("no/such/dir"), "x", 1, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
    assert_int_equal(t5_atomic_save(files_dir, "x", 1, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
}

/* A file size limit, as a quota or a full disk: the old file stays and nothing else does. */
static void size_limit(void **state)
{
    (void)state;
    struct t5_err err;
    const char *path = files_write("limited", "old", 3);
    pid_t child = fork();
    if (child == 0) {
        static char zeros[100000];
        const struct rlimit limit = {8192, 8192};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit))
            _exit(90);
        _exit(t5_atomic_save(path, zeros, sizeof zeros, &err) ? (int)err.status : 91);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), T5_ENVIRONMENT);
    expect_content(path, "old");
    assert_int_equal(count_temporaries(), 0);
}

static void make_directory(void **state)
{
    (void)state;
    struct t5_err err;
    assert_int_equal(t5_dir_make(files_path("made"), &err), 1);
    assert_int_equal(t5_dir_make(files_path("made"), &err), 0);
    assert_int_equal(t5_dir_make(files_path("made/in/one"), &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
}

static void lock(void **state)
{
    (void)state;
    struct t5_err err;
    int fd, again, status;
    char dir[128], want[64];
    snprintf(dir, sizeof dir, "%s/run", files_dir);
    assert_int_equal(t5_dir_lock(&fd, dir, &err), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fd); /* the lock stays with the parent's descriptor */
        if (t5_dir_lock(&again, dir, &err) == 0)
            _exit(0);
        snprintf(want, sizeof want, "in use by pid %d", (int)getppid());
        _exit(strstr(err.text, want) ? (int)err.status : 99);
    }
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), T5_ENVIRONMENT);
    close(fd);
    assert_int_equal(t5_dir_lock(&fd, dir, &err), 0);
    close(fd);
    assert_int_equal(t5_dir_lock(&fd, files_path("a/b"), &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_or_new), cmocka_unit_test(sweep),
        cmocka_unit_test(remove_all), cmocka_unit_test(special_targets),
        cmocka_unit_test(size_limit), cmocka_unit_test(make_directory),
        cmocka_unit_test(lock),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
