/* safetensors_header.h - the JSON header of a safetensors file as a table. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_SAFETENSORS_HEADER_H
#define T5_IO_SAFETENSORS_HEADER_H

#include "io/safetensors.h"

#define T5_MAX_HEADER ((uint64_t)100000000) /* bytes; the reference's limit */
#define T5_MAX_TENSORS 65536
#define T5_MAX_TENSOR_NAME 512

struct t5_header_pair {
    char *key, *value; /* owned, NUL-terminated */
    size_t value_n;
};

struct t5_header {
    struct t5_tensor *tensors; /* owned with their names; in offset order; data still NULL */
    uint64_t *begin;           /* where each one's data begin, counted from the end of the header */
    int *by_name;              /* indices into tensors, sorted by name */
    int n;
    uint64_t data_bytes; /* where the last tensor ends */
    struct t5_header_pair *metadata;
    int n_metadata;
};

/* Reads the header's n bytes. `shown` names the file in messages and is borrowed by the tensors.
 * Every rule of the format is checked here, down to each size; what is left to the caller is that
 * the file ends where data_bytes says. */
int t5_header_parse(struct t5_header *out, const char *text, size_t n, const char *shown,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_header_free(struct t5_header *header);

/* Opens a regular file of another format as a tensor file: it is mapped, `read` fills out's tensors,
 * their data included, and by_name, and need not tidy up after a failure. Closes fd in every case. */
typedef int t5_table_reader(struct t5_header *out, const unsigned char *bytes, size_t n,
                            const char *shown, struct t5_err *err);
int t5_safetensors_open_as(struct t5_safetensors **out, int fd, const char *shown,
                           t5_table_reader *read, struct t5_err *err) T5_MUST_CHECK;

#endif
