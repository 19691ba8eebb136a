/* rouge_worst.h - the lines of lowest score among many, in memory for that many only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_WORST_H
#define T5_TEXT_ROUGE_WORST_H

#include "base/buf.h"

/* The caller's struct, zero but for limit; t5_rouge_worst_free. */
struct t5_rouge_worst {
    size_t limit, n;
    struct t5_rouge_worst_line {
        double score;
        struct t5_buf text; /* owned */
    } *lines; /* (limit), the n of them that are filled in order, worst first */
};

/* Keeps a copy of text if its score is among the lowest; of equals, those that came first. */
int t5_rouge_worst_add(struct t5_rouge_worst *worst, double score, const struct t5_buf *text,
                       struct t5_err *err) T5_MUST_CHECK;
void t5_rouge_worst_free(struct t5_rouge_worst *worst);

#endif
