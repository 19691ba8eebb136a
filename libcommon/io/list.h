/* list.h - what a tensor file or a directory holds, as JSON lines: from the headers alone, whatever
 * the model is. Does not compare anything with a config: checkpoint.h does. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_LIST_H
#define T5_IO_LIST_H

#include <stdio.h>

#include "base/err.h"

/* For each file a line {"file", "metadata"}, then a line {"name", "dtype", "shape", "bytes",
 * "file"} per tensor in the order of the data. path is a safetensors file ("-": standard input), a
 * PyTorch file named *.bin, or a directory, whose *.safetensors (where there are none: its
 * pytorch_model*.bin or adapter_model*.bin) are listed in the order of their names, one open at a
 * time.
 * Errors of writing are left in out's error flag. */
int t5_list_tensors(FILE *out, const char *path, struct t5_err *err) T5_MUST_CHECK;

#endif
