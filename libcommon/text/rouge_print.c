/* rouge_print.c - scores to text: see rouge_print.h. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_print.h"

#include <string.h>

#include "io/jsonl.h"

/* ---- JSON --------------------------------------------------------------------------------- */

static int put_numbers(struct t5_buf *out, const struct t5_prf *s, struct t5_err *err)
{
    if (!s) /* there are no means of nothing */
        return t5_buf_printf(out, err, "\"precision\":null,\"recall\":null,\"fmeasure\":null");
    return t5_buf_printf(out, err, "\"precision\":%.17g,\"recall\":%.17g,\"fmeasure\":%.17g",
                         s->precision, s->recall, s->fmeasure);
}

static int put_interval(struct t5_buf *out, const struct t5_prf *low, const struct t5_prf *high,
                        struct t5_err *err)
{
    return t5_buf_printf(out, err,
                         ",\"interval\":{\"precision\":[%.17g,%.17g],\"recall\":[%.17g,%.17g],"
                         "\"fmeasure\":[%.17g,%.17g]}",
                         low->precision, high->precision, low->recall, high->recall, low->fmeasure,
                         high->fmeasure);
}

static int put_test(struct t5_buf *out, const char *name, double difference, double low,
                    double high, double p_bootstrap, double p_randomisation, struct t5_err *err)
{
    return t5_buf_printf(out, err,
                         "\"%s\":{\"difference\":%.17g,\"interval\":[%.17g,%.17g],"
                         "\"p_bootstrap\":%.17g,\"p_randomisation\":%.17g}",
                         name, difference, low, high, p_bootstrap, p_randomisation);
}

static int put_comparison(struct t5_buf *out, const struct t5_rouge_comparison *all, int k,
                          struct t5_err *err)
{
    const struct t5_prf *d = &all->difference.of[k], *low = &all->interval.low.of[k],
                        *high = &all->interval.high.of[k], *boot = &all->p_bootstrap.of[k],
                        *rand = &all->p_randomisation.of[k];
    if (t5_buf_printf(out, err, ",\"compare\":{") ||
        put_test(out, "precision", d->precision, low->precision, high->precision, boot->precision,
                 rand->precision, err) ||
        t5_buf_append(out, ",", 1, err) ||
        put_test(out, "recall", d->recall, low->recall, high->recall, boot->recall, rand->recall,
                 err) ||
        t5_buf_append(out, ",", 1, err) ||
        put_test(out, "fmeasure", d->fmeasure, low->fmeasure, high->fmeasure, boot->fmeasure,
                 rand->fmeasure, err))
        return -1;
    return t5_buf_append(out, "}", 1, err);
}

static int put_scores(struct t5_buf *out, const struct t5_rouge_measures *measures,
                      const struct t5_rouge_scores *scores,
                      const struct t5_rouge_interval *interval,
                      const struct t5_rouge_comparison *comparison, struct t5_err *err)
{
    char name[T5_ROUGE_NAME];
    for (int k = 0; k < measures->n; k++) {
        t5_rouge_name(name, measures->of[k]);
        if (t5_buf_printf(out, err, "%s\"%s\":{", k ? "," : "", name) ||
            put_numbers(out, scores ? &scores->of[k] : NULL, err) ||
            (interval && put_interval(out, &interval->low.of[k], &interval->high.of[k], err)) ||
            (comparison && put_comparison(out, comparison, k, err)) || t5_buf_printf(out, err, "}"))
            return -1;
    }
    return 0;
}

int t5_rouge_print_scores(struct t5_buf *out, const struct t5_rouge_measures *measures,
                          const struct t5_rouge_scores *scores, struct t5_err *err)
{
    return put_scores(out, measures, scores, NULL, NULL, err);
}

int t5_rouge_print_json(struct t5_buf *out, const struct t5_rouge_result *result,
                        struct t5_err *err)
{
    if (t5_buf_printf(out, err, "{\"count\":%lld,", (long long)result->count) ||
        put_scores(out, result->measures, result->mean, result->interval, result->comparison, err))
        return -1;
    if (result->resamples &&
        t5_buf_printf(out, err, ",\"level\":%g,\"resamples\":%lld,\"seed\":%lld", T5_ROUGE_LEVEL,
                      (long long)result->resamples, (long long)result->seed))
        return -1;
    return t5_buf_printf(out, err, ",\"signature\":") ||
                   t5_json_quote(out, result->signature, strlen(result->signature), err) ||
                   t5_buf_printf(out, err, "}\n")
               ? -1
               : 0;
}

/* ---- a table ------------------------------------------------------------------------------ */

static int put_row(struct t5_buf *out, const struct t5_rouge_result *result, int k,
                   struct t5_err *err)
{
    char name[T5_ROUGE_NAME];
    const struct t5_prf *s = result->mean ? &result->mean->of[k] : NULL;
    const struct t5_rouge_interval *in = result->interval;
    t5_rouge_name(name, result->measures->of[k]);
    if (!s)
        return t5_buf_printf(out, err, "%-10s %9s %9s %9s", name, "-", "-", "-");
    if (t5_buf_printf(out, err, "%-10s %9.3f %9.3f %9.3f", name, 100 * s->precision,
                      100 * s->recall, 100 * s->fmeasure))
        return -1;
    return in ? t5_buf_printf(out, err, "  %7.3f to %7.3f", 100 * in->low.of[k].fmeasure,
                              100 * in->high.of[k].fmeasure)
              : 0;
}

static int put_comparison_table(struct t5_buf *out, const struct t5_rouge_result *result,
                                struct t5_err *err)
{
    const struct t5_rouge_comparison *all = result->comparison;
    char name[T5_ROUGE_NAME];
    if (t5_buf_printf(out, err, "\n%-10s %9s    95 %% interval   %9s %9s\n", "F", "less other",
                      "bootstrap", "random"))
        return -1;
    for (int k = 0; k < result->measures->n; k++)
        if (t5_buf_printf(
                out, err, "%-10s %+10.3f  %+7.3f to %+7.3f  p %7.5f p %7.5f\n",
                t5_rouge_name(name, result->measures->of[k]), 100 * all->difference.of[k].fmeasure,
                100 * all->interval.low.of[k].fmeasure, 100 * all->interval.high.of[k].fmeasure,
                all->p_bootstrap.of[k].fmeasure, all->p_randomisation.of[k].fmeasure))
            return -1;
    return 0;
}

int t5_rouge_print_table(struct t5_buf *out, const struct t5_rouge_result *result,
                         struct t5_err *err)
{
    if (t5_buf_printf(out, err, "%-10s %9s %9s %9s%s\n", "percent", "precision", "recall", "F",
                      result->interval ? "    95 % interval" : ""))
        return -1;
    for (int k = 0; k < result->measures->n; k++)
        if (put_row(out, result, k, err) || t5_buf_printf(out, err, "\n"))
            return -1;
    if (t5_buf_printf(out, err, "%lld record%s, %s", (long long)result->count,
                      result->count == 1 ? "" : "s", result->how) ||
        (result->resamples &&
         t5_buf_printf(out, err, ", %lld resamples, seed %lld", (long long)result->resamples,
                       (long long)result->seed)) ||
        t5_buf_printf(out, err, "\n") ||
        (result->comparison && put_comparison_table(out, result, err)))
        return -1;
    return 0;
}
