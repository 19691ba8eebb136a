/* tokenize_stats.c - how many tokens texts have: exact counts by length, so that memory follows the
 * longest text and not the number of records; percentiles as numpy interpolates them. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "text/tokenize_inside.h"

static int count(struct t5_counts *c, int64_t n, struct t5_err *err)
{
    if ((size_t)n >= c->n_of) {
        size_t more = c->n_of ? c->n_of : 1024;
        while (more <= (size_t)n)
            more *= 2;
        int64_t *of = realloc(c->of, more * sizeof *of);
        if (!of)
            return t5_fail_memory(err, more * sizeof *of, "counts");
        memset(of + c->n_of, 0, (more - c->n_of) * sizeof *of);
        c->of = of;
        c->n_of = more;
    }
    c->of[n]++;
    return 0;
}

int t5_stats_add(struct t5_stats *stats, const char *bytes, size_t n, struct t5_err *err)
{
    int64_t pair[2];
    for (size_t at = 0; at < n; at += sizeof pair) {
        memcpy(pair, bytes + at, sizeof pair);
        if (count(&stats->source, pair[0], err) ||
            (pair[1] >= 0 && count(&stats->target, pair[1], err)))
            return -1;
    }
    return 0;
}

/* The rank-th shortest, from 0. */
static int64_t at_rank(const struct t5_counts *c, int64_t rank)
{
    size_t n = 0;
    for (int64_t below = 0; n < c->n_of; n++)
        if ((below += c->of[n]) > rank)
            break;
    return (int64_t)n;
}

/* numpy.percentile's default: linear between the neighbours of rank p/100 (N - 1). */
static double percentile(const struct t5_counts *c, int64_t total, double p)
{
    double rank = p / 100 * (double)(total - 1);
    int64_t low = (int64_t)rank;
    double a = (double)at_rank(c, low), b = (double)at_rank(c, low + 1 < total ? low + 1 : low);
    double t = rank - (double)low;
    return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t); /* numpy's two forms of one line */
}

static int print_counts(struct t5_buf *out, const struct t5_counts *c, const char *name,
                        int64_t max, struct t5_err *err)
{
    static const int percents[] = {50, 85, 90, 95, 99};
    int64_t total = 0, tokens = 0, longest = 0, cut = 0;
    for (size_t n = 0; n < c->n_of; n++) {
        total += c->of[n];
        tokens += c->of[n] * (int64_t)n;
        longest = c->of[n] ? (int64_t)n : longest;
        cut += (int64_t)n > max ? c->of[n] : 0;
    }
    if (t5_buf_append(out, "{\"field\":", 9, err) || t5_json_quote(out, name, strlen(name), err) ||
        t5_buf_printf(out, err, ",\"count\":%lld,\"mean\":", (long long)total))
        return -1;
    if (total == 0)
        return t5_buf_printf(out, err,
                             "null,\"p50\":null,\"p85\":null,\"p90\":null,\"p95\":null,"
                             "\"p99\":null,\"max\":null,\"limit\":%lld,\"truncated\":null}",
                             (long long)max);
    if (t5_buf_printf(out, err, "%.17g", (double)tokens / (double)total))
        return -1;
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++)
        if (t5_buf_printf(out, err, ",\"p%d\":%.17g", percents[i],
                          percentile(c, total, percents[i])))
            return -1;
    return t5_buf_printf(out, err, ",\"max\":%lld,\"limit\":%lld,\"truncated\":%.17g}",
                         (long long)longest, (long long)max, (double)cut / (double)total);
}

int t5_stats_print(struct t5_buf *out, const struct t5_stats *stats,
                   const struct t5_tokenize_options *options, struct t5_err *err)
{
    if (t5_buf_append(out, "{\"source\":", 10, err) ||
        print_counts(out, &stats->source,
                     options->pattern ? options->pattern->given : options->source,
                     options->max_source, err) ||
        t5_buf_append(out, ",\"target\":", 10, err) ||
        print_counts(out, &stats->target, options->target, options->max_target, err))
        return -1;
    return t5_buf_append(out, "}\n", 2, err);
}

void t5_stats_free(struct t5_stats *stats)
{
    free(stats->source.of);
    free(stats->target.of);
    *stats = (struct t5_stats){0};
}
