/* atomic.h - a named output is the old file or the complete new one, never half of it: temporary
 * file in the same directory, fsync, rename, fsync of the directory. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_ATOMIC_H
#define T5_IO_ATOMIC_H

#include <stdint.h>

#include "base/err.h"

struct t5_atomic; /* one file being written; owns a temporary file until commit or abandon */

/* path NULL or "-": standard output (no temporary; commit only flushes). */
int t5_atomic_open(struct t5_atomic **out, const char *path, struct t5_err *err) T5_MUST_CHECK;
int t5_atomic_write(struct t5_atomic *file, const void *bytes, size_t n,
                    struct t5_err *err) T5_MUST_CHECK;
/* fsync, close, rename, fsync directory. Frees file in every case; on failure
 * the old file stays. */
int t5_atomic_commit(struct t5_atomic *file, struct t5_err *err) T5_MUST_CHECK;
/* Removes the temporary file. Takes NULL. */
void t5_atomic_abandon(struct t5_atomic *file);

/* Whether bytes already written can be replaced: true of named files and of standard output where
 * that is a regular file. t5_atomic_patch replaces n bytes at offset `at` from the first byte
 * written. */
int t5_atomic_can_patch(const struct t5_atomic *file);
int t5_atomic_patch(struct t5_atomic *file, int64_t at, const void *bytes, size_t n,
                    struct t5_err *err) T5_MUST_CHECK;
/* Unlinks every temporary file of this process. Async-signal-safe: for handlers that end the
 * program. */
void t5_atomic_remove_all(void);

/* Whole small file in one call. */
int t5_atomic_save(const char *path, const void *bytes, size_t n, struct t5_err *err) T5_MUST_CHECK;
/* Removes the temporary files that killed runs left in dir. */
int t5_atomic_sweep(const char *dir, struct t5_err *err) T5_MUST_CHECK;
/* Whether both paths lead to one file or directory: an output that would take an input's place.
 * Devices and pipes are never one, nor is NULL. */
int t5_same_file(const char *a, const char *b);
/* Creates dir (one level) where it is missing, and has its name on the disk before anything is
 * promised to be in it. 1: created; 0: it was there. */
int t5_dir_make(const char *dir, struct t5_err *err) T5_MUST_CHECK;
/* Makes dir if needed and takes an exclusive flock on DIR/.lock for the process's
 * life. T5_ENVIRONMENT "DIR: in use by pid N" where another run holds it. Returns the descriptor in
 * *fd. */
int t5_dir_lock(int *fd, const char *dir, struct t5_err *err) T5_MUST_CHECK;

#endif
