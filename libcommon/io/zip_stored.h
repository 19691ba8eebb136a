/* zip_stored.h - the members of a zip archive that is in memory and stores them uncompressed, as
 * torch.save writes it. Stricter than zip: what could be read in two ways is refused. Inside io/
 * only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_ZIP_STORED_H
#define T5_IO_ZIP_STORED_H

#include <stdint.h>

#include "base/err.h"

struct t5_zip_member {
    const char *name; /* not NUL-terminated, 1 to 512 bytes; borrowed from the archive */
    size_t name_n;
    uint64_t header; /* where its local header begins */
    const unsigned char *data; /* borrowed from the archive */
    size_t bytes;
    uint32_t crc;
};

struct t5_zip {
    struct t5_zip_member *members; /* owned; sorted by name */
    int n;
};

/* Reads the directory and every local header of the n bytes; no data. shown: for messages. */
int t5_zip_open(struct t5_zip *out, const unsigned char *bytes, size_t n, const char *shown,
                struct t5_err *err) T5_MUST_CHECK;
void t5_zip_free(struct t5_zip *zip);
/* NULL where there is none. */
const struct t5_zip_member *t5_zip_find(const struct t5_zip *zip, const char *name, size_t n);
/* Reads every member's data against its checksum. */
int t5_zip_verify(const struct t5_zip *zip, const char *shown, struct t5_err *err) T5_MUST_CHECK;

#endif
