/* checkpoint_files.h - what checkpoint.c and checkpoint_dir.c share. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_CHECKPOINT_FILES_H
#define T5_IO_CHECKPOINT_FILES_H

#include "io/checkpoint.h"

struct t5_checkpoint {
    char shown[T5_ESCAPED];
    struct t5_safetensors **files; /* owned */
    int n_files;
    char *config_text; /* owned, NUL-terminated */
    size_t config_n;
    struct t5_config config;
    struct t5_tensor *tensors; /* owned: the model's, in layout order, scales behind their weight */
    int *by_name; /* indices into tensors, sorted by name */
    int n;
    char quantization[16];
    char warning[256]; /* "" or what is odd but harmless */
};

/* Fills files and config_text from an HF directory; the config is not yet parsed. */
int t5_checkpoint_read_dir(struct t5_checkpoint *model, const char *path,
                           struct t5_err *err) T5_MUST_CHECK;

#endif
