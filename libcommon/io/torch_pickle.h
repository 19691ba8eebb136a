/* torch_pickle.h - the data.pkl of a PyTorch state dict as a table: 31 opcodes and 13 globals, what
 * torch.save writes, and nothing is imported or called. Anything else is refused at its byte. Does
 * not know where storages lie: see torch_archive.c. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_TORCH_PICKLE_H
#define T5_IO_TORCH_PICKLE_H

#include "io/safetensors.h"

struct t5_torch_entry { /* a name of the state dict and the view of a storage that it stands for */
    const char *name, *key;  /* not NUL-terminated; borrowed from the pickle's bytes */
    size_t name_n, key_n;    /* name: at most 512 bytes without NUL; key: 1 to 64 digits */
    enum t5_dtype type;      /* of the storage */
    int64_t numel;           /* elements of the whole storage */
    int64_t offset;          /* of the view in it, in elements; unchecked, as are the next three */
    int rank;
    int64_t shape[T5_MAX_RANK], stride[T5_MAX_RANK];
};

struct t5_torch_entries {
    struct t5_torch_entry *at; /* owned, in the order of the pickle */
    int n;
};

/* Reads the n bytes; shown names them in messages. Free in every case, also after a failure. */
int t5_torch_unpickle(struct t5_torch_entries *out, const unsigned char *bytes, size_t n,
                      const char *shown, struct t5_err *err) T5_MUST_CHECK;
void t5_torch_entries_free(struct t5_torch_entries *entries);

#endif
