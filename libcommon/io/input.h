/* input.h - the bytes of files, pipes or standard input, one after the other, in a buffer that
 * whoever cuts them into records moves along. Not part of the library's face: readers use jsonl.h.
 */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_INPUT_H
#define T5_IO_INPUT_H

#include <stdint.h>

#include "base/err.h"

#define T5_INPUT_CHUNK ((size_t)128 << 10) /* bytes asked for at once */

struct t5_input {
    const char *const *paths; /* borrowed */
    int n_paths, next_path;
    int fd;                    /* -1: none open */
    char (*names)[T5_ESCAPED]; /* one a path; owned */
    const char *name;          /* of the open file */
    char *data;                /* owned */
    size_t begin, end;         /* bytes that were read and not yet taken */
    size_t seen, capacity;     /* bytes [begin, seen) have been looked at */
    int at_end;                /* the open file has given all it has */
    int64_t line;              /* of the byte at begin, from 1 */
    size_t column;             /* the same, bytes, from 1 */
};

/* "-" or no paths: standard input. Opening is lazy. */
int t5_input_init(struct t5_input *in, const char *const *paths, int n_paths,
                  struct t5_err *err) T5_MUST_CHECK;
void t5_input_free(struct t5_input *in);

/* 1: a file is open; 0: there is no further one; -1. A file that is opened starts at line 1. */
int t5_input_need(struct t5_input *in, struct t5_err *err) T5_MUST_CHECK;
/* Reads once, after making room: moves the bytes. Nothing more sets at_end. */
int t5_input_fill(struct t5_input *in, struct t5_err *err) T5_MUST_CHECK;
/* Done with the open file: the next t5_input_need opens the next one. */
void t5_input_next(struct t5_input *in);
/* Moves begin to `to`, at most end, and counts lines and columns. */
void t5_input_take(struct t5_input *in, size_t to);
/* The byte i places behind begin, -1: there is none. May read. */
int t5_input_peek(struct t5_input *in, size_t i, int *byte, struct t5_err *err) T5_MUST_CHECK;
/* Whether reading would not wait, or no file is open and opening the next would not. */
int t5_input_ready(const struct t5_input *in);

#endif
