/* rouge_stats.c - resampling of ROUGE scores: see rouge_stats.h. Does not score and does not
 * print. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { NUMBERS = T5_ROUGE_KINDS * 3 }; /* of one record, seen as a row */

/* Streams of the seed. */
enum { RECORDS = 1 };

_Static_assert(sizeof(struct t5_rouge_scores) == NUMBERS * sizeof(double), "scores are a row");

int t5_rouge_sample_add(struct t5_rouge_sample *sample, const struct t5_rouge_scores *scores,
                        struct t5_err *err)
{
    return t5_buf_append(&sample->rows, scores, sizeof *scores, err);
}

size_t t5_rouge_sample_count(const struct t5_rouge_sample *sample)
{
    return sample->rows.n / sizeof(struct t5_rouge_scores);
}

void t5_rouge_sample_free(struct t5_rouge_sample *sample) { t5_buf_free(&sample->rows); }

static const double *rows_of(const struct t5_rouge_sample *sample)
{
    return (const double *)(const void *)sample->rows.data; /* (records, NUMBERS) */
}

/* Four draws of 32 bits: number 4 x block and the three after it of one resample. */
static struct t5_philox draw(const uint32_t key[2], uint64_t block, uint64_t resample)
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)resample,
                                 (uint32_t)(resample >> 32)};
    return t5_philox(counter, key);
}

/* The mean of n rows drawn with replacement. A row's odds are even to n / 2^32. */
static void resampled_mean(double mean[NUMBERS], const double *rows, size_t n,
                           const uint32_t key[2], uint64_t resample)
{
    struct t5_philox bits = {{0}};
    for (int c = 0; c < NUMBERS; c++)
        mean[c] = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            bits = draw(key, i / 4, resample);
        const double *row = rows + (((uint64_t)bits.v[i % 4] * n) >> 32) * NUMBERS;
        for (int c = 0; c < NUMBERS; c++)
            mean[c] += row[c];
    }
    for (int c = 0; c < NUMBERS; c++)
        mean[c] /= (double)n;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t below = (size_t)at, above = below + (below + 1 < n);
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

int t5_rouge_bootstrap(struct t5_rouge_interval *out, const struct t5_rouge_sample *sample,
                       int64_t resamples, uint64_t seed, struct t5_err *err)
{
    size_t n = t5_rouge_sample_count(sample), b = (size_t)resamples;
    double mean[NUMBERS], low[NUMBERS], high[NUMBERS];
    double *means = t5_alloc(b * NUMBERS, sizeof *means, "resamples", err); /* (NUMBERS, b) */
    uint32_t key[2];
    if (!means)
        return -1;
    t5_rng_key(key, seed, T5_RNG_SAMPLE, RECORDS);
    for (size_t r = 0; r < b; r++) {
        resampled_mean(mean, rows_of(sample), n, key, r);
        for (size_t c = 0; c < NUMBERS; c++)
            means[c * b + r] = mean[c];
    }
    for (size_t c = 0; c < NUMBERS; c++) {
        qsort(means + c * b, b, sizeof *means, by_size);
        low[c] = percentile(means + c * b, b, (1 - T5_ROUGE_LEVEL) / 2);
        high[c] = percentile(means + c * b, b, (1 + T5_ROUGE_LEVEL) / 2);
    }
    memcpy(&out->low, low, sizeof low);
    memcpy(&out->high, high, sizeof high);
    free(means);
    return 0;
}
