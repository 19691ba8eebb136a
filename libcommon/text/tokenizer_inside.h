/* tokenizer_inside.h - what tokenizer.c and decode.c share. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TOKENIZER_INSIDE_H
#define T5_TEXT_TOKENIZER_INSIDE_H

#include "text/normalize.h"
#include "text/segment.h"
#include "text/tokenizer.h"

#define T5_SENTINELS 100

struct t5_tokenizer {
    struct t5_spiece model;
    struct t5_normalizer normalizer;
    struct t5_segmenter segmenter;
    const struct t5_segment_library *library; /* NULL: ours segments */
    struct t5_spm *spm;                       /* its handle */
    int special;
    int32_t size;                   /* pieces and sentinels */
    int32_t sentinel[T5_SENTINELS]; /* id of <extra_id_N> */
};

/* Bytes of the "<extra_id_N>" that text starts with, N from 0 to 99 without leading zeros, or 0. */
size_t t5_sentinel_number(const char *text, size_t n, int32_t *number);

#endif
