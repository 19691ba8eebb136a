/* power.h - the log that record.so writes and replay reads: what a program did to the files below
 * one directory, in order. Each entry is a struct power_entry, then its path or bytes, then the
 * second path. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_POWER_H
#define T5_TESTS_POWER_H

#include <stdint.h>

enum power_op {
    POWER_OPEN,     /* text: the path below the directory; number: flags */
    POWER_WRITE,    /* text: the bytes; number: where in the file */
    POWER_TRUNCATE, /* number: bytes */
    POWER_SYNC,
    POWER_RENAME, /* text: from, second: to */
    POWER_UNLINK, /* text: path; rmdir, too */
    POWER_MKDIR,  /* text: path */
    POWER_OPS
};

struct power_entry {
    uint32_t op;
    uint32_t handle; /* of an open file: each open has its own */
    int64_t number;
    uint64_t text, second; /* bytes that follow */
};

#endif
