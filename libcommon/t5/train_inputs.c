/* train_inputs.c - what a training run reads before its weights: the base model's description, the
 * adapter it starts from, the records. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "io/mapping.h"
#include "t5/adapter_params.h"
#include "t5/train_run.h"

static int open_config(struct t5_train_run *run, struct t5_err *err)
{
    size_t n;
    char shown[T5_ESCAPED];
    const char *path = run->options->from_config;
    t5_escape(shown, path, strlen(path));
    run->config_text = t5_read_regular(AT_FDCWD, path, shown, (size_t)1 << 20, &n, err);
    if (!run->config_text)
        return -1;
    if (t5_json_check(run->config_text, n, err) ||
        t5_config_parse(&run->config, run->config_text, (int64_t)n, err))
        return t5_err_at(err, "%s", shown);
    t5_sha256(run->base_digest, run->config_text, n);
    return 0;
}

static int open_model(struct t5_train_run *run, struct t5_err *err)
{
    if (t5_checkpoint_open(&run->base, run->options->model, err))
        return -1;
    if (t5_checkpoint_warning(run->base))
        run->hooks->warn(t5_checkpoint_warning(run->base));
    run->config = *t5_checkpoint_config(run->base);
    return t5_checkpoint_fingerprint(run->base_digest, run->base, err);
}

static int warn_foreign(const struct t5_train_run *run, struct t5_err *err)
{
    char shown[T5_ESCAPED], text[T5_ESCAPED + 64];
    int foreign = t5_adapter_foreign(&run->adapter, run->base, err);
    if (foreign <= 0)
        return foreign;
    t5_escape(shown, run->options->init, strlen(run->options->init));
    snprintf(text, sizeof text, "%s: this adapter was trained on another base model", shown);
    run->hooks->warn(text);
    return 0;
}

static int open_adapter(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_adapter *a = &run->adapter;
    if (o->init) {
        if (t5_adapter_load(a, o->init, run->base, err))
            return -1;
        a->dropout = o->dropout < 0 ? a->dropout : o->dropout;
        if (warn_foreign(run, err))
            return -1;
    } else {
        if (t5_adapter_init(a, o->targets, o->rank, o->alpha, o->dropout < 0 ? 0.05 : o->dropout,
                            o->rslora, &run->config, err))
            return -1;
        t5_adapter_start(a, (uint64_t)o->seed);
    }
    snprintf(a->base, sizeof a->base, "%s", o->model);
    memcpy(a->base_fingerprint, run->base_digest, sizeof a->base_fingerprint);
    return t5_checkpoint_norms(a->base_norms, run->base, err);
}

int t5_train_open_base(struct t5_train_run *run, struct t5_err *err)
{
    if (run->options->from_config)
        return open_config(run, err);
    return open_model(run, err) || (t5_train_run_is_lora(run) && open_adapter(run, err)) ? -1 : 0;
}

/* A packed file's settings: the first one's are the run's, and the result carries them; others, and
 * the eval file's, are held against it. */
static int check_tokens(void *context, const char *shown, const struct t5_safetensors *file,
                        struct t5_err *err)
{
    struct t5_train_run *run = context;
    struct t5_token_settings here;
    char what[T5_TOKEN_DIFFERENCE], text[401];
    if (t5_token_settings_read(&here, file, err))
        return -1;
    if (!t5_token_settings_known(&run->tokens)) {
        t5_token_settings_free(&run->tokens);
        run->tokens = here;
        return 0;
    }
    enum t5_token_difference found = t5_token_settings_compare(what, &run->tokens, &here);
    t5_token_settings_free(&here);
    if (found == T5_TOKENIZER)
        return t5_fail(err, "%s: not as the first training file: %s", shown, what);
    if (found != T5_TOKENS_ALIKE) {
        snprintf(text, sizeof text, "%s: not as the first training file: %s", shown, what);
        run->hooks->warn(text);
    }
    return 0;
}

static int read_records(struct t5_dataset *data, const char *const *paths, int n,
                        struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_tokens_options how = {.vocab = run->config.vocab,
                                    .labels = T5_LABELS_REQUIRED,
                                    .max_input = o->max_source,
                                    .max_labels = o->max_target,
                                    .truncate = o->truncate,
                                    .max_line = (size_t)o->max_line,
                                    .opened = check_tokens,
                                    .context = run};
    struct t5_tokens_reader *reader;
    struct t5_token_record record;
    int rc;
    if (t5_tokens_open(&reader, paths, n, &how, err))
        return -1;
    while ((rc = t5_tokens_next(reader, &record, err)) != 0) {
        if (rc == 1)
            rc = t5_dataset_add(data, &record, err);
        if (rc < 0 && !run->hooks->pass_over(err))
            break;
    }
    t5_tokens_close(reader);
    return rc;
}

/* What --dry-run plans for when it is given no records: one batch of the longest. */
static int assume_data(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_token_record r = {.n_input = o->max_source ? o->max_source : 512,
                                .n_labels = o->max_target ? o->max_target : 128};
    int32_t *ids = t5_alloc_zeroed((size_t)(r.n_input + r.n_labels), sizeof *ids, "records", err);
    int rc = ids ? 0 : -1;
    r.input = r.labels = ids;
    for (int64_t i = 0; rc == 0 && i < o->batch; i++)
        rc = t5_dataset_add(&run->train, &r, err);
    free(ids);
    return rc;
}

/* An adapter carries the settings itself. One that it starts from has its own: they should be the
 * same. */
static void hand_to_adapter(struct t5_train_run *run)
{
    char what[T5_TOKEN_DIFFERENCE], text[401];
    struct t5_token_settings *old = &run->adapter.tokens;
    if (t5_token_settings_compare(what, old, &run->tokens) != T5_TOKENS_ALIKE) {
        snprintf(text, sizeof text, "training records: not as those of --init's adapter: %s", what);
        run->hooks->warn(text);
    }
    t5_token_settings_free(old);
    *old = run->tokens;
    run->tokens = (struct t5_token_settings){0};
}

/* Answers are read by the tokenizer that made the records. */
static int open_judge(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    char digest[65], what[T5_TOKEN_DIFFERENCE], shown[T5_ESCAPED];
    struct t5_token_settings here = {.values = {digest}};
    if (t5_judge_open(&run->judge, o->tokenizer, &run->eval, run->config.vocab, o->eval_max_new,
                      err))
        return -1;
    t5_judge_digest(digest, run->judge);
    if (t5_token_settings_compare(what, t5_train_run_tokens(run), &here) != T5_TOKENIZER)
        return 0;
    return t5_fail(err, "%s: not as the training records: %s",
                   t5_escape(shown, o->tokenizer, strlen(o->tokenizer)), what);
}

int t5_train_read_data(struct t5_train_run *run, const struct t5_list *files, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    if (o->dry_run && files->n == 0)
        return assume_data(run, err);
    if (read_records(&run->train, files->items, files->n, run, err) ||
        (o->eval && read_records(&run->eval, &o->eval, 1, run, err)))
        return -1;
    if (run->train.n == 0)
        return t5_fail(err, "no records to train on");
    if (o->eval && run->eval.n == 0)
        return t5_fail(err, "%s: no records", o->eval);
    if (t5_train_run_is_lora(run))
        hand_to_adapter(run);
    return o->eval_generate ? open_judge(run, err) : 0;
}
