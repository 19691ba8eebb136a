/* t5-generate.c - token ids in, generated token ids or the scores of given ones out. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/program.h"
#include "base/skip.h"
#include "io/tokens.h"
#include "t5/adapter_set.h"
#include "t5/check_behind.h"
#include "t5/keep.h"
#include "t5/window.h"

#define MOST_SOURCE 8192 /* tokens of a record */
#define MOST_TARGET 8192

static const char *model_path, *early_stopping, *preset, *compute, *device = "auto";
static const char *force_prefix, *keep_bf16;
static struct t5_list adapters, ban, ban_file;
static int force_eos, strict;
static int sample, score, logprobs, stats;
static struct t5_skip skip = {.program = "t5-generate"};
/* -1 and NAN: not given */
static int64_t beams = 1, top_k = -1, seed = 42, max_new = 50, min_new, no_repeat, returned = 1;
static int64_t batch_tokens, max_memory, threads, max_line = (int64_t)T5_MAX_LINE;
static double temperature = -1, top_p = -1, min_p = -1, typical = -1, length_penalty = NAN,
              repetition_penalty = 1;

static const struct t5_option options[] = {
    {"model", 'm', T5_OPT_STRING, "MODEL", &model_path, 0, 0, "HF directory or tensor file"},
    {"adapter", 'a', T5_OPT_LIST, "[NAME=]DIR", &adapters, 0, 0,
     "LoRA adapter (PEFT directory); NAME: for records whose \"adapter\" says so"},
    {"beams", 0, T5_OPT_INT, "N", &beams, 1, 256, "search with N beams; 1: greedy"},
    {"sample", 0, T5_OPT_FLAG, NULL, &sample, 0, 0, "draw each token"},
    {"temperature", 0, T5_OPT_REAL, "T", &temperature, 0.001, 1000,
     "sampling: divide logits by T [1]"},
    {"top-k", 0, T5_OPT_INT, "K", &top_k, 0, 1 << 30,
     "sampling: from the K likeliest; 0: from all [50]"},
    {"top-p", 0, T5_OPT_REAL, "P", &top_p, 0, 1,
     "sampling: from the likeliest that make up P together [1]"},
    {"min-p", 0, T5_OPT_REAL, "P", &min_p, 0, 1,
     "sampling: of these at least P times as likely as the likeliest [0]"},
    {"typical", 0, T5_OPT_REAL, "P", &typical, 1e-6, 1,
     "sampling: of these the most typical that make up P together [1]"},
    {"preset", 0, T5_OPT_CHOICE, "recipe", &preset, 0, 0,
     "the published settings: --sample --top-k 50 --top-p 0.9"},
    {"seed", 0, T5_OPT_INT, "N", &seed, 0, 1e15, "sampling: key of the draws"},
    {"max-new-tokens", 0, T5_OPT_INT, "N", &max_new, 1, 8192, "stop after N tokens"},
    {"min-new-tokens", 0, T5_OPT_INT, "N", &min_new, 0, 8192, "no end before N tokens"},
    {"length-penalty", 0, T5_OPT_REAL, "P", &length_penalty, -100, 100,
     "beams: scores are divided by length^P [1]"},
    {"early-stopping", 0, T5_OPT_CHOICE, "false|true|never", &early_stopping, 0, 0,
     "beams: when enough are finished [false]"},
    {"no-repeat-ngram", 0, T5_OPT_INT, "N", &no_repeat, 0, 8192, "no N tokens occur twice; 0: off"},
    {"repetition-penalty", 0, T5_OPT_REAL, "P", &repetition_penalty, 0.01, 100,
     "lower (above 1) the scores of tokens said"},
    {"ban", 0, T5_OPT_LIST, "IDS", &ban, 0, 0, "never write these ids in a row, as in 5,6,7"},
    {"ban-file", 0, T5_OPT_LIST, "FILE", &ban_file, 0, 0,
     "nor the input_ids of these records, without a final </s>"},
    {"force-prefix", 0, T5_OPT_STRING, "IDS", &force_prefix, 0, 0, "begin with these ids"},
    {"force-eos", 0, T5_OPT_FLAG, NULL, &force_eos, 0, 0,
     "end what reaches --max-new-tokens with </s>"},
    {"returned", 'n', T5_OPT_INT, "N", &returned, 1, 1024,
     "sequences a record, of beams or samples"},
    {"score", 0, T5_OPT_FLAG, NULL, &score, 0, 0,
     "generate nothing: log-probability of each record's labels"},
    {"logprobs", 0, T5_OPT_FLAG, NULL, &logprobs, 0, 0, "add each token's log-probability"},
    {"stats", 0, T5_OPT_FLAG, NULL, &stats, 0, 0,
     "at the end, a line of JSON on standard error: speed, memory"},
    {"batch-tokens", 0, T5_OPT_INT, "N", &batch_tokens, 1, 1 << 30,
     "most source and target tokens worked on at a time [by device]"},
    {"compute", 0, T5_OPT_CHOICE, "f32|bf16|int8|fp8", &compute, 0, 0,
     "arithmetic of the products [by model and device]"},
    {"keep-bf16", 0, T5_OPT_STRING, "LIST", &keep_bf16, 0, 0,
     "int8 and fp8 on a GPU: projections that stay bf16: q,k,v,o,wi,wi_0,wi_1,wo"},
    {"max-memory", 0, T5_OPT_SIZE, "SIZE", &max_memory, 1, 1e18,
     "take no more of a GPU's memory, as 14GiB"},
    {"device", 0, T5_OPT_STRING, "DEVICE", &device, 0, 0, "auto, cpu, ref, cuda or cuda:N"},
    {"threads", 'j', T5_OPT_INT, "N", &threads, 0, 4096, "CPU threads; 0: all"},
    {"strict-settings", 0, T5_OPT_FLAG, NULL, &strict, 0, 0,
     "refuse what else is warned of: another base, prefix, template or tokenizer than in training"},
    {"skip-bad", 0, T5_OPT_FLAG, NULL, &skip.on, 0, 0, "go on after a bad record; exit 3"},
    {"max-line", 0, T5_OPT_INT, "N", &max_line, 2, 1 << 30, "refuse longer lines (bytes)"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {"t5-generate",
                                          "Generate output_ids for records of input_ids: greedy, "
                                          "beam search or sampling; or score labels.",
                                          "[FILE...]", options};

/* What one run holds open. */
struct run {
    struct t5_checkpoint *checkpoint;
    struct t5_check_behind check;
    struct t5_adapter_set adapters;
    struct t5_token_settings trained; /* what the model carries */
    struct t5_backend_handle backend;
    struct t5_id_lists bans, prefix;
    struct t5_model *model;
    struct t5_generator *generator; /* or */
    struct t5_scorer *scorer;
    struct t5_window *window;
    struct t5_tokens_reader *reader;
    struct t5_progress progress;
    int64_t records, tokens;
};

/* Beneath what the command line gives. max_new_tokens is 50 in the recipe, as by default. */
static void apply_preset(void)
{
    if (!preset)
        return;
    sample = 1;
    top_k = top_k < 0 ? 50 : top_k;
    top_p = top_p < 0 ? 0.9 : top_p;
}

static int check_options(struct t5_err *err)
{
    apply_preset();
    if (!model_path)
        return t5_fail_as(err, T5_USAGE, "-m MODEL is missing (see --help)");
    if (score && (sample || beams > 1 || returned > 1 || min_new || no_repeat ||
                  repetition_penalty != 1 || ban.n || ban_file.n || force_prefix || force_eos))
        return t5_fail_as(err, T5_USAGE, "--score takes no options of a search");
    if (sample && beams > 1)
        return t5_fail_as(err, T5_USAGE, "%s and --beams exclude each other",
                          preset ? "--preset recipe" : "--sample");
    if (!sample && (top_k >= 0 || top_p >= 0 || temperature >= 0 || min_p >= 0 || typical >= 0))
        return t5_fail_as(err, T5_USAGE,
                          "--temperature, --top-k, --top-p, --min-p and --typical need --sample");
    if (beams == 1 && (early_stopping || !isnan(length_penalty)))
        return t5_fail_as(err, T5_USAGE, "--early-stopping and --length-penalty need --beams");
    if (!sample && returned > beams)
        return t5_fail_as(err, T5_USAGE, "-n %lld needs --sample or as many --beams",
                          (long long)returned);
    if (min_new > max_new)
        return t5_fail_as(err, T5_USAGE, "--min-new-tokens %lld is more than --max-new-tokens %lld",
                          (long long)min_new, (long long)max_new);
    return t5_keep_check(keep_bf16, compute, device, err);
}

static struct t5_search_options search_options(void)
{
    struct t5_search_options o = {.kind = sample      ? T5_SAMPLE
                                          : beams > 1 ? T5_BEAM
                                                      : T5_GREEDY,
                                  .returned = returned,
                                  .max_new = max_new,
                                  .min_new = min_new,
                                  .no_repeat = no_repeat,
                                  .repetition_penalty = repetition_penalty,
                                  .force_eos = force_eos,
                                  .beams = beams,
                                  .length_penalty = isnan(length_penalty) ? 1 : length_penalty,
                                  .sampling = {.temperature = temperature < 0 ? 1 : temperature,
                                               .top_k = top_k < 0 ? 50 : top_k,
                                               .top_p = top_p < 0 ? 1 : top_p,
                                               .min_p = min_p < 0 ? 0 : min_p,
                                               .typical = typical < 0 ? 1 : typical},
                                  .seed = (uint64_t)seed};
    if (early_stopping)
        o.early = strcmp(early_stopping, "true") == 0    ? T5_EARLY_TRUE
                  : strcmp(early_stopping, "never") == 0 ? T5_EARLY_NEVER
                                                         : T5_EARLY_FALSE;
    return o;
}

/* A difference from what an adapter, or the model, was trained with: a warning, or with
 * --strict-settings the end. */
static int differs(struct t5_err *err, const char *where, const char *what)
{
    if (strict)
        return t5_fail(err, "%s: %s", where, what);
    t5_warn(program.name, "%s: %s", where, what);
    return 0;
}

static int check_bases(const struct run *run, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    for (int i = 0; i < run->adapters.n; i++) {
        int foreign = t5_adapter_foreign(&run->adapters.adapters[i], run->checkpoint, err);
        if (foreign < 0)
            return -1;
        t5_escape(shown, adapters.items[i], strlen(adapters.items[i]));
        if (foreign && differs(err, shown, "this adapter was trained on another base model"))
            return -1;
    }
    return 0;
}

/* A packed file's settings against those of every adapter or, without one, of the model. */
static int check_tokens(void *context, const char *file, const struct t5_safetensors *packed,
                        struct t5_err *err)
{
    const struct run *run = context;
    const struct t5_adapter_set *set = &run->adapters;
    struct t5_token_settings here;
    char what[T5_TOKEN_DIFFERENCE], shown[T5_ESCAPED], text[T5_TOKEN_DIFFERENCE + T5_ESCAPED + 32];
    int rc = t5_token_settings_read(&here, packed, err);
    for (int i = 0; rc == 0 && i < (set->n ? set->n : 1); i++) {
        const char *of = set->n ? adapters.items[i] : model_path;
        if (t5_token_settings_compare(what, set->n ? &set->adapters[i].tokens : &run->trained,
                                      &here) == T5_TOKENS_ALIKE)
            continue;
        snprintf(text, sizeof text, "not as %s was trained: %s", t5_escape(shown, of, strlen(of)),
                 what);
        rc = differs(err, file, text);
    }
    t5_token_settings_free(&here);
    return rc;
}

static const char *find_in_model(const void *checkpoint, const char *key)
{
    return t5_checkpoint_metadata(checkpoint, key);
}

/* What names ids waits for the model: its vocabulary says which there are. */
static int read_ids(struct run *run, struct t5_search_options *o, struct t5_err *err)
{
    const struct t5_config *config = t5_model_config(run->model);
    for (int i = 0; i < ban.n; i++)
        if (t5_id_lists_parse(&run->bans, ban.items[i], config->vocab, "--ban", err))
            return -1;
    for (int i = 0; i < ban_file.n; i++)
        if (t5_id_lists_read(&run->bans, ban_file.items[i], config->vocab, config->eos, err))
            return -1;
    for (int64_t i = 0; i < run->bans.n; i++) {
        int64_t n;
        if (t5_id_lists_at(&run->bans, i, &n)[0] == config->eos && n == 1)
            return t5_fail_as(err, T5_USAGE,
                              "--ban: </s> alone cannot be banned (see --min-new-tokens)");
    }
    o->bans = &run->bans;
    if (!force_prefix)
        return 0;
    if (t5_id_lists_parse(&run->prefix, force_prefix, config->vocab, "--force-prefix", err))
        return -1;
    o->prefix = t5_id_lists_at(&run->prefix, 0, &o->n_prefix);
    if (o->n_prefix > max_new)
        return t5_fail_as(err, T5_USAGE,
                          "--force-prefix: %lld ids, more than --max-new-tokens %lld",
                          (long long)o->n_prefix, (long long)max_new);
    return 0;
}

/* A GPU is made for bf16. On a CPU 8-bit weights carry no more than bf16 does, so it is exact
 * enough where the processor multiplies it. */
static enum t5_compute choose_compute(const struct t5_checkpoint *checkpoint)
{
    if (compute)
        return t5_compute_named(compute);
    if (t5_device_is_gpu(device))
        return T5_COMPUTE_BF16;
    int native = 0;
#ifdef __x86_64__
    native = __builtin_cpu_supports("avx512bf16");
#endif
    int quantised = strcmp(t5_checkpoint_quantization(checkpoint), "none") != 0;
    return quantised && native ? T5_COMPUTE_BF16 : T5_COMPUTE_F32;
}

static int open_checkpoint(struct run *run, struct t5_err *err)
{
    if (t5_checkpoint_open(&run->checkpoint, model_path, err))
        return -1;
    t5_check_behind_begin(&run->check, run->checkpoint, 0);
    if (t5_adapter_set_load(&run->adapters, adapters.items, adapters.n, run->checkpoint, err) ||
        check_bases(run, err) ||
        t5_token_settings_read_carried(&run->trained, find_in_model, run->checkpoint, err))
        return -1;
    if (t5_checkpoint_warning(run->checkpoint))
        t5_warn(program.name, "%s", t5_checkpoint_warning(run->checkpoint));
    return 0;
}

static int load_model(struct run *run, struct t5_err *err)
{
    struct t5_device_options how = {.threads = (int)threads, .max_memory = max_memory};
    how.compute = choose_compute(run->checkpoint);
    how.keep_wide = keep_bf16;
    if (t5_backend_open(&run->backend, device, &how, err) ||
        t5_model_open(&run->model, &run->backend, run->checkpoint, NULL, T5_INFER, err))
        return -1;
    for (int i = 0; i < run->adapters.n; i++)
        if (t5_model_add_adapter(run->model, &run->adapters.adapters[i], err))
            return -1;
    return 0;
}

static int open_model(struct run *run, struct t5_err *err)
{
    struct t5_search_options search = search_options();
    int rc = open_checkpoint(run, err) || load_model(run, err) ? -1 : 0;
    if (t5_check_behind_end(&run->check, rc, err))
        return -1;
    t5_checkpoint_close(run->checkpoint); /* the weights are on the device now */
    run->checkpoint = NULL;
    if (read_ids(run, &search, err))
        return -1;
    if (score)
        return t5_scorer_open(&run->scorer, run->model,
                              batch_tokens ? batch_tokens : T5_BATCH_TOKENS, err);
    return t5_generator_open(
        &run->generator, run->model, &search,
        batch_tokens ? batch_tokens : t5_generator_default_tokens(run->model, &search), err);
}

static int open_records(struct run *run, const struct t5_list *files, struct t5_err *err)
{
    struct t5_tokens_options how = {.vocab = t5_model_config(run->model)->vocab,
                                    .labels = score ? T5_LABELS_REQUIRED : T5_LABELS_IGNORED,
                                    .max_input = MOST_SOURCE,
                                    .max_labels = MOST_TARGET,
                                    .max_line = (size_t)max_line,
                                    .opened = check_tokens,
                                    .context = run};
    struct t5_window_options answers = {run->generator, run->scorer, logprobs};
    t5_progress_start(&run->progress, program.name, "records", 0);
    return t5_tokens_open(&run->reader, files->items, files->n, &how, err) ||
                   t5_window_open(&run->window, &answers, err)
               ? -1
               : 0;
}

static void show_progress(void *context, int64_t records, int64_t tokens)
{
    struct run *run = context;
    char note[64];
    double spent = t5_now() - run->progress.started;
    run->records = records;
    run->tokens = tokens;
    snprintf(note, sizeof note, "%.3g tokens/s", spent > 0 ? (double)tokens / spent : 0);
    t5_progress_update(&run->progress, records, note);
}

/* Reads until the window is full, the input ends (0), a record is bad (-1), or the next one would
 * have to be waited for while others are here (1): who types a line is answered at once. */
static int fill_window(struct run *run, struct t5_err *err)
{
    struct t5_token_record record;
    while (!t5_window_full(run->window) &&
           (t5_window_count(run->window) == 0 || t5_tokens_ready(run->reader))) {
        int32_t adapter;
        int rc = t5_tokens_next(run->reader, &record, err);
        if (rc > 0 && t5_adapter_choose(&adapter, &run->adapters, &record, err))
            rc = -1;
        if (rc < 0 && t5_skip_bad(&skip, err))
            continue;
        if (rc <= 0)
            return rc;
        if (t5_window_add(run->window, &record, adapter, err))
            return -1;
    }
    return 1;
}

static void print_stats(struct run *run)
{
    double seconds = t5_now() - run->progress.started;
    double rate = seconds > 0 ? 1 / seconds : 0;
    t5_progress_end(&run->progress);
    fprintf(stderr,
            "{\"records\":%lld,\"tokens\":%lld,\"seconds\":%.6f,\"records_per_s\":%.6g,\"tokens_"
            "per_s\":%.6g,"
            "\"peak_bytes\":%lld}\n",
            (long long)run->records, (long long)run->tokens, seconds, (double)run->records * rate,
            (double)run->tokens * rate, (long long)t5_memory_peak());
}

/* The generator's, which memory may have made smaller than `batches`, what they were. */
static int64_t say_batches(const struct run *run, int64_t batches)
{
    int64_t now = run->generator ? t5_generator_batch_tokens(run->generator) : 0;
    if (now < batches)
        t5_warn(program.name, "memory runs out: batches of %lld tokens from here on, not %lld",
                (long long)now, (long long)batches);
    return now;
}

/* What came before a bad record is answered before that record is reported. */
static int generate(struct run *run, struct t5_err *err)
{
    struct t5_err later;
    int64_t batches = say_batches(run, 0);
    int rc;
    do {
        rc = fill_window(run, err);
        if (t5_window_answer(run->window, stdout, show_progress, run, &later)) {
            *err = later;
            return -1;
        }
        batches = say_batches(run, batches);
    } while (rc > 0);
    if (rc == 0 && stats)
        print_stats(run);
    return rc < 0 ? -1 : t5_skip_end(&skip, run->records, err);
}

static void run_free(struct run *run)
{
    t5_progress_end(&run->progress);
    t5_tokens_close(run->reader);
    t5_window_close(run->window);
    t5_generator_close(run->generator);
    t5_scorer_close(run->scorer);
    t5_model_close(run->model);
    t5_backend_close(&run->backend);
    t5_adapter_set_free(&run->adapters);
    t5_token_settings_free(&run->trained);
    t5_id_lists_free(&run->bans);
    t5_id_lists_free(&run->prefix);
    t5_check_behind_stop(&run->check);
    t5_checkpoint_close(run->checkpoint);
}

static int work(const struct t5_list *files, struct t5_err *err)
{
    struct run run = {0};
    int rc = check_options(err) || open_model(&run, err) || open_records(&run, files, err) ||
                     generate(&run, err)
                 ? -1
                 : 0;
    run_free(&run);
    t5_list_free(&adapters);
    t5_list_free(&ban);
    t5_list_free(&ban_file);
    return rc;
}

int main(int argc, char **argv)
{
    return t5_program_main(&program, argc, argv, work);
}
