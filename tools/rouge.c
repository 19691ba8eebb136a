/* rouge.c - scores summaries: records with a prediction and a reference in, ROUGE out. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/program.h"
#include "base/skip.h"
#include "io/jsonl.h"
#include "text/rouge.h"
#include "text/rouge_other.h"
#include "text/rouge_print.h"
#include "text/rouge_worst.h"
#include "text/shorten.h"

static const char *prediction = "prediction", *reference = "summary", *compare, *id, *join;
static const char *rouge = "1,2,L,Lsum", *tokenizer = "rouge";
static const char *references = "whole", *spiece = "spiece.model";
static int no_stem, split_sentences, per_record, table, intervals;
static struct t5_skip skip = {.program = "rouge"};
static int64_t max_line = (int64_t)T5_MAX_LINE, resamples = 1000, seed = 1, worst, max_target = 50;

static const struct t5_option options[] = {
    {"prediction", 0, T5_OPT_STRING, "FIELD", &prediction, 0, 0, "the field that is scored"},
    {"reference", 0, T5_OPT_STRING, "FIELD", &reference, 0, 0, "the field it is scored against"},
    {"references", 0, T5_OPT_CHOICE, "whole|recipe", &references, 0, 0,
     "as they are, or cut to --max-target tokens as the published recipe has them"},
    {"spiece", 's', T5_OPT_STRING, "FILE", &spiece, 0, 0,
     "the SentencePiece model that cuts them, or its directory"},
    {"max-target", 0, T5_OPT_INT, "N", &max_target, 1, 1 << 30, "tokens, </s> included"},
    {"rouge", 0, T5_OPT_STRING, "LIST", &rouge, 0, 0, "what is computed: any N, L and Lsum"},
    {"tokenizer", 0, T5_OPT_CHOICE, "rouge|unicode|char", &tokenizer, 0, 0,
     "words of a-z and 0-9, of letters of any script, or single letters"},
    {"split-sentences", 0, T5_OPT_FLAG, NULL, &split_sentences, 0, 0,
     "for Lsum, end lines at sentences, too"},
    {"no-stem", 0, T5_OPT_FLAG, NULL, &no_stem, 0, 0, "compare words as they are, not their stems"},
    {"per-record", 0, T5_OPT_FLAG, NULL, &per_record, 0, 0,
     "write each record with its scores added, and no means"},
    {"worst", 0, T5_OPT_INT, "N", &worst, 0, 10000,
     "write the N records of lowest ROUGE-L so, and no means"},
    {"table", 0, T5_OPT_FLAG, NULL, &table, 0, 0, "write the means as a table in percent"},
    {"intervals", 0, T5_OPT_FLAG, NULL, &intervals, 0, 0, "add 95 % intervals of the means"},
    {"resamples", 0, T5_OPT_INT, "N", &resamples, 1, T5_ROUGE_MAX_RESAMPLES,
     "how many resamples intervals and p values come from"},
    {"seed", 0, T5_OPT_INT, "N", &seed, 0, 1e15, "what the resamples are drawn from"},
    {"compare", 0, T5_OPT_STRING, "OTHER", &compare, 0, 0,
     "test the difference to the predictions in this file"},
    {"join", 0, T5_OPT_STRING, "FILE", &join, 0, 0, "take the references from this file's records"},
    {"id", 0, T5_OPT_STRING, "FIELD", &id, 0, 0,
     "pair records of two files by this field, not by order"},
    {"skip-bad", 0, T5_OPT_FLAG, NULL, &skip.on, 0, 0, "go on after a bad record; exit 3"},
    {"max-line", 0, T5_OPT_INT, "N", &max_line, 2, 1 << 30, "refuse longer lines (bytes)"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {
    "rouge", "Score predictions against references: ROUGE-1, -2, -L and -Lsum.", "[FILE...]",
    options};

/* What one run holds open. */
struct run {
    struct t5_rouge_options options;
    struct t5_jsonl *reader;
    struct t5_rouge *scorer;
    struct t5_shorten *shorten;                           /* NULL: references are whole */
    struct t5_texts prediction, rival, whole, references; /* of one record; whole: before any cut */
    struct t5_buf text, members, line, signature;
    struct t5_rouge_total total;
    struct t5_rouge_sample sample, others; /* kept for --intervals and --compare only */
    struct t5_rouge_worst worst;
    int worst_by;                          /* the measure --worst looks at */
    struct t5_rouge_other *other, *joined; /* NULL without --compare, --join */
    int64_t read;                          /* records, bad ones counted */
    int64_t discarding;                    /* records with letters that are no words */
};

static int is_recipe(void)
{
    return strcmp(references, "recipe") == 0;
}

static int is_stdin(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

static int check_inputs(const struct t5_list *files, struct t5_err *err)
{
    int n = is_stdin(compare) + is_stdin(join) + (files->n == 0);
    for (int i = 0; i < files->n; i++)
        n += is_stdin(files->items[i]);
    return n > 1 && (compare || join)
               ? t5_fail_as(err, T5_USAGE, "standard input is asked for more than once")
               : 0;
}

static int check_options(struct t5_err *err)
{
    if (table && per_record)
        return t5_fail_as(err, T5_USAGE, "--table and --per-record exclude each other");
    if (intervals && per_record)
        return t5_fail_as(err, T5_USAGE, "--intervals and --per-record exclude each other");
    if (compare && per_record)
        return t5_fail_as(err, T5_USAGE, "--compare and --per-record exclude each other");
    if (worst && (per_record || table || intervals || compare))
        return t5_fail_as(err, T5_USAGE,
                          "--worst excludes --per-record, --table, --intervals and --compare");
    if (id && !compare && !join)
        return t5_fail_as(err, T5_USAGE, "--id needs --compare or --join");
    return 0;
}

static int put_signature(struct t5_buf *out, enum t5_rouge_tokens tokens, struct t5_err *err)
{
    static const char *const words[] = {"a-z0-9", "unicode", "char"};
    char cut[40] = "";
    if (is_recipe())
        snprintf(cut, sizeof cut, "|tokens:%lld", (long long)max_target);
    return t5_buf_printf(out, err,
                         "rouge_score-0.1.2|prediction:%s|reference:%s%s|words:%s|"
                         "stem:%s|lsum:%s|several:best-f|mean:arithmetic|t5-tools:%s",
                         prediction, reference, cut, words[tokens], no_stem ? "no" : "porter-nltk",
                         split_sentences ? "sentences" : "lines", t5_version);
}

static int write_out(const struct t5_buf *text, struct t5_err *err)
{
    if (fwrite(text->data, 1, text->n, stdout) != text->n)
        return t5_fail_errno(err, "<stdout>");
    return 0;
}

static int make_record(struct run *run, const struct t5_record *record,
                       const struct t5_rouge_scores *scores, struct t5_err *err)
{
    static const char *const replaced[] = {"rouge"};
    run->members.n = run->line.n = 0;
    if (t5_buf_printf(&run->members, err, "\"rouge\":{") ||
        t5_rouge_print_scores(&run->members, &run->options.measures, scores, err) ||
        t5_buf_printf(&run->members, err, "}") ||
        t5_record_splice_replacing(&run->line, record, replaced, 1, run->members.data,
                                   run->members.n, err))
        return -1;
    if (worst)
        return t5_rouge_worst_add(&run->worst, scores->of[run->worst_by].fmeasure, &run->line, err);
    return write_out(&run->line, err);
}

static int read_prediction(struct run *run, const struct t5_record *record, struct t5_err *err)
{
    const struct t5_field *field = t5_record_need(record, prediction, err);
    t5_texts_clear(&run->prediction);
    return field ? t5_texts_read(&run->prediction, record, field, 0, err) : -1;
}

/* As they are in the record or its partner. */
static int read_whole(struct run *run, const struct t5_record *record, struct t5_err *err)
{
    if (join)
        return t5_rouge_other_find(&run->whole, run->joined, record, run->read - 1, err);
    const struct t5_field *field = t5_record_need(record, reference, err);
    t5_texts_clear(&run->whole);
    return field ? t5_texts_read(&run->whole, record, field, 1, err) : -1;
}

static int read_references(struct run *run, const struct t5_record *record, struct t5_err *err)
{
    t5_texts_clear(&run->references);
    if (read_whole(run, record, err))
        return -1;
    for (size_t i = 0, n; i < t5_texts_count(&run->whole); i++) {
        const char *text = t5_texts_at(&n, &run->whole, i);
        if (run->shorten) {
            run->text.n = 0;
            if (t5_shorten_text(&run->text, run->shorten, text, n, err))
                return -1;
            text = run->text.data;
            n = run->text.n;
        }
        if (t5_texts_add(&run->references, text, n, err))
            return -1;
    }
    return 0;
}

/* Against the reference, of several, that is best for each measure. *discards is set where a text
 * has letters that are no words. */
static int score_text(struct t5_rouge_scores *out, int *discards, struct run *run,
                      const struct t5_record *record, const struct t5_texts *prediction_text,
                      struct t5_err *err)
{
    struct t5_rouge_scores one;
    size_t n, reference_n;
    const char *text = t5_texts_at(&n, prediction_text, 0);
    for (size_t i = 0; i < t5_texts_count(&run->references); i++) {
        const char *against = t5_texts_at(&reference_n, &run->references, i);
        if (t5_rouge_score(&one, run->scorer, against, reference_n, text, n, err))
            return err->skippable ? t5_record_fail(record, NULL, err, "%s", err->text) : -1;
        if (i == 0)
            *out = one;
        t5_rouge_best(out, &one);
        *discards |= t5_rouge_discards(run->scorer);
    }
    return 0;
}

static int keep_scores(struct run *run, const struct t5_rouge_scores *scores,
                       const struct t5_rouge_scores *others, struct t5_err *err)
{
    if ((intervals || compare) && t5_rouge_sample_add(&run->sample, scores, err))
        return -1;
    if (compare && t5_rouge_sample_add(&run->others, others, err))
        return -1;
    t5_rouge_total_add(&run->total, scores);
    return 0;
}

static int score_record(struct run *run, const struct t5_record *record, struct t5_err *err)
{
    struct t5_rouge_scores scores, others;
    int discards = 0;
    if (read_prediction(run, record, err) || read_references(run, record, err))
        return -1;
    if (compare && (t5_rouge_other_find(&run->rival, run->other, record, run->read - 1, err) ||
                    score_text(&others, &discards, run, record, &run->rival, err)))
        return -1;
    if (score_text(&scores, &discards, run, record, &run->prediction, err) ||
        ((per_record || worst) && make_record(run, record, &scores, err)))
        return -1;
    run->discarding += discards;
    return keep_scores(run, &scores, &others, err);
}

static int score_all(struct run *run, struct t5_err *err)
{
    struct t5_record record;
    int rc;
    while ((rc = t5_jsonl_next(run->reader, &record, err)) != 0) {
        run->read++;
        if (rc == 1)
            rc = score_record(run, &record, err);
        if (rc < 0 && !t5_skip_bad(&skip, err))
            return -1;
    }
    if (skip.skipped) /* a skipped record's partner is left over by right */
        return 0;
    return (compare && t5_rouge_other_end(run->other, err)) ||
                   (join && t5_rouge_other_end(run->joined, err))
               ? -1
               : 0;
}

static int print_worst(const struct t5_rouge_worst *list, struct t5_err *err)
{
    for (size_t i = 0; i < list->n; i++)
        if (write_out(&list->lines[i].text, err))
            return -1;
    return 0;
}

static int print_means(struct run *run, struct t5_err *err)
{
    struct t5_rouge_scores mean;
    struct t5_rouge_interval interval;
    struct t5_rouge_comparison comparison;
    struct t5_rouge_result result = {.measures = &run->options.measures,
                                     .count = run->total.count,
                                     .resamples = intervals || compare ? resamples : 0,
                                     .seed = seed,
                                     .how = no_stem ? "not stemmed" : "stemmed"};
    if (result.count > 0) {
        mean = t5_rouge_total_mean(&run->total);
        result.mean = &mean;
    }
    if (result.mean && intervals) {
        if (t5_rouge_bootstrap(&interval, &run->sample, resamples, (uint64_t)seed, err))
            return -1;
        result.interval = &interval;
    }
    if (result.mean && compare) {
        if (t5_rouge_compare(&comparison, &run->sample, &run->others, resamples, (uint64_t)seed,
                             err))
            return -1;
        result.comparison = &comparison;
    }
    run->line.n = 0;
    if (put_signature(&run->signature, run->options.cut.tokens, err))
        return -1;
    result.signature = run->signature.data;
    if ((table ? t5_rouge_print_table : t5_rouge_print_json)(&run->line, &result, err))
        return -1;
    return write_out(&run->line, err);
}

static void run_free(struct run *run)
{
    t5_jsonl_close(run->reader);
    t5_rouge_close(run->scorer);
    t5_shorten_close(run->shorten);
    t5_texts_free(&run->prediction);
    t5_texts_free(&run->rival);
    t5_texts_free(&run->whole);
    t5_texts_free(&run->references);
    t5_buf_free(&run->text);
    t5_buf_free(&run->members);
    t5_buf_free(&run->line);
    t5_buf_free(&run->signature);
    t5_rouge_sample_free(&run->sample);
    t5_rouge_sample_free(&run->others);
    t5_rouge_worst_free(&run->worst);
    t5_rouge_other_close(run->other);
    t5_rouge_other_close(run->joined);
}

static int read_options(struct run *run, struct t5_err *err)
{
    struct t5_rouge_cut *cut = &run->options.cut;
    cut->tokens = strcmp(tokenizer, "char") == 0      ? T5_ROUGE_CHARS
                  : strcmp(tokenizer, "unicode") == 0 ? T5_ROUGE_UNICODE
                                                      : T5_ROUGE_ASCII;
    cut->sentences = split_sentences;
    run->options.stem = !no_stem;
    if (t5_rouge_measures_parse(&run->options.measures, rouge, err)) {
        err->status = T5_USAGE;
        return t5_err_at(err, "--rouge");
    }
    run->worst_by = t5_rouge_measures_find(&run->options.measures, T5_ROUGE_L);
    if (worst && run->worst_by < 0)
        return t5_fail_as(err, T5_USAGE, "--worst needs L in --rouge");
    run->sample.measures = run->others.measures = run->options.measures.n;
    return 0;
}

/* With --join, references are found by pairing, and are not in OTHER. */
static int open_others(struct run *run, struct t5_err *err)
{
    const struct t5_rouge_other_fields rivals = {prediction, 0, join ? NULL : reference, id};
    const struct t5_rouge_other_fields references_of = {reference, 1, NULL, id};
    if (compare && t5_rouge_other_open(&run->other, compare, &rivals, (size_t)max_line, err))
        return -1;
    return join ? t5_rouge_other_open(&run->joined, join, &references_of, (size_t)max_line, err)
                : 0;
}

static void warn_discarding(const struct run *run)
{
    if (run->discarding)
        t5_warn(program.name,
                "%lld of %lld records have letters beyond a to z, which are taken for spaces (see "
                "--tokenizer)",
                (long long)run->discarding, (long long)run->total.count);
}

static int work(const struct t5_list *files, struct t5_err *err)
{
    struct run run = {.worst.limit = (size_t)worst};
    int rc = -1;
    if (check_options(err) || check_inputs(files, err) || read_options(&run, err) ||
        open_others(&run, err) ||
        (is_recipe() && t5_shorten_open(&run.shorten, spiece, (size_t)max_target, err)) ||
        t5_rouge_open(&run.scorer, &run.options, err) ||
        t5_jsonl_open(&run.reader, files->items, files->n, (size_t)max_line, err) ||
        score_all(&run, err) || print_worst(&run.worst, err) ||
        (!per_record && !worst && print_means(&run, err)))
        goto out;
    warn_discarding(&run);
    rc = t5_skip_end(&skip, run.total.count, err);
out:
    run_free(&run);
    return rc;
}

int main(int argc, char **argv)
{
    return t5_program_main(&program, argc, argv, work);
}
