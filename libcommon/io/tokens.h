/* tokens.h - what t5-train and t5-generate read: records of token ids, as JSONL (input_ids, labels)
 * or as a packed token file (safetensors: input_ids I32 (N), input_offsets I64 (n+1), labels,
 * label_offsets), told apart by the first bytes, from files or standard input. Every id is checked
 * here, once. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_TOKENS_H
#define T5_IO_TOKENS_H

#include "io/jsonl.h"
#include "io/safetensors.h"

enum t5_labels {
    T5_LABELS_IGNORED,  /* not looked at: n_labels is -1 */
    T5_LABELS_OPTIONAL, /* n_labels is -1 where a record has none */
    T5_LABELS_REQUIRED, /* a record without labels is an error */
};

struct t5_tokens_options {
    int64_t vocab; /* ids lie in [0, vocab) */
    enum t5_labels labels;
    int64_t max_input, max_labels; /* tokens; 0: no limit. Longer ones are errors ... */
    int truncate;                  /* ... unless set: cut, and a final </s> is kept */
    int allow_empty_input;         /* else an empty input_ids is an error; empty labels always are */
    size_t max_line;               /* bytes; T5_MAX_LINE */
    /* Called with each packed file, whose metadata say how its ids came about (token_settings.h),
     * before its first record; -1 refuses it. NULL: nobody looks. shown: its name, escaped. */
    int (*opened)(void *context, const char *shown, const struct t5_safetensors *file,
                  struct t5_err *err);
    void *context;
};

struct t5_token_record { /* borrowed until the next record */
    const int32_t *input;
    int64_t n_input;
    const int32_t *labels;
    int64_t n_labels;               /* -1: none */
    const struct t5_record *record; /* for splicing; NULL from a packed file */
    const char *file;               /* escaped for messages */
    int64_t line;                   /* from 1; for a packed file the record's number from 1 */
    int64_t index;                  /* from 0, over all inputs, counting bad records too */
};

struct t5_tokens_reader;

/* paths as for t5_jsonl_open: borrowed, opened lazily, "-" or none is standard input. */
int t5_tokens_open(struct t5_tokens_reader **out, const char *const *paths, int n_paths,
                   const struct t5_tokens_options *options, struct t5_err *err) T5_MUST_CHECK;
void t5_tokens_close(struct t5_tokens_reader *reader);
/* 1: a record; 0: end; -1: error. After an error with err->skippable the next call goes on behind
 * the bad record; other errors are final. */
int t5_tokens_next(struct t5_tokens_reader *reader, struct t5_token_record *out,
                   struct t5_err *err) T5_MUST_CHECK;
/* Whether the next call can answer without waiting for input. */
int t5_tokens_ready(const struct t5_tokens_reader *reader);
/* "FILE:LINE: text", skippable, for what a program finds wrong with a record later. Returns -1. */
int t5_token_record_fail(const struct t5_token_record *record, struct t5_err *err, const char *fmt,
                         ...) T5_PRINTF(3, 4);

#endif
