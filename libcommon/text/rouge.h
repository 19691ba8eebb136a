/* rouge.h - ROUGE-N, -L and -Lsum of a prediction against one reference (Lin, "ROUGE: a package for
 * automatic evaluation of summaries", 2004), equal to the Python package rouge_score 0.1.2.
 *
 * What a token and a line are: see rouge_text.h. With stemming, tokens of more than 3 letters a-z
 * and digits go through the Porter stemmer (porter.h). Everything counted is a whole number, so
 * scores are exact quotients.
 *
 * Memory is linear in the longer text (plus a word cache of some 32 MiB at the most). Time is
 * linear but for the longest common subsequences, which take (reference tokens x prediction tokens)
 * / 64 word operations; texts whose product is above T5_ROUGE_MAX_CELLS are refused. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_ROUGE_H
#define T5_TEXT_ROUGE_H

#include <stdint.h>

#include "text/rouge_text.h"

/* A measure is the N of ROUGE-N or one of these. */
enum { T5_ROUGE_L = 0, T5_ROUGE_LSUM = -1 };
#define T5_ROUGE_MAX_N 99

#define T5_ROUGE_MOST 16 /* measures at once */
struct t5_rouge_measures {
    int n;
    int of[T5_ROUGE_MOST]; /* no two alike */
};
/* Reads "1,2,L,Lsum". */
int t5_rouge_measures_parse(struct t5_rouge_measures *out, const char *list,
                            struct t5_err *err) T5_MUST_CHECK;
/* Where the measure stands in the list, or -1. */
int t5_rouge_measures_find(const struct t5_rouge_measures *measures, int measure);
/* "rouge1", "rougeL", "rougeLsum". Returns out. */
#define T5_ROUGE_NAME 16
char *t5_rouge_name(char out[T5_ROUGE_NAME], int measure);

/* 131,072 tokens on both sides, or 1,048,576 against 16,384: seconds at the worst. */
#define T5_ROUGE_MAX_CELLS ((uint64_t)1 << 34)

struct t5_prf {
    double precision, recall, fmeasure; /* 0 to 1; 0 where there is nothing to divide by */
};

struct t5_rouge_scores {
    struct t5_prf of[T5_ROUGE_MOST]; /* as the measures are listed; 0 behind the last */
};

struct t5_rouge_options {
    struct t5_rouge_measures measures;
    struct t5_rouge_cut cut;
    int stem;
};

struct t5_rouge; /* a scorer: the word cache and scratch. One thread at a time. */

int t5_rouge_open(struct t5_rouge **out, const struct t5_rouge_options *options,
                  struct t5_err *err) T5_MUST_CHECK;
void t5_rouge_close(struct t5_rouge *rouge);

/* Texts are UTF-8, counted (NUL separates tokens like any other sign). Fails only on texts that are
 * too long (skippable) or without memory. */
int t5_rouge_score(struct t5_rouge_scores *out, struct t5_rouge *rouge, const char *reference,
                   size_t reference_n, const char *prediction, size_t prediction_n,
                   struct t5_err *err) T5_MUST_CHECK;

/* Whether one of the last two texts has letters or digits that T5_ROUGE_ASCII took for spaces. */
int t5_rouge_discards(const struct t5_rouge *rouge);

/* Several references: *best, of those before, takes over each measure in which scores has the
 * higher F, as rouge_score's score_multi. */
void t5_rouge_best(struct t5_rouge_scores *best, const struct t5_rouge_scores *scores);

/* Running means. The caller's struct, zero-initialised; owns nothing. Sums are compensated, so that
 * a mean over millions of records is as good as one over ten. */
struct t5_rouge_total {
    int64_t count;
    struct t5_rouge_scores sum, lost;
};
void t5_rouge_total_add(struct t5_rouge_total *total, const struct t5_rouge_scores *scores);
/* count must not be 0. */
struct t5_rouge_scores t5_rouge_total_mean(const struct t5_rouge_total *total);

#endif
