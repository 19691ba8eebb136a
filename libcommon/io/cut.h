/* cut.h - JSON arrays and CSV cut into records as they stream by: behind jsonl.c, which has the
 * files and the lines. Each looks at every byte once and holds no more than one record. Not part of
 * the library's face: readers use jsonl.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_CUT_H
#define T5_IO_CUT_H

#include "io/input.h"
#include "io/jsonl.h"

/* An array of records, or records one after the other, over any number of lines. Zero at the start
 * of a file. */
struct t5_cut_array {
    enum {
        T5_ARRAY_START,
        T5_ARRAY_FIRST,
        T5_ARRAY_ITEM,
        T5_ARRAY_INSIDE,
        T5_ARRAY_BEHIND,
        T5_ARRAY_DONE
    } state;
    int list;             /* in brackets, with commas */
    size_t depth;         /* of the record under way: brackets that are open, and whether */
    int string, escape;   /* a string is, and the next byte is escaped */
    int whole;            /* it ends at in->seen */
    int too_long;         /* its bytes are thrown away */
    int64_t record, line; /* its number, from 1, and place */
    size_t column;
};

/* Looks at what is in the buffer. 1: a record is whole, [begin, seen); 0: not yet; -1. May be
 * called again and says the same. */
int t5_cut_array_look(struct t5_cut_array *array, struct t5_input *in,
                      struct t5_err *err) T5_MUST_CHECK;
/* 1: a record as it stands, borrowed until the next call; 0: end of the file; -1. A record that is
 * too long is skippable, a broken array is not. */
int t5_cut_array_next(struct t5_line *out, struct t5_cut_array *array, struct t5_input *in,
                      size_t max_line, struct t5_err *err) T5_MUST_CHECK;

/* RFC 4180, the first row names the fields. A row becomes an object of strings. */
#define T5_CSV_HEADER ((size_t)64 << 10) /* bytes of that row */
#define T5_CSV_COLUMNS 1024
struct t5_cut_csv {                 /* zero before the first file; t5_cut_csv_free */
    struct t5_buf keys;             /* `"name":` of all columns */
    size_t key_end[T5_CSV_COLUMNS]; /* in keys */
    size_t n;                       /* columns; 0: no header has been read */
    enum { T5_CSV_FIELD, T5_CSV_PLAIN, T5_CSV_QUOTED, T5_CSV_QUOTE } state; /* at in->seen */
    int whole; /* a row ends at in->seen */
    int64_t record;
    struct t5_buf field, row; /* unescaped; the object */
};
void t5_cut_csv_start(struct t5_cut_csv *csv); /* a new file */
void t5_cut_csv_free(struct t5_cut_csv *csv);
/* 1: a row is whole, [begin, seen); 0: not yet. */
int t5_cut_csv_look(struct t5_cut_csv *csv, struct t5_input *in);
/* As t5_cut_array_next. A bad row is skippable, a bad header is not. */
int t5_cut_csv_next(struct t5_line *out, struct t5_cut_csv *csv, struct t5_input *in,
                    size_t max_line, struct t5_err *err) T5_MUST_CHECK;

#endif
