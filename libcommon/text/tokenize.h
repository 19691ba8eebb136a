/* tokenize.h - what t5-tokenize does with a stream of records: encode, decode, count or pack, on
 * any number of threads, in order. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TOKENIZE_H
#define T5_TEXT_TOKENIZE_H

#include "io/jsonl.h"
#include "text/template.h"
#include "text/tokenizer.h"

enum t5_tokenize_mode {
    T5_TOKENIZE_JSONL, /* each record with input_ids, and labels where it has a target */
    T5_TOKENIZE_PACK,  /* one packed token file */
    T5_TOKENIZE_STATS, /* one JSON object of token counts */
    T5_TOKENIZE_DECODE /* each record with prediction, from output_ids */
};

enum t5_tokenize_long { /* a text of more tokens than its limit */
                        T5_LONG_TRUNCATE,
                        T5_LONG_DROP, /* its record is left out, and counted */
                        T5_LONG_ERROR /* its record is bad */
};

struct t5_tokenize_options {
    enum t5_tokenize_mode mode;
    enum t5_input_format format;
    const char *source, *target;       /* field names */
    const char *prefix;                /* put before each source; valid UTF-8 */
    const struct t5_template *pattern; /* NULL, or what makes the source text of fields, in place
                                          of source and prefix; its tail is never cut away */
    int64_t max_source, max_target;    /* tokens, </s> included */
    enum t5_tokenize_long on_long;     /* not with STATS and DECODE: they cut nothing */
    size_t max_line;
    int threads;
    const char *output;     /* a file, or NULL: standard output */
    const char *report_unk; /* a file for the characters that become <unk>, or NULL; not with DECODE
                               and a tokenizer of T5_SEGMENT_LIBRARY */
    /* Called in order, one call at a time, for each bad record; 1: go on behind it, 0: stop. */
    int (*bad)(void *arg, const struct t5_err *err);
    void *bad_arg;
    void (*progress)(void *arg, int64_t records); /* now and then; NULL: nobody looks */
    void *progress_arg;
};

struct t5_tokenize_counts {
    int64_t records; /* good ones */
    int64_t dropped; /* by T5_LONG_DROP, besides */
    int64_t unknown; /* good ones with a character that became <unk>; with report_unk only */
};

/* Runs over the inputs (as t5_jsonl_open takes them). */
int t5_tokenize(struct t5_tokenize_counts *counts, const struct t5_tokenize_options *options,
                const struct t5_tokenizer *tokenizer, const char *const *paths, int n_paths,
                struct t5_err *err) T5_MUST_CHECK;

#endif
