/* jsonl.h - records: JSON objects, one a line, from files, pipes or standard input; where asked
 * for, also those of JSON arrays and CSV.
 *
 * The scanner is strict (RFC 8259: valid UTF-8, no duplicate keys, no NaN, depth at most 64, one
 * object a line; CRLF, blank lines and a byte-order mark at byte 0 are accepted) and gives the same
 * verdict for a file, a pipe and one-byte reads. Memory is bounded by the longest line
 * (max_line). Errors say "FILE:LINE:COLUMN: ..."; a bad record has err->skippable set and
 * t5_jsonl_next may be called again for the one after it; reader errors (I/O) are final. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_JSONL_H
#define T5_IO_JSONL_H

#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

#define T5_MAX_LINE ((size_t)16 << 20) /* bytes; the default of --max-line */

enum t5_json_type {
    T5_JSON_NULL,
    T5_JSON_FALSE,
    T5_JSON_TRUE,
    T5_JSON_NUMBER,
    T5_JSON_STRING,
    T5_JSON_ARRAY,
    T5_JSON_OBJECT,
};

/* One top-level member. Spans point into the record's text: borrowed until the next record. */
struct t5_field {
    const char *key; /* as written, without quotes, escapes not undone */
    size_t key_n;
    enum t5_json_type type;
    const char *value; /* the value's text, quotes or brackets included */
    size_t value_n;
};

struct t5_record {
    const char *text; /* from '{' to '}', both included; borrowed until the next record */
    size_t n;
    const char *file; /* "<stdin>" or the path, escaped for messages */
    int64_t line;     /* from 1 */
    size_t column;    /* of '{', bytes, from 1; 0: the text is not the file's own (CSV) */
    int64_t number;   /* from 1 in an array or in CSV; 0: a line */
    struct t5_field *fields;
    int n_fields;
    struct t5_json_scan *scan; /* the scanner's scratch, kept for the next record */
};

struct t5_jsonl; /* a reader over several files, in order */

/* Reads the operands one after the other; "-" or no operands: standard input. The array is
 * borrowed. Opening is lazy: a missing file is reported (T5_ENVIRONMENT) when its turn comes. */
int t5_jsonl_open(struct t5_jsonl **out, const char *const *paths, int n_paths, size_t max_line,
                  struct t5_err *err) T5_MUST_CHECK;
void t5_jsonl_close(struct t5_jsonl *reader);

enum t5_input_format {
    T5_INPUT_JSONL, /* one object a line; the default */
    T5_INPUT_JSON,  /* an array of objects, or objects one after the other, over any lines */
    T5_INPUT_CSV,   /* RFC 4180: a row of names, then objects of strings */
    T5_INPUT_AUTO,  /* of each file: CSV by its name, .csv; an array by its first byte; lines */
};
/* Before the first record. An array is cut into records as it comes: memory follows the longest
 * record (max_line), not the file. Places in arrays are those in the file, "FILE:LINE:COLUMN:
 * record N: ..."; what is wrong with a record of CSV as such is at the line where it begins. */
void t5_jsonl_format(struct t5_jsonl *reader, enum t5_input_format format);
/* 1: a record; 0: end of the last file; -1: error. */
int t5_jsonl_next(struct t5_jsonl *reader, struct t5_record *out, struct t5_err *err) T5_MUST_CHECK;
/* A line as it came, without its newline (or a record of an array, as it came, or one made of CSV):
 * what a program with worker threads reads in one thread and parses in others. Borrowed until the
 * next line. 1: a line (blank ones too); 0: end; -1: error (a line longer than max_line is
 * skippable). */
struct t5_line {
    const char *text;
    size_t n;
    const char *file; /* as in t5_record; lives as long as the reader */
    int64_t line;
    size_t column;  /* of text[0]; 0: the text is not the file's own */
    int64_t number; /* as in t5_record */
};
int t5_jsonl_line(struct t5_jsonl *reader, struct t5_line *out, struct t5_err *err) T5_MUST_CHECK;
/* The line as a record: 1, 0 for a blank line, -1 with a skippable error at its place. */
int t5_record_from_line(struct t5_record *out, const struct t5_line *line,
                        struct t5_err *err) T5_MUST_CHECK;
/* Whether the next call can answer without waiting for input: a filter flushes its output before it
 * waits. */
int t5_jsonl_ready(struct t5_jsonl *reader);
/* Byte i (below 64) of the first file without consuming it (-1 behind its end): how t5-train and
 * t5-generate tell records from a packed token file. 0 or -1 on error. */
int t5_jsonl_peek(struct t5_jsonl *reader, size_t i, int *byte,
                     struct t5_err *err) T5_MUST_CHECK;

/* Gives up the open file, when a peek has shown that it holds no records: the caller owns the
 * descriptor; bytes[0..n) were read from it and are borrowed until t5_jsonl_close, like its name.
 * -1: there is no file. */
int t5_jsonl_release(struct t5_jsonl *reader, const char **bytes, size_t *n, const char **name);

/* Checks one line (no newline) as a record without a reader; spans point into text. *out is zero
 * before the first call, owns its fields and is reused on the next; free with t5_record_free.
 * Errors name the column. */
int t5_record_parse(struct t5_record *out, const char *text, size_t n,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_record_free(struct t5_record *record);

/* The member of that name (compared after undoing escapes), or NULL. */
const struct t5_field *t5_record_find(const struct t5_record *record, const char *name);
/* The same, but a missing member is an error at the record's place: `no "labels"`. */
const struct t5_field *t5_record_need(const struct t5_record *record, const char *name,
                                      struct t5_err *err);
/* Appends the string with escapes undone (it may hold NUL bytes); another type is an error. */
int t5_field_string(struct t5_buf *out, const struct t5_record *record,
                    const struct t5_field *field, struct t5_err *err) T5_MUST_CHECK;
/* Walks an array of strings: *at is NULL before the first call. 1: *item is the next string, for
 * t5_field_string, borrowed like the record; 0: end; -1: an item that is no string. */
int t5_field_next_string(struct t5_field *item, const char **at, const struct t5_record *record,
                         const struct t5_field *array, struct t5_err *err) T5_MUST_CHECK;
/* Reads an array of whole numbers in [0, limit) into out->data as int32_t (out->n in bytes, set
 * not appended). Floats, negative numbers and nested values are errors naming the position. */
int t5_field_ids(struct t5_buf *out, const struct t5_record *record, const struct t5_field *field,
                 int64_t limit, struct t5_err *err) T5_MUST_CHECK;
/* Fills err with "FILE:LINE:COLUMN: text", skippable, where column is that of `at` inside the
 * record (NULL: the record's own). Returns -1. */
int t5_record_fail(const struct t5_record *record, const char *at, struct t5_err *err,
                   const char *fmt, ...) T5_PRINTF(4, 5);

/* Appends to out the record with `members` (`"a":1,"b":[2]`, no braces; may be empty) spliced in
 * before the closing brace, and a newline. Every byte of the record stays as it came, but for line
 * breaks in a record of an array, which go with the white space behind them. A name among
 * members that the record already has must be handled by the caller: see t5_record_without. */
int t5_record_splice(struct t5_buf *out, const struct t5_record *record, const char *members,
                     size_t n, struct t5_err *err) T5_MUST_CHECK;
/* The same, leaving out the members called drop[0..n_drop): how a program replaces a field it
 * makes. Remaining members keep their bytes and order. */
int t5_record_splice_replacing(struct t5_buf *out, const struct t5_record *record,
                               const char *const *drop, int n_drop, const char *members, size_t n,
                               struct t5_err *err) T5_MUST_CHECK;
/* Appends text as a JSON string with quotes: UTF-8 as it is, controls and quotes escaped; bytes
 * that are not UTF-8 become U+FFFD. */
int t5_json_quote(struct t5_buf *out, const char *text, size_t n, struct t5_err *err) T5_MUST_CHECK;

/* Strict check of a whole JSON document (config, index, safetensors header): UTF-8, depth at most
 * 64, no duplicate keys at any level, nothing after the value. err: "byte N: ...". A document that
 * passes is then read with jansson. */
int t5_json_check(const char *text, size_t n, struct t5_err *err) T5_MUST_CHECK;

#endif
