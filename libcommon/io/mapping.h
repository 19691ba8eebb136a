/* mapping.h - the bytes of an input that is needed whole: a regular file is mapped, anything else
 * is read. A mapped file that somebody shortens while we read it would kill us by SIGBUS; instead
 * the program says so in one line, removes its temporary files and leaves with T5_ENVIRONMENT. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_MAPPING_H
#define T5_IO_MAPPING_H

#include "base/err.h"

/* Maps n bytes of the regular file fd, read-only; shown is its name for messages (copied). NULL
 * after filling err. n may be 0. The descriptor may be closed afterwards. */
const unsigned char *t5_mapping_open(int fd, size_t n, const char *shown, struct t5_err *err);
void t5_mapping_close(const unsigned char *bytes, size_t n);

/* Reading through: pages ahead are asked for, pages behind leave memory. Any range within a
 * mapping; no harm where the bytes are not mapped. */
void t5_mapping_want(const void *bytes, size_t n);
void t5_mapping_drop(const void *bytes, size_t n);

/* Opens `name` in the directory dirfd for reading: a link is followed, but what it leads to must be
 * a regular file of at most `limit` bytes (0: no limit). shown: for messages. *size is its length.
 * Returns the descriptor or -1. A missing or wrong kind of file is bad input,
 * the rest environment. */
int t5_open_regular(int dirfd, const char *name, const char *shown, size_t limit, size_t *size,
                    struct t5_err *err) T5_MUST_CHECK;
/* The same file whole, in memory, with a NUL behind it. Owned by the caller:
 * free(). NULL on error. */
char *t5_read_regular(int dirfd, const char *name, const char *shown, size_t limit, size_t *size,
                      struct t5_err *err);

#endif
