/* rouge.c - scores summaries: records with a prediction and a reference in, ROUGE out. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/program.h"
#include "base/skip.h"
#include "io/jsonl.h"
#include "text/rouge.h"

static const char *prediction = "prediction", *reference = "summary";
static int no_stem, per_record, table;
static struct t5_skip skip = {.program = "rouge"};
static int64_t max_line = (int64_t)T5_MAX_LINE;

static const struct t5_option options[] = {
    {"prediction", 0, T5_OPT_STRING, "FIELD", &prediction, 0, 0, "the field that is scored"},
    {"reference", 0, T5_OPT_STRING, "FIELD", &reference, 0, 0, "the field it is scored against"},
    {"no-stem", 0, T5_OPT_FLAG, NULL, &no_stem, 0, 0, "compare words as they are, not their stems"},
    {"per-record", 0, T5_OPT_FLAG, NULL, &per_record, 0, 0,
     "write each record with its scores added, and no means"},
    {"table", 0, T5_OPT_FLAG, NULL, &table, 0, 0, "write the means as a table in percent"},
    {"skip-bad", 0, T5_OPT_FLAG, NULL, &skip.on, 0, 0, "go on after a bad record; exit 3"},
    {"max-line", 0, T5_OPT_INT, "N", &max_line, 2, 1 << 30, "refuse longer lines (bytes)"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {
    "rouge", "Score predictions against references: ROUGE-1, -2, -L and -Lsum.", "[FILE...]",
    options};

/* What one run holds open. */
struct run {
    struct t5_jsonl *reader;
    struct t5_rouge *scorer;
    struct t5_buf texts[2], members, line;
    struct t5_rouge_total total;
};

static int check_options(struct t5_err *err)
{
    if (table && per_record)
        return t5_fail_as(err, T5_USAGE, "--table and --per-record exclude each other");
    return 0;
}

/* `"rouge1":{"precision":0.5,...},...` without braces. There are no means of nothing: null. */
static int put_scores(struct t5_buf *out, const struct t5_rouge_scores *scores, struct t5_err *err)
{
    static const char nothing[] = "\"precision\":null,\"recall\":null,\"fmeasure\":null";
    for (int k = 0; k < T5_ROUGE_KINDS; k++) {
        const char *comma = k ? "," : "", *name = t5_rouge_names[k];
        const struct t5_prf *s = scores ? &scores->of[k] : NULL;
        int rc = s ? t5_buf_printf(out, err,
                                   "%s\"%s\":{\"precision\":%.17g,\"recall\":%.17g,"
                                   "\"fmeasure\":%.17g}",
                                   comma, name, s->precision, s->recall, s->fmeasure)
                   : t5_buf_printf(out, err, "%s\"%s\":{%s}", comma, name, nothing);
        if (rc)
            return -1;
    }
    return 0;
}

static int put_signature(struct t5_buf *out, struct t5_err *err)
{
    struct t5_buf text = {0};
    int rc = t5_buf_printf(&text, err,
                           "rouge_score-0.1.2|prediction:%s|reference:%s|words:a-z0-9|"
                           "stem:%s|lsum:lines|mean:arithmetic|t5-tools:%s",
                           prediction, reference, no_stem ? "no" : "porter-nltk", t5_version);
    if (rc == 0)
        rc = t5_json_quote(out, text.data, text.n, err);
    t5_buf_free(&text);
    return rc;
}

static int write_out(const struct t5_buf *text, struct t5_err *err)
{
    if (fwrite(text->data, 1, text->n, stdout) != text->n)
        return t5_fail_errno(err, "<stdout>");
    return 0;
}

static int print_json(struct t5_buf *out, const struct t5_rouge_scores *mean, int64_t count,
                      struct t5_err *err)
{
    if (t5_buf_printf(out, err, "{\"count\":%lld,", (long long)count) ||
        put_scores(out, mean, err) || t5_buf_printf(out, err, ",\"signature\":") ||
        put_signature(out, err) || t5_buf_printf(out, err, "}\n"))
        return -1;
    return write_out(out, err);
}

static int print_table(struct t5_buf *out, const struct t5_rouge_scores *mean, int64_t count,
                       struct t5_err *err)
{
    if (t5_buf_printf(out, err, "%-10s %9s %9s %9s\n", "percent", "precision", "recall", "F"))
        return -1;
    for (int k = 0; k < T5_ROUGE_KINDS; k++) {
        const struct t5_prf *s = mean ? &mean->of[k] : NULL;
        const char *name = t5_rouge_names[k];
        int rc = s ? t5_buf_printf(out, err, "%-10s %9.3f %9.3f %9.3f\n", name, 100 * s->precision,
                                   100 * s->recall, 100 * s->fmeasure)
                   : t5_buf_printf(out, err, "%-10s %9s %9s %9s\n", name, "-", "-", "-");
        if (rc)
            return -1;
    }
    if (t5_buf_printf(out, err, "%lld record%s, %s\n", (long long)count, count == 1 ? "" : "s",
                      no_stem ? "not stemmed" : "stemmed"))
        return -1;
    return write_out(out, err);
}

static int print_record(struct run *run, const struct t5_record *record,
                        const struct t5_rouge_scores *scores, struct t5_err *err)
{
    static const char *const replaced[] = {"rouge"};
    run->members.n = run->line.n = 0;
    if (t5_buf_printf(&run->members, err, "\"rouge\":{") ||
        put_scores(&run->members, scores, err) || t5_buf_printf(&run->members, err, "}") ||
        t5_record_splice_replacing(&run->line, record, replaced, 1, run->members.data,
                                   run->members.n, err))
        return -1;
    return write_out(&run->line, err);
}

static int read_text(struct t5_buf *out, const struct t5_record *record, const char *name,
                     struct t5_err *err)
{
    const struct t5_field *field = t5_record_need(record, name, err);
    out->n = 0;
    return field ? t5_field_string(out, record, field, err) : -1;
}

static int score_record(struct run *run, const struct t5_record *record, struct t5_err *err)
{
    struct t5_buf *ref = &run->texts[0], *pred = &run->texts[1];
    struct t5_rouge_scores scores;
    if (read_text(pred, record, prediction, err) || read_text(ref, record, reference, err))
        return -1;
    if (t5_rouge_score(&scores, run->scorer, ref->data, ref->n, pred->data, pred->n, err))
        return err->skippable ? t5_record_fail(record, NULL, err, "%s", err->text) : -1;
    if (per_record && print_record(run, record, &scores, err))
        return -1;
    t5_rouge_total_add(&run->total, &scores);
    return 0;
}

static int score_all(struct run *run, struct t5_err *err)
{
    struct t5_record record;
    int rc;
    while ((rc = t5_jsonl_next(run->reader, &record, err)) != 0) {
        if (rc == 1)
            rc = score_record(run, &record, err);
        if (rc < 0 && !t5_skip_bad(&skip, err))
            return -1;
    }
    return 0;
}

static int print_means(struct run *run, struct t5_err *err)
{
    struct t5_rouge_scores mean;
    int64_t n = run->total.count;
    if (per_record)
        return 0;
    if (n > 0)
        mean = t5_rouge_total_mean(&run->total);
    run->line.n = 0;
    return (table ? print_table : print_json)(&run->line, n > 0 ? &mean : NULL, n, err);
}

static void run_free(struct run *run)
{
    t5_jsonl_close(run->reader);
    t5_rouge_close(run->scorer);
    t5_buf_free(&run->texts[0]);
    t5_buf_free(&run->texts[1]);
    t5_buf_free(&run->members);
    t5_buf_free(&run->line);
}

static int work(const struct t5_list *files, struct t5_err *err)
{
    struct run run = {0};
    int rc = -1;
    if (check_options(err) ||
        t5_rouge_open(&run.scorer, !no_stem, err) ||
        t5_jsonl_open(&run.reader, files->items, files->n, (size_t)max_line, err) ||
        score_all(&run, err) || print_means(&run, err))
        goto out;
    rc = t5_skip_end(&skip, run.total.count, err);
out:
    run_free(&run);
    return rc;
}

int main(int argc, char **argv) { return t5_program_main(&program, argc, argv, work); }
