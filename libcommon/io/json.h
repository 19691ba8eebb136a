/* json.h - the strict JSON scanner under jsonl.c, record.c and t5_json_check: one pass, no
 * recursion, no tree. It finds the members of the outermost object and says at which byte a text
 * stops being JSON. Not part of the library's face: readers use jsonl.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_JSON_H
#define T5_IO_JSON_H

#include <stdint.h>

#include "io/jsonl.h"

#define T5_JSON_DEPTH 64

struct t5_json_key { /* a key of an object that is still open */
    uint32_t at, n;  /* inside the quotes */
    int escaped;
};

/* Scratch that one scan leaves for the next. Zero-initialised; t5_json_scan_free. */
struct t5_json_scan {
    struct t5_json_key *keys; /* all open objects, innermost last */
    size_t n_keys, capacity_keys;
    struct t5_field *fields; /* members of the outermost object */
    size_t n_fields, capacity_fields;
    size_t begin, end; /* where the value lies in the text */
    size_t bad;        /* byte where the scan failed */
};

/* Scans text: one value and white space around it. want_record: the value must be an object, and
 * its members are kept in fields. On failure err says what is wrong without a place; scan->bad is
 * the place. */
int t5_json_scan(struct t5_json_scan *scan, const char *text, size_t n, int want_record,
                 struct t5_err *err) T5_MUST_CHECK;
void t5_json_scan_free(struct t5_json_scan *scan);

/* Takes one character from the inside of a checked JSON string: *p moves on, out gets its UTF-8
 * bytes. Returns how many. */
int t5_json_take(unsigned char out[4], const char **p, const char *end);
/* What a file that holds no records probably is, by its first bytes, or NULL. */
const char *t5_json_looks_like(const char *text, size_t n);
/* "an array": a type with its article, for messages. */
const char *t5_json_type_name(enum t5_json_type type);

#endif
