/* torch_archive.h - a PyTorch .bin file (the zip archive of torch.save of a state dict) opened as
 * tensors. They point into the mapped file: nothing is copied, and names that share a storage share
 * its bytes. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_TORCH_ARCHIVE_H
#define T5_IO_TORCH_ARCHIVE_H

#include "io/safetensors.h"

/* From the descriptor of a regular file, which it closes in every case; shown names it in messages.
 * Tensors come in the order of the state dict. Close with t5_safetensors_close. The whole file is
 * read once, for its checksums. */
int t5_torch_open_fd(struct t5_safetensors **out, int fd, const char *shown,
                     struct t5_err *err) T5_MUST_CHECK;

#endif
