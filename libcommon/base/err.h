/* err.h - how every library function reports failure.
 *
 * A function that can fail returns 0 (or 1 for "a record") and -1 on failure, after filling a
 * t5_err. The library never prints and never exits; a program prints the one line and leaves with
 * the status found here. Texts are one line of at most 400 bytes; bytes that came from an input go
 * through t5_escape first. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_ERR_H
#define T5_BASE_ERR_H

#include <stddef.h>

/* Exit statuses: who is at fault. */
enum t5_status {
    T5_OK = 0,
    T5_BAD_INPUT = 1,   /* data, model, adapter */
    T5_USAGE = 2,       /* command line */
    T5_SKIPPED = 3,     /* finished, but --skip-bad skipped records */
    T5_ENVIRONMENT = 4, /* I/O, disk, memory, GPU, lock: a retry may work */
    T5_NOT_FINITE = 5,  /* training stopped: loss or gradients not finite */
};

struct t5_err {
    enum t5_status status;
    int skippable; /* 1: one bad record; the reader can go on with the next */
    int out_of_memory; /* 1: with less to hold the same may go well */
    char text[401];
};

#define T5_MUST_CHECK __attribute__((warn_unused_result))
#define T5_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Each fills *err and returns -1, so that a caller writes `return t5_fail(err, ...)`. */
int t5_fail(struct t5_err *err, const char *fmt, ...) T5_PRINTF(2, 3); /* bad input */
int t5_fail_as(struct t5_err *err, enum t5_status status, const char *fmt, ...) T5_PRINTF(3, 4);
/* T5_ENVIRONMENT, with ": " and strerror(errno) appended. */
int t5_fail_errno(struct t5_err *err, const char *fmt, ...) T5_PRINTF(2, 3);
/* T5_ENVIRONMENT and out_of_memory, "out of memory (asked BYTES bytes for WHAT)". */
int t5_fail_memory(struct t5_err *err, size_t bytes, const char *what);

/* Puts "PLACE: " in front of the text already there. Returns -1. */
int t5_err_at(struct t5_err *err, const char *fmt, ...) T5_PRINTF(2, 3);

/* Room for a name of 64 bytes, each of which may become \xNN, and "...". */
#define T5_ESCAPED 264
/* Copies at most 64 of the n bytes as printable ASCII and valid UTF-8, anything else as \xNN, and
 * adds "..." where it cut. Returns out. */
char *t5_escape(char out[T5_ESCAPED], const char *bytes, size_t n);

#endif
