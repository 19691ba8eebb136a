/* rouge_print.h - scores as JSON and as a small table for people. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_PRINT_H
#define T5_TEXT_ROUGE_PRINT_H

#include "text/rouge_stats.h"

/* What is printed of all records together; all pointers are borrowed. */
struct t5_rouge_result {
    const struct t5_rouge_measures *measures;
    int64_t count;
    const struct t5_rouge_scores *mean;           /* NULL: of nothing */
    const struct t5_rouge_interval *interval;     /* NULL: none */
    const struct t5_rouge_comparison *comparison; /* NULL: none */
    int64_t resamples, seed;                      /* resamples 0: nothing was drawn */
    const char *signature; /* for JSON: what two results must share to be comparable */
    const char *how;       /* for the table: "stemmed" */
};

/* Each appends to out. `"rouge1":{"precision":0.5,...},...` without the outer braces: */
int t5_rouge_print_scores(struct t5_buf *out, const struct t5_rouge_measures *measures,
                          const struct t5_rouge_scores *scores, struct t5_err *err) T5_MUST_CHECK;
/* One line. */
int t5_rouge_print_json(struct t5_buf *out, const struct t5_rouge_result *result,
                        struct t5_err *err) T5_MUST_CHECK;
int t5_rouge_print_table(struct t5_buf *out, const struct t5_rouge_result *result,
                         struct t5_err *err) T5_MUST_CHECK;

#endif
