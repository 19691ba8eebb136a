/* tokens_packed.h - the packed form of token records, for tokens.c. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_TOKENS_PACKED_H
#define T5_IO_TOKENS_PACKED_H

#include "io/safetensors.h"
#include "io/tokens.h"

struct t5_ragged { /* one field of all records */
    const char *name;
    const char *ids;     /* (N) int32, any alignment; NULL: the file has none */
    const char *offsets; /* (n + 1) int64, any alignment */
};

struct t5_packed {
    struct t5_safetensors *file; /* owned */
    int64_t n;                   /* records */
    struct t5_ragged input, labels;
};

/* Opens a descriptor of which `first` has been read already (see t5_safetensors_open_rest) and
 * checks everything but the ids. */
int t5_packed_open(struct t5_packed *out, int fd, const void *first, size_t n_first,
                   const char *name, struct t5_err *err) T5_MUST_CHECK;
void t5_packed_close(struct t5_packed *packed);
/* Sets out to the ids of record i; place names it in messages. */
int t5_packed_ids(struct t5_buf *out, const struct t5_ragged *field, int64_t i,
                  const struct t5_token_record *place, int64_t vocab, struct t5_err *err)
    T5_MUST_CHECK;

#endif
