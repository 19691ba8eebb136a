/* files.h - temporary files for tests: a directory of this process, removed at the end by
 * files_remove. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_FILES_H
#define T5_TESTS_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char files_dir[64];

/* Group set-up: makes the directory. */
static inline int files_make(void **state)
{
    (void)state;
    strcpy(files_dir, "/tmp/t5-test-XXXXXX");
    return mkdtemp(files_dir) ? 0 : -1;
}

static inline int files_remove(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", files_dir);
    return system(command);
}

/* The path of a name in the directory; four may be in use at a time. */
static inline const char *files_path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", files_dir, name);
    return path;
}

/* Makes or replaces a file of the directory. Returns its path. */
static inline const char *files_write(const char *name, const void *bytes, size_t n)
{
    const char *path = files_path(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* Its bytes, malloc'ed, with a NUL behind. */
static inline char *files_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    bytes[*n] = 0;
    fclose(f);
    return bytes;
}

#endif
