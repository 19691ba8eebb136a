/* tokenize.h - what t5-tokenize does with a stream of records: encode, decode, count or pack, on
 * any number of threads, in order. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TOKENIZE_H
#define T5_TEXT_TOKENIZE_H

#include "io/jsonl.h"
#include "text/tokenizer.h"

enum t5_tokenize_mode {
    T5_TOKENIZE_JSONL, /* each record with input_ids, and labels where it has a target */
    T5_TOKENIZE_PACK,  /* one packed token file */
    T5_TOKENIZE_STATS, /* one JSON object of token counts */
    T5_TOKENIZE_DECODE /* each record with prediction, from output_ids */
};

struct t5_tokenize_options {
    enum t5_tokenize_mode mode;
    const char *source, *target; /* field names */
    const char *prefix;          /* put before each source; valid UTF-8 */
    int64_t max_source, max_target; /* tokens, </s> included */
    size_t max_line;
    int threads;
    const char *output; /* a file, or NULL: standard output */
    /* Called in order, one call at a time, for each bad record; 1: go on behind it, 0: stop. */
    int (*bad)(void *arg, const struct t5_err *err);
    void *bad_arg;
    void (*progress)(void *arg, int64_t records); /* now and then; NULL: nobody looks */
    void *progress_arg;
};

/* Runs over the inputs (as t5_jsonl_open takes them). *records counts the good ones. */
int t5_tokenize(int64_t *records, const struct t5_tokenize_options *options,
                const struct t5_tokenizer *tokenizer, const char *const *paths, int n_paths,
                struct t5_err *err) T5_MUST_CHECK;

#endif
