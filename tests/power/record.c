/* record.c - preloaded into a program, logs to $POWER_LOG what that does to the files below
 * $POWER_DIR: opens, writes with their bytes, truncations, syncs, renames, unlinks, new
 * directories. Memory maps that are written to and links are not seen: replay compares the whole
 * log with what is on disk. */
/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "power.h"

#define FILES 1024
#define HIGH 900 /* our descriptor, out of the program's way */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char directory[PATH_MAX];
static uint32_t handles[FILES], opened; /* of each descriptor, from 1; 0: not below the directory */

/* The C library's own function. */
#define REAL(name)                                                                                 \
    static __typeof__(name) *real;                                                                 \
    if (!real)                                                                                     \
    real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void put(const void *bytes, size_t n)
{
    REAL(write);
    for (const char *p = bytes; n > 0;) {
        ssize_t done = real(log_fd, p, n);
        if (done < 0)
            abort(); /* a log with a hole would prove nothing */
        p += done;
        n -= (size_t)done;
    }
}

static void entry(enum power_op op, uint32_t handle, int64_t number, const void *text, size_t n,
                  const char *second)
{
    int code = errno;
    struct power_entry e = {op, handle, number, n, second ? strlen(second) : 0};
    put(&e, sizeof e);
    put(text, n);
    put(second, e.second);
    errno = code;
}

static void close_really(int fd)
{
    REAL(close);
    real(fd);
}

static void begin(void)
{
    const char *path = getenv("POWER_LOG"), *dir = getenv("POWER_DIR");
    REAL(open);
    if (log_fd >= 0 || !path || !dir || !realpath(dir, directory))
        return;
    int fd = real(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    log_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
    close_really(fd);
}

/* What follows the directory in a path, "." for the directory itself; NULL where it is elsewhere.
 * The parent's name is resolved, the last part is not. */
static const char *below(char out[PATH_MAX], int at, const char *path)
{
    char full[PATH_MAX + 32], parent[PATH_MAX], name[NAME_MAX + 2];
    struct stat st;
    if (log_fd < 0)
        return NULL;
    snprintf(full, sizeof full, "/proc/self/fd/%d/%s", at, path);
    const char *given = path[0] == '/' || at == AT_FDCWD ? path : full;
    if (stat(given, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (!realpath(given, out))
            return NULL;
    } else {
        const char *slash = strrchr(given, '/');
        snprintf(name, sizeof name, "%s", slash ? slash + 1 : given);
        snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - given) : 1,
                 slash ? given : ".");
        if (!realpath(parent[0] ? parent : "/", out) || strlen(out) + strlen(name) + 2 > PATH_MAX)
            return NULL;
        strcat(strcat(out, "/"), name);
    }
    size_t n = strlen(directory);
    if (strncmp(out, directory, n) != 0 || (out[n] && out[n] != '/'))
        return NULL;
    return out[n] ? out + n + 1 : ".";
}

/* ---- descriptors ---- */

static int note_open(int fd, int at, const char *path, int flags)
{
    char out[PATH_MAX];
    if (fd < 0 || fd >= FILES)
        return fd;
    pthread_mutex_lock(&lock);
    begin();
    const char *name = below(out, at, path);
    handles[fd] = name ? ++opened : 0;
    if (name)
        entry(POWER_OPEN, opened, flags, name, strlen(name), NULL);
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    REAL(open);
    va_start(ap, flags);
    int fd = real(path, flags, mode_of(flags, ap));
    va_end(ap);
    return note_open(fd, AT_FDCWD, path, flags);
}

int openat(int at, const char *path, int flags, ...)
{
    va_list ap;
    REAL(openat);
    va_start(ap, flags);
    int fd = real(at, path, flags, mode_of(flags, ap));
    va_end(ap);
    return note_open(fd, at, path, flags);
}

int close(int fd)
{
    REAL(close);
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FILES)
        handles[fd] = 0;
    pthread_mutex_unlock(&lock);
    return real(fd);
}

static uint32_t handle_of(int fd)
{
    return fd >= 0 && fd < FILES ? handles[fd] : 0;
}

/* ---- contents ---- */

ssize_t write(int fd, const void *bytes, size_t n)
{
    REAL(write);
    if (!handle_of(fd))
        return real(fd, bytes, n);
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, bytes, n);
    if (done > 0)
        entry(POWER_WRITE, handles[fd], at, bytes, (size_t)done, NULL);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    REAL(pwrite);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, bytes, n, at);
    if (done > 0 && handle_of(fd))
        entry(POWER_WRITE, handles[fd], at, bytes, (size_t)done, NULL);
    pthread_mutex_unlock(&lock);
    return done;
}

/* A call on a descriptor that returned rc. */
static int note(int rc, enum power_op op, int fd, int64_t number)
{
    if (rc == 0 && handle_of(fd)) {
        pthread_mutex_lock(&lock);
        entry(op, handles[fd], number, NULL, 0, NULL);
        pthread_mutex_unlock(&lock);
    }
    return rc;
}

int ftruncate(int fd, off_t n)
{
    REAL(ftruncate);
    return note(real(fd, n), POWER_TRUNCATE, fd, n);
}

int fsync(int fd)
{
    REAL(fsync);
    return note(real(fd), POWER_SYNC, fd, 0);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return note(real(fd), POWER_SYNC, fd, 0);
}

/* ---- names ---- */

/* A call on names that returned rc; to may be NULL. */
static int note_names(int rc, enum power_op op, int at, const char *from, const char *to)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&lock);
    begin();
    const char *first = below(a, at, from), *second = to ? below(b, AT_FDCWD, to) : NULL;
    if (first && (!to || second))
        entry(op, 0, 0, first, strlen(first), second);
    else if (first || second)
        abort(); /* into or out of the directory: replay knows no such thing */
    pthread_mutex_unlock(&lock);
    return rc;
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    return note_names(real(from, to), POWER_RENAME, AT_FDCWD, from, to);
}

int unlink(const char *path)
{
    REAL(unlink);
    return note_names(real(path), POWER_UNLINK, AT_FDCWD, path, NULL);
}

int unlinkat(int at, const char *path, int flags)
{
    REAL(unlinkat);
    return note_names(real(at, path, flags), POWER_UNLINK, at, path, NULL);
}

int rmdir(const char *path)
{
    REAL(rmdir);
    return note_names(real(path), POWER_UNLINK, AT_FDCWD, path, NULL);
}

int remove(const char *path)
{
    REAL(remove);
    return note_names(real(path), POWER_UNLINK, AT_FDCWD, path, NULL);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return note_names(real(path, mode), POWER_MKDIR, AT_FDCWD, path, NULL);
}
