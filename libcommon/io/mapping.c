/* mapping.c - mapped files that may shrink, and small regular files read whole. Does not interpret
 * what it reads. */
/* SPDX-License-Identifier: MIT */
#include "io/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/atomic.h"

/* What the signal handler must find without locks: a list that only grows at its head. Entries are
 * never freed, only emptied and used again, so that a handler cannot meet freed memory. */
struct entry {
    const unsigned char *bytes; /* NULL: free */
    size_t n;
    char text[T5_ESCAPED + 96]; /* the whole error line, made beforehand */
    struct entry *next;
};
static struct entry *volatile entries;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const unsigned char *at = info->si_addr;
    (void)context;
    for (const struct entry *e = entries; e; e = e->next)
        if (e->bytes && at >= e->bytes && at < e->bytes + e->n) {
            ssize_t ignored = write(STDERR_FILENO, e->text, strlen(e->text));
            (void)ignored;
            t5_atomic_remove_all();
            _exit(T5_ENVIRONMENT);
        }
    sigaction(number, &before,
              NULL); /* not ours: the access is tried again and ends as it would have */
}

/* At each mapping: somebody may have set another handler since the last. */
static void set_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO}, old;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &old) == 0 && old.sa_sigaction != on_sigbus)
        before = old;
}

static struct entry *entry_take(struct t5_err *err)
{
    set_handler();
    for (struct entry *e = entries; e; e = e->next)
        if (!e->bytes)
            return e;
    struct entry *e = t5_alloc_zeroed(1, sizeof *e, "a mapping", err);
    if (e) {
        e->next = entries;
        entries = e;
    }
    return e;
}

const unsigned char *t5_mapping_open(int fd, size_t n, const char *shown, struct t5_err *err)
{
    static const unsigned char empty[1];
    if (n == 0)
        return empty;
    void *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        t5_fail_errno(err, "%s: cannot map %zu bytes", shown, n);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    struct entry *e = entry_take(err);
    if (e) {
        snprintf(e->text, sizeof e->text, "%s: %.260s: the file was cut while it was being read\n",
                 program_invocation_short_name, shown);
        e->n = n;
        __sync_synchronize();
        e->bytes = bytes;
    }
    pthread_mutex_unlock(&lock);
    if (!e)
        munmap(bytes, n);
    return e ? bytes : NULL;
}

void t5_mapping_close(const unsigned char *bytes, size_t n)
{
    if (!bytes || n == 0)
        return;
    pthread_mutex_lock(&lock);
    for (struct entry *e = entries; e; e = e->next)
        if (e->bytes == bytes)
            e->bytes = NULL;
    pthread_mutex_unlock(&lock);
    munmap((void *)(uintptr_t)bytes, n);
}

static int is_mapped(const unsigned char *bytes, size_t n)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (const struct entry *e = entries; e && !found; e = e->next)
        found = e->bytes && bytes >= e->bytes && bytes + n <= e->bytes + e->n;
    pthread_mutex_unlock(&lock);
    return found;
}

/* outward: take in the pages that the range shares with its neighbours */
static void advise(const void *bytes, size_t n, int outward, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)bytes, to = from + n;
    if (n == 0 || !is_mapped(bytes, n))
        return;
    from = (outward ? from : from + page - 1) / page * page;
    to = (outward ? to + page - 1 : to) / page * page;
    if (to > from)
        madvise((void *)from, to - from, advice); /* only advice: its failure changes nothing */
}

void t5_mapping_want(const void *bytes, size_t n)
{
    advise(bytes, n, 1, MADV_WILLNEED);
}
/* A page shared with a neighbour goes too: it comes back from the page cache when it is touched. */
void t5_mapping_drop(const void *bytes, size_t n)
{
    advise(bytes, n, 1, MADV_DONTNEED);
}

int t5_open_regular(int dirfd, const char *name, const char *shown, size_t limit, size_t *size,
                    struct t5_err *err)
{
    struct stat st;
    /* O_NONBLOCK: opening a FIFO would wait for a writer that never comes */
    int fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ELOOP || errno == ENOTDIR))
        return t5_fail(err, "%s: %s", shown,
                       errno == ENOENT ? "no such file" : "not a regular file");
    if (fd < 0)
        return t5_fail_errno(err, "%s", shown);
    if (fstat(fd, &st) != 0)
        t5_fail_errno(err, "%s", shown);
    else if (!S_ISREG(st.st_mode))
        t5_fail(err, "%s: %s, not a regular file", shown,
                S_ISDIR(st.st_mode)    ? "a directory"
                : S_ISFIFO(st.st_mode) ? "a FIFO"
                                       : "a device or socket");
    else if (limit && (uintmax_t)st.st_size > limit)
        t5_fail(err, "%s: %lld bytes (at most %zu expected)", shown, (long long)st.st_size, limit);
    else {
        *size = (size_t)st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

char *t5_read_regular(int dirfd, const char *name, const char *shown, size_t limit, size_t *size,
                      struct t5_err *err)
{
    size_t at = 0;
    int fd = t5_open_regular(dirfd, name, shown, limit, size, err);
    if (fd < 0)
        return NULL;
    char *text = t5_alloc(*size + 1, 1, shown, err);
    while (text && at < *size) {
        ssize_t n = read(fd, text + at, *size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            t5_fail_errno(err, "%s", shown);
            free(text);
            text = NULL;
        } else if (n == 0)
            *size = at; /* cut meanwhile: what is there is what is judged */
        else
            at += (size_t)n;
    }
    if (text)
        text[*size] = 0;
    close(fd);
    return text;
}
