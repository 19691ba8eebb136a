/* safetensors.h - the one tensor format: an 8-byte little-endian header length, a JSON header, the
 * data. Reads files (mmap) and pipes (sequentially); writes in offset order, header first. Stricter
 * than the reference where that catches damage (duplicate names, NUL in names, unknown keys). */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_SAFETENSORS_H
#define T5_IO_SAFETENSORS_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/err.h"

#define T5_MAX_RANK 8

struct t5_tensor {
    const char *name; /* NUL-terminated, at most 512 bytes; borrowed from its file */
    enum t5_dtype type;
    int rank;
    int64_t shape[T5_MAX_RANK];
    int64_t elements;
    const void *data; /* any alignment; borrowed from its file */
    size_t bytes;
    const char *file; /* for messages */
};

struct t5_safetensors; /* an open file: owns the mapping (or, for a pipe, the bytes read) */

/* path NULL or "-": standard input. A regular file is mapped; anything else is read to its end. */
int t5_safetensors_open(struct t5_safetensors **out, const char *path,
                        struct t5_err *err) T5_MUST_CHECK;
/* The same from an open descriptor, which it closes in every case (unless a standard one); shown
 * names it in messages. */
int t5_safetensors_open_fd(struct t5_safetensors **out, int fd, const char *shown,
                           struct t5_err *err) T5_MUST_CHECK;
/* The same where somebody has read the first bytes of the stream to see what it is: they are
 * borrowed during the call. */
int t5_safetensors_open_rest(struct t5_safetensors **out, int fd, const void *first, size_t n_first,
                             const char *shown, struct t5_err *err) T5_MUST_CHECK;
void t5_safetensors_close(struct t5_safetensors *file);
/* Its name for messages, escaped. */
const char *t5_safetensors_shown(const struct t5_safetensors *file);
int t5_safetensors_count(const struct t5_safetensors *file);
/* In offset order. */
const struct t5_tensor *t5_safetensors_at(const struct t5_safetensors *file, int i);
const struct t5_tensor *t5_safetensors_find(const struct t5_safetensors *file, const char *name);
/* Whether path names the very file that was opened (through links too). */
int t5_safetensors_is(const struct t5_safetensors *file, const char *path);
/* The value of a __metadata__ key, or NULL; *n may be NULL (values may hold NUL bytes). */
const char *t5_safetensors_metadata(const struct t5_safetensors *file, const char *key, size_t *n);
/* The i-th pair, keys ascending: 1, or 0 behind the last. */
int t5_safetensors_metadata_at(const struct t5_safetensors *file, int i, const char **key,
                               const char **value);

/* Writing: describe every tensor (data may be NULL; bytes is computed from the shape), then hand
 * over the bytes in the same order. */
struct t5_metadata {
    const char *key, *value; /* NUL-terminated UTF-8 */
};
struct t5_atomic;
/* Writes the header alone (padded with spaces so that data start at a multiple of 64). */
int t5_safetensors_write_header(struct t5_atomic *out, const struct t5_tensor *tensors, int n,
                                const struct t5_metadata *metadata, int n_metadata,
                                struct t5_err *err) T5_MUST_CHECK;
/* Header, then data in pieces of any size, then a SHA-256 of the data under the metadata key
 * "sha256", put into the header at the end: so an output that cannot be gone back in (a pipe) has
 * none. The file is borrowed; committing or abandoning it stays with the caller. */
struct t5_safetensors_writer;
int t5_safetensors_write_open(struct t5_safetensors_writer **out, struct t5_atomic *file,
                              const struct t5_tensor *tensors, int n,
                              const struct t5_metadata *metadata, int n_metadata,
                              struct t5_err *err) T5_MUST_CHECK;
int t5_safetensors_write(struct t5_safetensors_writer *writer, const void *bytes, size_t n,
                         struct t5_err *err) T5_MUST_CHECK;
/* The two halves of it, each in the order of the data; two threads may do one each. */
void t5_safetensors_write_hash(struct t5_safetensors_writer *writer, const void *bytes, size_t n);
int t5_safetensors_write_unhashed(struct t5_safetensors_writer *writer, const void *bytes, size_t n,
                                  struct t5_err *err) T5_MUST_CHECK;
/* Frees the writer in every case; takes NULL. Data missing is an error. */
int t5_safetensors_write_close(struct t5_safetensors_writer *writer,
                               struct t5_err *err) T5_MUST_CHECK;
/* All of it for tensors that are in memory, atomically. path NULL or "-": standard output. */
int t5_safetensors_save(const char *path, const struct t5_tensor *tensors, int n,
                        const struct t5_metadata *metadata, int n_metadata,
                        struct t5_err *err) T5_MUST_CHECK;
/* Recomputes the checksum of a file of ours; a file without one passes. */
int t5_safetensors_verify(const struct t5_safetensors *file, struct t5_err *err) T5_MUST_CHECK;
/* The same, given up (0) once *stop is set by another thread. */
int t5_safetensors_verify_until(const struct t5_safetensors *file, const volatile int *stop,
                                struct t5_err *err) T5_MUST_CHECK;

#endif
