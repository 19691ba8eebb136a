/* compare_files.h - t5-quantize --compare: two models and a file of records, answers as JSON lines.
 */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_COMPARE_FILES_H
#define T5_T5_COMPARE_FILES_H

#include <stdio.h>

#include "backend/backend.h"

struct t5_compare_files {
    const char *original, *model;
    const char *const *tokens; /* records with labels; none: standard input */
    int n_tokens;
    int64_t records; /* the first so many; 0: all */
    const char *device;
    enum t5_compute compute; /* the model's; the original's is f32 */
    int threads;
    void (*warn)(const char *text);
};

/* A line per record, then one for all. Both models are in memory at once. */
int t5_compare_print(FILE *out, const struct t5_compare_files *files,
                     struct t5_err *err) T5_MUST_CHECK;

#endif
