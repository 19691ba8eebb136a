/* rouge_measures.c - lists of measures, and scores of many texts together. Does not score: see
 * rouge.c. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/rouge.h"

/* The measure written in name[0..n), or -2. */
static int read_measure(const char *name, size_t n)
{
    int value = 0;
    if (n == 1 && *name == 'L')
        return T5_ROUGE_L;
    if (n == 4 && memcmp(name, "Lsum", 4) == 0)
        return T5_ROUGE_LSUM;
    if (n == 0 || *name == '0')
        return -2;
    for (size_t i = 0; i < n; i++) {
        if (name[i] < '0' || name[i] > '9' || value > T5_ROUGE_MAX_N)
            return -2;
        value = 10 * value + name[i] - '0';
    }
    return value <= T5_ROUGE_MAX_N ? value : -2;
}

int t5_rouge_measures_parse(struct t5_rouge_measures *out, const char *list, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    out->n = 0;
    for (const char *p = list;; p++) {
        size_t n = strcspn(p, ",");
        int measure = read_measure(p, n);
        t5_escape(shown, p, n);
        if (measure == -2)
            return t5_fail(err, "expected numbers from 1 to %d, L and Lsum, found \"%s\"",
                           T5_ROUGE_MAX_N, shown);
        if (t5_rouge_measures_find(out, measure) >= 0)
            return t5_fail(err, "%s twice", shown);
        if (out->n == T5_ROUGE_MOST)
            return t5_fail(err, "more than %d measures", T5_ROUGE_MOST);
        out->of[out->n++] = measure;
        p += n;
        if (!*p)
            return 0;
    }
}

int t5_rouge_measures_find(const struct t5_rouge_measures *measures, int measure)
{
    for (int k = 0; k < measures->n; k++)
        if (measures->of[k] == measure)
            return k;
    return -1;
}

char *t5_rouge_name(char out[T5_ROUGE_NAME], int measure)
{
    if (measure > 0)
        snprintf(out, T5_ROUGE_NAME, "rouge%d", measure);
    else
        strcpy(out, measure == T5_ROUGE_L ? "rougeL" : "rougeLsum");
    return out;
}

void t5_rouge_best(struct t5_rouge_scores *best, const struct t5_rouge_scores *scores)
{
    for (int k = 0; k < T5_ROUGE_MOST; k++)
        if (scores->of[k].fmeasure > best->of[k].fmeasure)
            best->of[k] = scores->of[k];
}

/* Neumaier's summation: *lost collects what rounding *sum dropped. */
static void add(double *sum, double *lost, double x)
{
    double next = *sum + x;
    *lost += fabs(*sum) >= fabs(x) ? (*sum - next) + x : (x - next) + *sum;
    *sum = next;
}

void t5_rouge_total_add(struct t5_rouge_total *total, const struct t5_rouge_scores *scores)
{
    total->count++;
    for (int k = 0; k < T5_ROUGE_MOST; k++) {
        struct t5_prf *sum = &total->sum.of[k], *lost = &total->lost.of[k];
        add(&sum->precision, &lost->precision, scores->of[k].precision);
        add(&sum->recall, &lost->recall, scores->of[k].recall);
        add(&sum->fmeasure, &lost->fmeasure, scores->of[k].fmeasure);
    }
}

struct t5_rouge_scores t5_rouge_total_mean(const struct t5_rouge_total *total)
{
    struct t5_rouge_scores mean;
    double n = (double)total->count;
    for (int k = 0; k < T5_ROUGE_MOST; k++) {
        const struct t5_prf *sum = &total->sum.of[k], *lost = &total->lost.of[k];
        mean.of[k].precision = (sum->precision + lost->precision) / n;
        mean.of[k].recall = (sum->recall + lost->recall) / n;
        mean.of[k].fmeasure = (sum->fmeasure + lost->fmeasure) / n;
    }
    return mean;
}
