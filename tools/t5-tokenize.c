/* t5-tokenize.c - text of records to token ids, and ids back to text. */
/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <unistd.h>

#include "base/ordered.h"
#include "base/program.h"
#include "base/skip.h"
#include "base/utf8.h"
#include "io/atomic.h"
#include "text/spm.h"
#include "text/tokenize.h"

static const char dialogue[] = "dialogue";
static const char *spiece = "spiece.model", *prefix = "", *source = dialogue, *target = "summary";
static const char *template, *report_unk, *input_format = "auto";
static const char *to = "jsonl", *on_long = "truncate", *segmentation = "viterbi", *output;
static int64_t max_source = 255, max_target = 50, threads = 1, max_line = (int64_t)T5_MAX_LINE;
static int special, decode, stats;
static struct t5_skip skip = {.program = "t5-tokenize"};

static const struct t5_option options[] = {
    {"spiece", 's', T5_OPT_STRING, "FILE", &spiece, 0, 0,
     "the SentencePiece model, or its directory"},
    {"prefix", 'p', T5_OPT_STRING, "TEXT", &prefix, 0, 0, "put before each source"},
    {"input-format", 0, T5_OPT_CHOICE, "auto|jsonl|json|csv", &input_format, 0, 0,
     "JSON lines, a JSON array or CSV; by name and first byte"},
    {"source", 0, T5_OPT_STRING, "FIELD", &source, 0, 0, "the field that becomes input_ids"},
    {"template", 0, T5_OPT_STRING, "TEXT", &template, 0, 0,
     "make the source of fields: 'Dialogue:\\n{dialogue}\\nSummary:'"},
    {"target", 0, T5_OPT_STRING, "FIELD", &target, 0, 0, "the field that becomes labels, if there"},
    {"max-source", 0, T5_OPT_INT, "N", &max_source, 1, 1 << 30,
     "cut input_ids to N, </s> included"},
    {"max-target", 0, T5_OPT_INT, "N", &max_target, 1, 1 << 30, "cut labels to N, </s> included"},
    {"on-long", 0, T5_OPT_CHOICE, "truncate|drop|error", &on_long, 0, 0,
     "cut longer texts, leave their records out, or call them bad"},
    {"to", 0, T5_OPT_CHOICE, "jsonl|safetensors", &to, 0, 0, "records, or one packed token file"},
    {"output", 'o', T5_OPT_STRING, "FILE", &output, 0, 0, "write there, not to standard output"},
    {"decode", 0, T5_OPT_FLAG, NULL, &decode, 0, 0, "turn output_ids into prediction"},
    {"stats", 0, T5_OPT_FLAG, NULL, &stats, 0, 0, "write token counts of both fields as JSON"},
    {"report-unk", 0, T5_OPT_STRING, "FILE", &report_unk, 0, 0,
     "write there which characters become <unk>, how often"},
    {"special-in-text", 0, T5_OPT_FLAG, NULL, &special, 0, 0,
     "read </s>, <extra_id_0> etc. in text as those ids"},
    {"segmentation", 0, T5_OPT_CHOICE, "viterbi|sentencepiece", &segmentation, 0, 0,
     "transformers' ids, or the SentencePiece library's"},
    {"threads", 'j', T5_OPT_INT, "N", &threads, 1, T5_MAX_THREADS,
     "threads; the output is the same"},
    {"skip-bad", 0, T5_OPT_FLAG, NULL, &skip.on, 0, 0, "go on after a bad record; exit 3"},
    {"max-line", 0, T5_OPT_INT, "N", &max_line, 2, 1 << 30, "refuse longer lines (bytes)"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {
    "t5-tokenize", "Turn the text of records into T5's token ids, or ids into text.", "[FILE...]",
    options};

static int check_report(struct t5_err *err)
{
    if (decode || strcmp(segmentation, "viterbi") != 0)
        return t5_fail_as(err, T5_USAGE,
                          "--report-unk excludes --decode and --segmentation sentencepiece");
    if (strcmp(report_unk, "-") == 0 ||
        (output && (strcmp(output, report_unk) == 0 || t5_same_file(output, report_unk))))
        return t5_fail_as(err, T5_USAGE, "--report-unk needs a file of its own");
    return 0;
}

static int check_options(const struct t5_list *files, struct t5_err *err)
{
    int pack = strcmp(to, "safetensors") == 0;
    if (decode + stats + pack > 1)
        return t5_fail_as(err, T5_USAGE,
                          "--decode, --stats and --to safetensors exclude each other");
    if ((decode || stats) && strcmp(on_long, "truncate") != 0)
        return t5_fail_as(err, T5_USAGE, "--on-long: %s cuts nothing",
                          decode ? "--decode" : "--stats");
    for (size_t n = strlen(prefix), i = 0, len; i < n; i += len)
        if (!(len = t5_utf8_length(prefix + i, n - i)))
            return t5_fail_as(err, T5_USAGE, "--prefix: not valid UTF-8");
    if (template && (prefix[0] || source != dialogue))
        return t5_fail_as(err, T5_USAGE, "--template excludes --prefix and --source");
    if (!template && strcmp(source, target) == 0)
        return t5_fail_as(err, T5_USAGE, "--source and --target name the same field");
    for (int i = 0; i < files->n; i++)
        if (output && t5_same_file(files->items[i], output))
            return t5_fail_as(err, T5_USAGE, "--output is an input, too");
        else if (report_unk && t5_same_file(files->items[i], report_unk))
            return t5_fail_as(err, T5_USAGE, "--report-unk is an input, too");
    return report_unk ? check_report(err) : 0;
}

static struct t5_progress progress;

static int pass_over(void *arg, const struct t5_err *err)
{
    t5_progress_end(&progress); /* the line makes room for the message, and comes back */
    int go_on = t5_skip_bad(arg, err);
    progress.live = go_on && isatty(STDERR_FILENO);
    return go_on;
}

static void show_progress(void *arg, int64_t records)
{
    t5_progress_update(arg, records, "");
}

static void report(const struct t5_tokenize_counts *counts)
{
    if (counts->dropped)
        t5_warn(program.name, "%lld of %lld records dropped: longer than the limits",
                (long long)counts->dropped, (long long)(counts->records + counts->dropped));
    if (report_unk)
        t5_warn(program.name, "%lld of %lld records have characters that become <unk>",
                (long long)counts->unknown, (long long)counts->records);
}

/* Sets pattern where there is a template. */
static int read_template(struct t5_template *pattern, struct t5_err *err)
{
    *pattern = (struct t5_template){0};
    if (!template)
        return 0;
    if (t5_template_parse(pattern, template, err))
        return t5_err_at(err, "--template");
    if (t5_template_has(pattern, target)) {
        t5_template_free(pattern);
        return t5_fail_as(err, T5_USAGE, "--template and --target name the same field");
    }
    return 0;
}

static enum t5_input_format format_of(const char *name)
{
    return strcmp(name, "jsonl") == 0  ? T5_INPUT_JSONL
           : strcmp(name, "json") == 0 ? T5_INPUT_JSON
           : strcmp(name, "csv") == 0  ? T5_INPUT_CSV
                                       : T5_INPUT_AUTO;
}

static int run(const struct t5_list *files, const struct t5_template *pattern, struct t5_err *err)
{
    struct t5_tokenizer *tokenizer = NULL;
    const struct t5_tokenize_options o = {
        .mode = decode                           ? T5_TOKENIZE_DECODE
                : stats                          ? T5_TOKENIZE_STATS
                : strcmp(to, "safetensors") == 0 ? T5_TOKENIZE_PACK
                                                 : T5_TOKENIZE_JSONL,
        .format = format_of(input_format),
        .source = source,
        .target = target,
        .prefix = prefix,
        .pattern = template ? pattern : NULL,
        .max_source = max_source,
        .max_target = max_target,
        .max_line = (size_t)max_line,
        .on_long = strcmp(on_long, "drop") == 0    ? T5_LONG_DROP
                   : strcmp(on_long, "error") == 0 ? T5_LONG_ERROR
                                                   : T5_LONG_TRUNCATE,
        .threads = (int)threads,
        .output = output,
        .report_unk = report_unk,
        .bad = pass_over,
        .bad_arg = &skip,
        .progress = isatty(STDIN_FILENO) || isatty(STDOUT_FILENO) ? NULL : show_progress,
        .progress_arg = &progress,
    };
    int library = strcmp(segmentation, "sentencepiece") == 0;
    struct t5_tokenize_counts counts;
    if (t5_tokenizer_open(&tokenizer, spiece, library ? &t5_spm_library : NULL, special, err))
        return -1;
    t5_progress_start(&progress, program.name, "records", 0);
    int rc = t5_tokenize(&counts, &o, tokenizer, files->items, files->n, err);
    t5_progress_end(&progress);
    t5_tokenizer_close(tokenizer);
    if (rc)
        return -1;
    report(&counts);
    return t5_skip_end(&skip, counts.records + counts.dropped, err);
}

static int work(const struct t5_list *files, struct t5_err *err)
{
    struct t5_template pattern;
    if (check_options(files, err) || read_template(&pattern, err))
        return -1;
    int rc = run(files, &pattern, err);
    t5_template_free(&pattern);
    return rc;
}

int main(int argc, char **argv)
{
    return t5_program_main(&program, argc, argv, work);
}
