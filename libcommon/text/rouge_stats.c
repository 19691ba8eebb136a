/* rouge_stats.c - resampling of ROUGE scores: see rouge_stats.h. Does not score and does not
 * print. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Scores of a record are looked at as a row of numbers, w of them: 3 a measure. */
enum { MOST = T5_ROUGE_MOST * 3 };

/* Streams of the seed. */
enum { RECORDS = 1, SIGNS = 2 };

_Static_assert(sizeof(struct t5_rouge_scores) == MOST * sizeof(double), "scores are a row");

int t5_rouge_sample_add(struct t5_rouge_sample *sample, const struct t5_rouge_scores *scores,
                        struct t5_err *err)
{
    return t5_buf_append(&sample->rows, scores, (size_t)sample->measures * sizeof *scores->of, err);
}

size_t t5_rouge_sample_count(const struct t5_rouge_sample *sample)
{
    return sample->rows.n / ((size_t)sample->measures * sizeof(struct t5_prf));
}

void t5_rouge_sample_free(struct t5_rouge_sample *sample)
{
    t5_buf_free(&sample->rows);
}

static const double *rows_of(const struct t5_rouge_sample *sample)
{
    return (const double *)(const void *)sample->rows.data; /* (records, w) */
}

static size_t width(const struct t5_rouge_sample *sample)
{
    return 3 * (size_t)sample->measures;
}

/* Four draws of 32 bits: number 4 x block and the three after it of one resample. */
static struct t5_philox draw(const uint32_t key[2], uint64_t block, uint64_t resample)
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)resample,
                                 (uint32_t)(resample >> 32)};
    return t5_philox(counter, key);
}

/* The mean of n rows drawn with replacement. A row's odds are even to n / 2^32. */
static void resampled_mean(double mean[MOST], const double *rows, size_t n, size_t w,
                           const uint32_t key[2], uint64_t resample)
{
    struct t5_philox bits = {{0}};
    for (size_t c = 0; c < w; c++)
        mean[c] = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            bits = draw(key, i / 4, resample);
        const double *row = rows + (((uint64_t)bits.v[i % 4] * n) >> 32) * w;
        for (size_t c = 0; c < w; c++)
            mean[c] += row[c];
    }
    for (size_t c = 0; c < w; c++)
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

/* Means of all resamples, each number's in order of size: (w, b). NULL without memory. */
static double *bootstrap(const double *rows, size_t n, size_t w, size_t b, uint64_t seed,
                         struct t5_err *err)
{
    double mean[MOST];
    double *means = t5_alloc(b, w * sizeof *mean, "resamples", err);
    uint32_t key[2];
    if (!means)
        return NULL;
    t5_rng_key(key, seed, T5_RNG_SAMPLE, RECORDS);
    for (size_t r = 0; r < b; r++) {
        resampled_mean(mean, rows, n, w, key, r);
        for (size_t c = 0; c < w; c++)
            means[c * b + r] = mean[c];
    }
    for (size_t c = 0; c < w; c++)
        qsort(means + c * b, b, sizeof *means, by_size);
    return means;
}

static void set_interval(struct t5_rouge_interval *out, const double *means, size_t w, size_t b)
{
    double low[MOST] = {0}, high[MOST] = {0};
    for (size_t c = 0; c < w; c++) {
        low[c] = percentile(means + c * b, b, (1 - T5_ROUGE_LEVEL) / 2);
        high[c] = percentile(means + c * b, b, (1 + T5_ROUGE_LEVEL) / 2);
    }
    memcpy(&out->low, low, sizeof low);
    memcpy(&out->high, high, sizeof high);
}

int t5_rouge_bootstrap(struct t5_rouge_interval *out, const struct t5_rouge_sample *sample,
                       int64_t resamples, uint64_t seed, struct t5_err *err)
{
    size_t b = (size_t)resamples, n = t5_rouge_sample_count(sample), w = width(sample);
    double *means = bootstrap(rows_of(sample), n, w, b, seed, err);
    if (!means)
        return -1;
    set_interval(out, means, w, b);
    free(means);
    return 0;
}

/* What a mean may be off by rounding, so that an equal one counts as equal. */
static void rounding(double slack[MOST], const double *rows, size_t n, size_t w)
{
    for (size_t c = 0; c < w; c++) {
        slack[c] = 0;
        for (size_t i = 0; i < n; i++)
            slack[c] += fabs(rows[i * w + c]);
        slack[c] *= 1e-12 / (double)n;
    }
}

/* Under the null hypothesis the resampled means lie around 0 as they lie around the mean. */
static void centred(double p[MOST], const double *means, const double mean[MOST],
                    const double slack[MOST], size_t w, size_t b)
{
    for (size_t c = 0; c < w; c++) {
        size_t out = 0;
        for (size_t r = 0; r < b; r++)
            out += fabs(means[c * b + r] - mean[c]) >= fabs(mean[c]) - slack[c];
        p[c] = (double)(1 + out) / (double)(1 + b);
    }
}

/* Under the null hypothesis either system could have made either text: any sign is as likely. A
 * record's sign is the same for all its numbers. */
static void randomised(double p[MOST], const double *rows, size_t n, size_t w,
                       const double mean[MOST], const double slack[MOST], size_t b, uint64_t seed)
{
    size_t out[MOST] = {0};
    struct t5_philox bits = {{0}};
    uint32_t key[2];
    t5_rng_key(key, seed, T5_RNG_SAMPLE, SIGNS);
    for (size_t r = 0; r < b; r++) {
        double sum[MOST] = {0};
        for (size_t i = 0; i < n; i++) {
            if (i % 128 == 0)
                bits = draw(key, i / 128, r);
            double sign = bits.v[i / 32 % 4] >> i % 32 & 1 ? 1 : -1;
            for (size_t c = 0; c < w; c++)
                sum[c] += sign * rows[i * w + c];
        }
        for (size_t c = 0; c < w; c++)
            out[c] += fabs(sum[c] / (double)n) >= fabs(mean[c]) - slack[c];
    }
    for (size_t c = 0; c < w; c++)
        p[c] = (double)(1 + out[c]) / (double)(1 + b);
}

/* (n, w), and their means. */
static double *differences(double mean[MOST], const double *a, const double *b, size_t n, size_t w,
                           struct t5_err *err)
{
    double *rows = t5_alloc(n, w * sizeof *rows, "differences", err);
    for (size_t c = 0; c < w; c++)
        mean[c] = 0;
    for (size_t i = 0; rows && i < n * w; i++) {
        rows[i] = a[i] - b[i];
        mean[i % w] += rows[i];
    }
    for (size_t c = 0; c < w; c++)
        mean[c] /= (double)n;
    return rows;
}

int t5_rouge_compare(struct t5_rouge_comparison *out, const struct t5_rouge_sample *a,
                     const struct t5_rouge_sample *b, int64_t resamples, uint64_t seed,
                     struct t5_err *err)
{
    size_t n = t5_rouge_sample_count(a), w = width(a);
    double mean[MOST] = {0}, slack[MOST], p[MOST] = {0}, *means = NULL;
    double *rows = differences(mean, rows_of(a), rows_of(b), n, w, err);
    int rc = -1;
    if (!rows || !(means = bootstrap(rows, n, w, (size_t)resamples, seed, err)))
        goto out;
    memcpy(&out->difference, mean, sizeof mean);
    set_interval(&out->interval, means, w, (size_t)resamples);
    rounding(slack, rows, n, w);
    centred(p, means, mean, slack, w, (size_t)resamples);
    memcpy(&out->p_bootstrap, p, sizeof p);
    randomised(p, rows, n, w, mean, slack, (size_t)resamples, seed);
    memcpy(&out->p_randomisation, p, sizeof p);
    rc = 0;
out:
    free(rows);
    free(means);
    return rc;
}
