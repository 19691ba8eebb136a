/* segment.h - one normalised word to ids: the best path through the pieces. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_SEGMENT_H
#define T5_TEXT_SEGMENT_H

#include "base/buf.h"
#include "text/trie.h"

struct t5_segmenter { /* read-only */
    struct t5_trie trie;           /* owned */
    const struct t5_piece *pieces; /* borrowed */
    double unknown;                /* score of a character that no piece starts with */
    int special;                   /* control pieces take part, as they do in the fast tokenizer */
};

int t5_segmenter_init(struct t5_segmenter *out, const struct t5_spiece *model, int special,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_segmenter_free(struct t5_segmenter *segmenter);

/* A character of the text behind an id T5_UNK; neighbours share one. */
#define T5_NO_CHARACTER UINT32_MAX /* <unk> itself, written in the text */
struct t5_unknown {
    uint32_t character;
    int32_t ends; /* 1: the last one of its id */
};

/* A thread's arrays; zero-initialised. */
struct t5_lattice {
    double *score;       /* ring of the last positions */
    struct t5_buf ends;  /* int32_t a byte: the piece that ends there on the best path, or -1 */
    struct t5_buf *unknown; /* struct t5_unknown: where they are appended; borrowed, may be NULL */
};
void t5_lattice_free(struct t5_lattice *lattice);
/* Appends the ids (int32_t) of word, which no piece crosses. Time is linear in n. */
int t5_segment(struct t5_buf *out, const struct t5_segmenter *segmenter, struct t5_lattice *lattice,
               const char *word, size_t n, struct t5_err *err) T5_MUST_CHECK;

#endif
