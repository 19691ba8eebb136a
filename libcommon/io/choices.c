/* choices.c - a small file of answers: "t5-tools choices 1 IDENTITY", then lines of key, value and
 * the checksum of both, with tabs between. */
/* SPDX-License-Identifier: MIT */
#include "io/choices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/atomic.h"
#include "io/crc32.h"

#define HEAD "t5-tools choices 1 "
#define MOST_BYTES ((size_t)4 << 20) /* of a file: what is larger is damaged */
#define LOCK_TRIES 50                /* of 20 ms */

struct t5_choices {
    char directory[PATH_MAX - 256];
    char path[PATH_MAX]; /* the file; PATH.lock beside it */
    char *identity;
    struct t5_buf lines; /* whole lines that are right, each ending in a newline */
};

/* ---- reading ---- */

/* Whether line[0..n) is KEY TAB VALUE TAB CRC. *key: bytes of the key. */
static int is_right(const char *line, size_t n, size_t *key)
{
    char crc[16];
    const char *value = memchr(line, '\t', n);
    const char *end = value ? memchr(value + 1, '\t', n - (size_t)(value + 1 - line)) : NULL;
    if (!end)
        return 0;
    snprintf(crc, sizeof crc, "\t%08x", (unsigned)t5_crc32(0, line, (size_t)(end - line)));
    *key = (size_t)(value - line);
    return (size_t)(line + n - end) == strlen(crc) && memcmp(end, crc, strlen(crc)) == 0;
}

int t5_choices_find(char *value, size_t size, const struct t5_choices *c, const char *key)
{
    const char *at = c->lines.data, *end = at + c->lines.n;
    for (const char *next; at < end; at = next + 1) {
        size_t k = 0;
        next = memchr(at, '\n', (size_t)(end - at));
        if (!next)
            return 0;
        if (is_right(at, (size_t)(next - at), &k) && strlen(key) == k && memcmp(at, key, k) == 0) {
            const char *from = at + k + 1;
            size_t n = (size_t)((const char *)memchr(from, '\t', (size_t)(next - from)) - from);
            if (n >= size)
                return 0;
            memcpy(value, from, n);
            value[n] = 0;
            return 1;
        }
    }
    return 0;
}

static int add_line(struct t5_choices *c, const char *line, size_t n)
{
    struct t5_err err;
    return t5_buf_append(&c->lines, line, n, &err) || t5_buf_append(&c->lines, "\n", 1, &err) ? -1
                                                                                              : 0;
}

/* Takes the lines of a file's text that are right. */
static void take(struct t5_choices *c, const char *text, size_t n)
{
    char head[PATH_MAX];
    int length = snprintf(head, sizeof head, HEAD "%s\n", c->identity);
    if (length >= (int)sizeof head || n < (size_t)length || memcmp(text, head, (size_t)length) != 0)
        return;
    const char *end = text + n;
    for (const char *at = text + length, *next; at < end; at = next + 1) {
        size_t key;
        next = memchr(at, '\n', (size_t)(end - at));
        if (!next)
            return;
        if (is_right(at, (size_t)(next - at), &key) && add_line(c, at, (size_t)(next - at)))
            return;
    }
}

static void reload(struct t5_choices *c)
{
    c->lines.n = 0;
    char *text = malloc(MOST_BYTES);
    size_t n = 0;
    ssize_t got = 0;
    int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd >= 0 && text && n < MOST_BYTES &&
           ((got = read(fd, text + n, MOST_BYTES - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    if (fd >= 0)
        close(fd);
    if (got == 0 && n < MOST_BYTES && text)
        take(c, text, n);
    free(text);
}

/* ---- writing ---- */

/* PATH.lock, locked; -1: it cannot be. Held for milliseconds, so a holder that stays is stopped. */
static int lock(const struct t5_choices *c)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.lock", c->path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
        if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_TRIES) {
            close(fd);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    return fd;
}

static int write_all(struct t5_choices *c)
{
    struct t5_err err;
    struct t5_buf text = {0};
    int rc = t5_buf_printf(&text, &err, HEAD "%s\n", c->identity) ||
             t5_buf_append(&text, c->lines.data, c->lines.n, &err) ||
             t5_atomic_save(c->path, text.data, text.n, &err);
    t5_buf_free(&text);
    return rc ? -1 : 0;
}

int t5_choices_keep(char *value, size_t size, struct t5_choices *c, const char *key)
{
    char line[1024];
    int fd = lock(c), kept = 0;
    if (fd < 0)
        return 0;
    reload(c);
    if (t5_choices_find(value, size, c, key)) {
        kept = 1;
    } else {
        int n = snprintf(line, sizeof line - 16, "%s\t%s", key, value);
        if (n < (int)sizeof line - 16) {
            n += snprintf(line + n, 16, "\t%08x", (unsigned)t5_crc32(0, line, (size_t)n));
            kept = add_line(c, line, (size_t)n) == 0 && write_all(c) == 0;
        }
    }
    close(fd);
    return kept;
}

/* ---- opening ---- */

/* $XDG_CACHE_HOME where it is absolute (XDG Base Directory Specification), else ~/.cache. */
static int find_directory(struct t5_choices *c, struct t5_err *err)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char base[sizeof c->directory - 16] = "";
    int n = 0;
    if (cache && cache[0] == '/')
        n = snprintf(base, sizeof base, "%s", cache);
    else if (home && home[0] == '/')
        n = snprintf(base, sizeof base, "%s/.cache", home);
    if (n <= 0 || n >= (int)sizeof base)
        return t5_fail_as(err, T5_ENVIRONMENT, "no directory for caches");
    snprintf(c->directory, sizeof c->directory, "%s/t5-tools", base);
    if ((mkdir(base, 0700) != 0 && errno != EEXIST) ||
        (mkdir(c->directory, 0700) != 0 && errno != EEXIST))
        return t5_fail_errno(err, "%s", c->directory);
    return 0;
}

int t5_choices_open(struct t5_choices **out, const char *what, const char *identity,
                    struct t5_err *err)
{
    struct t5_choices *c = t5_alloc_zeroed(1, sizeof *c, "choices", err);
    *out = NULL;
    if (!c)
        return -1;
    if (find_directory(c, err))
        goto fail;
    snprintf(c->path, sizeof c->path, "%s/%s-%08x", c->directory, what,
             (unsigned)t5_crc32(0, identity, strlen(identity)));
    c->identity = strdup(identity);
    if (!c->identity) {
        t5_fail_memory(err, strlen(identity), "choices");
        goto fail;
    }
    reload(c);
    *out = c;
    return 0;
fail:
    t5_choices_close(c);
    return -1;
}

void t5_choices_close(struct t5_choices *c)
{
    if (!c)
        return;
    t5_buf_free(&c->lines);
    free(c->identity);
    free(c);
}
