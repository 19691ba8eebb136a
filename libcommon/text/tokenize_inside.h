/* tokenize_inside.h - what the files behind tokenize.h share: the worker of one record, and the
 * places where batches go. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TOKENIZE_INSIDE_H
#define T5_TEXT_TOKENIZE_INSIDE_H

#include "io/atomic.h"
#include "text/tokenize.h"

/* Counts of unknown characters: see tokenize_unk.c. Zero-initialised. */
#define T5_UNK_PAGES 0x1100 /* of 256 characters */
struct t5_unk {
    struct t5_unk_count *pages[T5_UNK_PAGES]; /* owned; NULL: none of them */
    int64_t records;                          /* that have any */
};
/* Counts those of one record. */
int t5_unk_add(struct t5_unk *unk, const struct t5_unknown *found, size_t n,
               struct t5_err *err) T5_MUST_CHECK;
int t5_unk_merge(struct t5_unk *into, const struct t5_unk *from, struct t5_err *err) T5_MUST_CHECK;
/* JSON lines, the most frequent first. */
int t5_unk_print(struct t5_buf *out, const struct t5_unk *unk, struct t5_err *err) T5_MUST_CHECK;
void t5_unk_free(struct t5_unk *unk);

struct t5_tokenize_worker { /* a thread's own */
    const struct t5_tokenize_options *options;
    const struct t5_tokenizer *tokenizer;
    struct t5_encoder *encoder;
    struct t5_record record;
    struct t5_buf text, input, labels, members;
    struct t5_buf tail; /* ids of the pattern's tail, without </s>: kept where a source is cut */
    struct t5_buf found, scratch; /* struct t5_unknown of this record; ids */
    struct t5_unk unk;
};

/* Appends to out what one line gives: for JSONL and decoding a line; for packing and counting, in
 * host order, int64_t n_input, int64_t n_labels (-1: none), and for packing the ids (int32_t) of
 * both. 1: a record; 0: a blank line; T5_DROPPED: a record too long; -1. But for 1, out is as it
 * was. */
#define T5_DROPPED 2
int t5_tokenize_line(struct t5_buf *out, struct t5_tokenize_worker *worker,
                     const struct t5_line *line, struct t5_err *err) T5_MUST_CHECK;

/* Counts of tokens: see tokenize_stats.c. Zero-initialised. */
struct t5_counts {
    int64_t *of; /* of[n]: texts of n tokens; owned */
    size_t n_of;
};
struct t5_stats {
    struct t5_counts source, target;
};
int t5_stats_add(struct t5_stats *stats, const char *bytes, size_t n,
                 struct t5_err *err) T5_MUST_CHECK;
int t5_stats_print(struct t5_buf *out, const struct t5_stats *stats,
                   const struct t5_tokenize_options *options, struct t5_err *err) T5_MUST_CHECK;
void t5_stats_free(struct t5_stats *stats);

/* A packed token file in the making: see tokenize_pack.c. Holds ids in unnamed temporary files. */
struct t5_pack;
int t5_pack_open(struct t5_pack **out, struct t5_err *err) T5_MUST_CHECK;
int t5_pack_add(struct t5_pack *pack, const char *bytes, size_t n,
                struct t5_err *err) T5_MUST_CHECK;
int t5_pack_finish(struct t5_pack *pack, struct t5_atomic *file,
                   const struct t5_tokenize_options *options, const struct t5_tokenizer *tokenizer,
                   struct t5_err *err) T5_MUST_CHECK;
void t5_pack_close(struct t5_pack *pack);

#endif
