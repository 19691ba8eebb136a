/* atomic.c - outputs that are the old file or the complete new one. Does not buffer: callers hand
 * over large pieces. A device, a pipe or a socket is written directly, there being nothing to
 * rename. */
/* SPDX-License-Identifier: MIT */
#include "io/atomic.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

#define TEMPORARY                                                                                  \
    ".t5tmp." /* then PID.COUNTER; short, so that any legal name has a legal temporary */

struct t5_atomic {
    int fd;
    int64_t start;   /* where our first byte is in fd, or -1: cannot be sought */
    char *path;      /* final name, NULL: standard output */
    char *temporary; /* NULL: written directly */
    int slot;        /* in live[], or -1 */
};

/* What t5_atomic_remove_all may have to remove from a signal handler: so a fixed array. */
static char *volatile live[64];

static int live_add(char *temporary)
{
    for (int i = 0; i < (int)(sizeof live / sizeof *live); i++)
        if (__sync_bool_compare_and_swap(&live[i], NULL, temporary))
            return i;
    return -1;
}

void t5_atomic_remove_all(void)
{
    for (size_t i = 0; i < sizeof live / sizeof *live; i++)
        if (live[i])
            unlink(live[i]);
}

static char *directory_of(const char *path, struct t5_err *err)
{
    char *copy = strdup(path);
    if (!copy) {
        t5_fail_memory(err, strlen(path) + 1, "a path");
        return NULL;
    }
    char *dir = strdup(dirname(copy));
    free(copy);
    if (!dir)
        t5_fail_memory(err, strlen(path) + 1, "a path");
    return dir;
}

static int fail_at(struct t5_err *err, const char *path)
{
    int code = errno;
    char shown[T5_ESCAPED];
    t5_escape(shown, path, strlen(path));
    errno = code;
    return t5_fail_errno(err, "%s", shown);
}

/* A new file beside path, locked: the lock, which the kernel drops when we are killed, is how a
 * sweep tells an orphan from a file that somebody is writing. */
static int open_temporary(struct t5_atomic *file, struct t5_err *err)
{
    static int counter;
    char *dir = directory_of(file->path, err);
    if (!dir)
        return -1;
    size_t n = strlen(dir) + 64;
    int rc = -1;
    file->temporary = t5_alloc(n, 1, "a path", err);
    if (!file->temporary)
        goto out;
    for (int tries = 0; tries < 1000; tries++) {
        struct stat st;
        snprintf(file->temporary, n, "%s/" TEMPORARY "%ld.%d", dir, (long)getpid(),
                 __sync_fetch_and_add(&counter, 1));
        file->fd = open(file->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->fd < 0 && errno == EEXIST)
            continue;
        if (file->fd < 0)
            break;
        /* a sweep may have taken the name between open and flock: then begin again */
        if (flock(file->fd, LOCK_EX | LOCK_NB) == 0 && fstat(file->fd, &st) == 0 &&
            st.st_nlink > 0) {
            file->slot = live_add(file->temporary);
            rc = 0;
            goto out;
        }
        close(file->fd);
        file->fd = -1;
    }
    fail_at(err, file->path);
    free(file->temporary);
    file->temporary = NULL;
out:
    free(dir);
    return rc;
}

static void drop(struct t5_atomic *file)
{
    if (file->slot >= 0)
        live[file->slot] = NULL;
    free(file->path);
    free(file->temporary);
    free(file);
}

static int open_named(struct t5_atomic *file, const char *path, struct t5_err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        /* never rename over a device: -o /dev/null must leave /dev/null */
        file->path = strdup(path);
        file->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return file->path && file->fd >= 0 ? 0 : fail_at(err, path);
    }
    char *target = realpath(path, NULL); /* through a link, to the file it names */
    file->path = target ? target : strdup(path);
    if (!file->path)
        return t5_fail_memory(err, strlen(path) + 1, "a path");
    file->start = 0;
    return open_temporary(file, err);
}

int t5_atomic_open(struct t5_atomic **out, const char *path, struct t5_err *err)
{
    struct t5_atomic *file = t5_alloc_zeroed(1, sizeof *file, "an output", err);
    *out = NULL;
    if (!file)
        return -1;
    file->fd = -1;
    file->slot = -1;
    file->start = -1;
    if (path && strcmp(path, "-") != 0) {
        if (open_named(file, path, err)) {
            drop(file);
            return -1;
        }
    } else {
        struct stat st;
        int flags = fcntl(STDOUT_FILENO, F_GETFL);
        file->fd = STDOUT_FILENO;
        /* pwrite on an O_APPEND descriptor appends, whatever its offset says */
        if (flags >= 0 && !(flags & O_APPEND) && fstat(file->fd, &st) == 0 && S_ISREG(st.st_mode))
            file->start = lseek(file->fd, 0, SEEK_CUR);
    }
    *out = file;
    return 0;
}

static const char *name_of(const struct t5_atomic *file)
{
    return file->path ? file->path : "<stdout>";
}

int t5_atomic_write(struct t5_atomic *file, const void *bytes, size_t n, struct t5_err *err)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(file->fd, p, n < (1u << 30) ? n : 1u << 30);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_at(err, name_of(file));
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

int t5_atomic_can_patch(const struct t5_atomic *file)
{
    return file->start >= 0;
}

int t5_atomic_patch(struct t5_atomic *file, int64_t at, const void *bytes, size_t n,
                    struct t5_err *err)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = pwrite(file->fd, p, n, file->start + at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_at(err, name_of(file));
        p += done;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

/* The directory that path is a name in. */
static int sync_directory(const char *path, struct t5_err *err)
{
    char *dir = directory_of(path, err);
    if (!dir)
        return -1;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    /* EINVAL: a file system without directory sync; EACCES: one that we may write and not read.
     * There is nothing more to do there */
    if (fd < 0 ? errno != EACCES : fsync(fd) != 0 && errno != EINVAL)
        rc = fail_at(err, dir);
    if (fd >= 0)
        close(fd);
    free(dir);
    return rc;
}

int t5_atomic_commit(struct t5_atomic *file, struct t5_err *err)
{
    int rc = 0;
    if (file->temporary) {
        /* a failed fsync is never tried again: the kernel may have dropped the pages already */
        if (fsync(file->fd) != 0) {
            rc = fail_at(err, file->path);
            close(file->fd);
        } else if (close(file->fd) != 0 || rename(file->temporary, file->path) != 0)
            rc = fail_at(err, file->path);
        if (rc)
            unlink(file->temporary);
        else
            rc = sync_directory(file->path, err);
    } else if (file->path && close(file->fd) != 0)
        rc = fail_at(err, file->path);
    drop(file);
    return rc;
}

void t5_atomic_abandon(struct t5_atomic *file)
{
    if (!file)
        return;
    if (file->path)
        close(file->fd);
    if (file->temporary)
        unlink(file->temporary);
    drop(file);
}

int t5_atomic_save(const char *path, const void *bytes, size_t n, struct t5_err *err)
{
    struct t5_atomic *file;
    if (t5_atomic_open(&file, path, err))
        return -1;
    if (t5_atomic_write(file, bytes, n, err)) {
        t5_atomic_abandon(file);
        return -1;
    }
    return t5_atomic_commit(file, err);
}

int t5_atomic_sweep(const char *dir, struct t5_err *err)
{
    DIR *d = opendir(dir);
    if (!d)
        return fail_at(err, dir);
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strncmp(e->d_name, TEMPORARY, strlen(TEMPORARY)) != 0)
            continue;
        int fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
            continue; /* not one of ours */
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dirfd(d), e->d_name, 0) != 0 &&
            errno != ENOENT)
            rc = fail_at(err, dir);
        close(fd);
    }
    closedir(d);
    return rc;
}

static int lock_taken(int fd, const char *shown, struct t5_err *err)
{
    char pid[32] = "";
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
    return t5_fail_as(err, T5_ENVIRONMENT, "%s: in use by pid %s", shown, pid[0] ? pid : "unknown");
}

int t5_dir_make(const char *dir, struct t5_err *err)
{
    if (mkdir(dir, 0777) != 0)
        return errno == EEXIST ? 0 : fail_at(err, dir);
    if (sync_directory(dir, err) == 0)
        return 1;
    rmdir(dir);
    return -1;
}

int t5_dir_lock(int *out, const char *dir, struct t5_err *err)
{
    char path[PATH_MAX], shown[T5_ESCAPED], pid[32];
    t5_escape(shown, dir, strlen(dir));
    *out = -1;
    if (t5_dir_make(dir, err) < 0)
        return -1;
    if (snprintf(path, sizeof path, "%s/.lock", dir) >= (int)sizeof path)
        return t5_fail_as(err, T5_ENVIRONMENT, "%s: name too long", shown);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd < 0)
        return t5_fail_errno(err, "%s/.lock", shown);
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid()), rc = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        rc = errno == EWOULDBLOCK ? lock_taken(fd, shown, err)
                                  : t5_fail_errno(err, "%s/.lock", shown);
    else if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        rc = t5_fail_errno(err, "%s/.lock", shown);
    if (rc)
        close(fd);
    else
        *out = fd;
    return rc;
}

int t5_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && stat(a, &x) == 0 && stat(b, &y) == 0 &&
           (S_ISREG(x.st_mode) || S_ISDIR(x.st_mode)) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}
