/* train_run.c - opening a run: settings from options, the identity that its checkpoints carry, the
 * memory plan, and loading. */
/* SPDX-License-Identifier: MIT */
#include "t5/train_run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MICRO_TOKENS 16384

/* A GPU is made for bf16. */
static const char *compute_name(const struct t5_train_options *o)
{
    if (o->compute)
        return o->compute;
    return t5_device_is_gpu(o->device) ? "bf16" : "f32";
}

static int open_device(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_device_options how = {.threads = (int)o->threads,
                                    .compute = t5_compute_named(compute_name(o)),
                                    .tuning = !o->no_tuning,
                                    .keep_wide = o->keep_bf16,
                                    .max_memory = o->max_memory};
    return t5_backend_open(&run->backend, o->device, &how, err) ||
                   t5_optimizer_check(t5_train_options_optimizer(o), &run->backend, err)
               ? -1
               : 0;
}

static enum t5_order_kind order_kind(const struct t5_train_options *o)
{
    return strcmp(o->order, "file") == 0     ? T5_ORDER_FILE
           : strcmp(o->order, "length") == 0 ? T5_ORDER_LENGTH
                                             : T5_ORDER_SHUFFLE;
}

static int64_t total_steps(const struct t5_train_run *run)
{
    const struct t5_train_options *o = run->options;
    return t5_total_steps(run->train.n, o->batch, o->epochs, o->max_steps);
}

static int make_plan(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_train_shape shape = {.backend = &run->backend,
                                   .checkpoint = run->base,
                                   .config = &run->config,
                                   .adapter = t5_train_run_is_lora(run) ? &run->adapter : NULL,
                                   .mode =
                                       t5_train_run_is_lora(run) ? T5_TRAIN_LORA : T5_TRAIN_FULL,
                                   .train = &run->train,
                                   .eval = &run->eval,
                                   .batch = o->batch,
                                   .order = order_kind(o),
                                   .seed = (uint64_t)o->seed,
                                   .steps = total_steps(run),
                                   .optimizer = t5_train_options_optimizer(o),
                                   .decode_new = o->eval_generate ? o->eval_max_new : 0};
    /* where memory was short, the run goes on with the cut it began with: else its bytes would
     * differ */
    const char *began = run->state.file ? t5_train_state_value(&run->state, "micro_tokens") : NULL;
    int64_t want = o->micro_tokens < 0 ? MICRO_TOKENS : o->micro_tokens;
    if (o->micro_tokens < 0 && began && atoll(began) > 0)
        want = atoll(began);
    run->micro_tokens = want;
    if (run->state.file && run->state.position.pass_tokens < want)
        want = run->state.position.pass_tokens;
    if (t5_train_plan_make(&run->plan, &shape, want, run->state.file != NULL, err))
        return -1;
    if (!run->state.file)
        run->micro_tokens = run->plan.micro_tokens;
    run->backend.compact = run->plan.compact;
    if (run->plan.fits || o->dry_run)
        return 0;
    return t5_fail_as(
        err, T5_ENVIRONMENT, "the run needs %lld bytes of memory, %lld are %s (see --dry-run)",
        (long long)run->plan.bytes, (long long)(run->plan.free_bytes + run->plan.taken),
        o->max_memory ? "left by --max-memory" : "free");
}

/* ---- settings ---- */

/* Batches that are left out. A run may be told of more of them at a checkpoint before them; those
 * up to there are what they were. */
static int read_skips(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_state *state = &run->state;
    const char *now = run->options->skip_batches,
               *then = state->file ? t5_train_state_value(state, "skip_batches") : NULL;
    struct t5_ranges before = {.n = 0};
    char had[T5_RANGES_TEXT], here[T5_RANGES_TEXT];
    if ((now && t5_ranges_parse(&run->skips, now, "--skip-batches", err)) ||
        (then && t5_ranges_parse(&before, then, "the checkpoint's skip_batches", err)))
        return -1;
    if (run->skips.n && run->skips.last[run->skips.n - 1] > total_steps(run))
        return t5_fail_as(err, T5_USAGE, "--skip-batches %lld: the run has %lld steps",
                          (long long)run->skips.last[run->skips.n - 1],
                          (long long)total_steps(run));
    if (!now)
        run->skips = before;
    if (!state->file)
        return 0;
    t5_ranges_print(had, &before, state->position.step);
    t5_ranges_print(here, &run->skips, state->position.step);
    if (strcmp(had, here) == 0)
        return 0;
    return t5_fail(err,
                   "%s/checkpoint.%d.safetensors: made with another skip_batches up to its step "
                   "%lld: %.64s there, %.64s here",
                   run->options->output, state->slot, (long long)state->position.step,
                   had[0] ? had : "none", here[0] ? here : "none");
}

static int make_settings(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_train_settings *s = &run->settings;
    s->batch = o->batch;
    s->micro_tokens = run->plan.micro_tokens;
    s->total_steps = total_steps(run);
    s->schedule = t5_train_options_schedule(o, s->total_steps);
    s->optimizer = (struct t5_optimizer_settings){.kind = t5_train_options_optimizer(o),
                                                  .clip = o->clip,
                                                  .weight_decay = o->weight_decay,
                                                  .lora_plus = o->lora_plus};
    s->model_dropout = o->model_dropout < 0 ? (double)run->config.dropout : o->model_dropout;
    s->lora_dropout = t5_train_run_is_lora(run) ? run->adapter.dropout : 0;
    s->seed = (uint64_t)o->seed;
    s->order = order_kind(o);
    s->label_smoothing = o->label_smoothing;
    s->tolerate = o->tolerate;
    s->spike_z = o->spike_z;
    s->spike_window = o->spike_window;
    s->spike_skip = strcmp(o->on_spike, "skip") == 0;
    s->skip = &run->skips;
    s->stop = run->hooks->stop;
    s->eval = &run->eval;
    s->cut = t5_train_passes_cut;
    s->context = run;
    if (s->schedule.kind == T5_SCHEDULE_WSD &&
        s->schedule.warmup + s->schedule.decay > s->total_steps)
        return t5_fail_as(
            err, T5_USAGE, "--warmup %lld and --decay %lld are longer than the run of %lld steps",
            (long long)s->schedule.warmup, (long long)s->schedule.decay, (long long)s->total_steps);
    return 0;
}

/* ---- identity: all that the bytes of the result depend on ---- */

static void add_lora(struct t5_identity *id, const struct t5_train_run *run)
{
    t5_identity_add(id, "rank", "%lld", (long long)run->adapter.rank);
    t5_identity_add(id, "alpha", "%.17g", run->adapter.alpha);
    t5_identity_add(id, "dropout", "%.17g", run->adapter.dropout);
    t5_identity_add(id, "rslora", "%d", run->adapter.rslora);
    t5_identity_add(id, "targets", "%s", run->adapter.targets);
    t5_identity_add(id, "lora_plus", "%.17g", run->options->lora_plus);
}

static void add_schedule(struct t5_identity *id, const struct t5_train_run *run)
{
    const struct t5_schedule *s = &run->settings.schedule;
    t5_identity_add(id, "lr", "%.17g", s->lr);
    t5_identity_add(id, "schedule", "%s", run->options->schedule);
    t5_identity_add(id, "warmup", "%lld", (long long)s->warmup);
    if (s->kind == T5_SCHEDULE_WSD)
        t5_identity_add(id, "decay", "%lld", (long long)s->decay);
}

static void add_spikes(struct t5_identity *id, const struct t5_train_run *run)
{
    const struct t5_train_options *o = run->options;
    char text[T5_RANGES_TEXT];
    t5_identity_add(id, "spike_z", "%.17g", o->spike_z);
    if (o->spike_z > 0) {
        t5_identity_add(id, "spike_window", "%lld", (long long)o->spike_window);
        t5_identity_add(id, "on_spike", "%s", o->on_spike);
    }
    if (run->skips.n)
        t5_identity_add(id, "skip_batches", "%s", t5_ranges_print(text, &run->skips, INT64_MAX));
}

/* What is kept as the best, and where early stopping ends, depends on what is measured. */
static void add_evaluation(struct t5_identity *id, const struct t5_train_run *run)
{
    const struct t5_train_options *o = run->options;
    char digest[65];
    if (!o->best)
        return;
    t5_identity_add(id, "best_by", "%s", o->best);
    t5_identity_add(id, "early_stopping", "%lld", (long long)o->early_stopping);
    t5_identity_add(id, "eval_every", "%lld", (long long)o->eval_every);
    t5_dataset_digest(digest, &run->eval);
    t5_identity_add(id, "eval", "%s", digest);
    if (!run->judge)
        return;
    t5_judge_digest(digest, run->judge);
    t5_identity_add(id, "tokenizer", "%s", digest);
    t5_identity_add(id, "eval_max_new", "%lld", (long long)o->eval_max_new);
}

/* Before the records' digest, so that a difference is named by its cause. */
static void add_tokens(struct t5_identity *id, const struct t5_train_run *run)
{
    struct t5_metadata rows[T5_TOKEN_SETTINGS];
    char shown[T5_ESCAPED];
    int n = t5_token_settings_rows(rows, t5_train_run_tokens(run));
    for (int i = 0; i < n; i++)
        t5_identity_add(id, rows[i].key, "%s",
                        t5_escape(shown, rows[i].value, strlen(rows[i].value)));
}

static void make_identity(struct t5_train_run *run)
{
    const struct t5_train_options *o = run->options;
    const struct t5_train_settings *s = &run->settings;
    struct t5_identity *id = &run->identity;
    char digest[65];
    t5_identity_add(id, "mode", "%s", o->from_config ? "from-config" : o->full ? "full" : "lora");
    t5_identity_add(id, "base", "%s", run->base_digest);
    add_tokens(id, run);
    t5_dataset_digest(digest, &run->train);
    t5_identity_add(id, "data", "%s", digest);
    if (t5_train_run_is_lora(run))
        add_lora(id, run);
    t5_identity_add(id, "batch", "%lld", (long long)s->batch);
    t5_identity_add(id, "total_steps", "%lld", (long long)s->total_steps);
    t5_identity_add(id, "micro_tokens", "%lld", (long long)run->micro_tokens);
    add_schedule(id, run);
    t5_identity_add(id, "optimizer", "%s", o->optimizer);
    t5_identity_add(id, "clip", "%.17g", o->clip);
    t5_identity_add(id, "weight_decay", "%.17g", o->weight_decay);
    t5_identity_add(id, "label_smoothing", "%.17g", o->label_smoothing);
    t5_identity_add(id, "model_dropout", "%.9g", s->model_dropout);
    t5_identity_add(id, "seed", "%lld", (long long)o->seed);
    t5_identity_add(id, "order", "%s", o->order);
    t5_identity_add(id, "tolerate", "%lld", (long long)o->tolerate);
    add_spikes(id, run);
    add_evaluation(id, run);
    t5_identity_add(id, "compute", "%s", compute_name(o));
    if (o->keep_bf16)
        t5_identity_add(id, "keep_bf16", "%s", o->keep_bf16);
    t5_identity_add(id, "backend", "%s", run->backend.ops.name);
}

/* ---- opening, loading, closing ---- */

int t5_train_run_open(struct t5_train_run *run, const struct t5_train_options *options,
                      const struct t5_train_hooks *hooks, const struct t5_list *files,
                      struct t5_err *err)
{
    *run = (struct t5_train_run){.options = options, .hooks = hooks, .lock = -1, .saved = -1};
    t5_train_log_start(&run->log, STDOUT_FILENO);
    if ((!options->dry_run && t5_train_open_output(run, err)) || t5_train_open_base(run, err))
        return -1;
    if (run->base && !options->dry_run)
        t5_check_behind_begin(&run->check, run->base, 1);
    if (open_device(run, err) || t5_train_read_data(run, files, err) || make_plan(run, err) ||
        read_skips(run, err) || make_settings(run, err))
        return -1;
    make_identity(run);
    return options->dry_run ? 0 : t5_train_check_output(run, err);
}

static int load_model(struct t5_train_run *run, struct t5_err *err)
{
    int lora = t5_train_run_is_lora(run);
    if (run->options->from_config)
        return t5_model_create(&run->model, &run->backend, &run->config,
                               (uint64_t)run->options->seed, err);
    return t5_model_open(&run->model, &run->backend, run->base, lora ? &run->adapter : NULL,
                         lora ? T5_TRAIN_LORA : T5_TRAIN_FULL, err);
}

static int load(struct t5_train_run *run, struct t5_err *err)
{
    int rc = 0;
    if (load_model(run, err) || t5_trainer_open(&run->trainer, run->model, &run->train,
                                                &run->plan.limits, &run->settings, err))
        return -1;
    if (run->state.file)
        rc = t5_train_state_load(&run->state, run->model, run->trainer, err);
    t5_train_state_free(&run->state); /* its file is the next but one to be replaced */
    /* what can be cut comes last */
    return rc ? -1 : t5_trainer_reserve(run->trainer, err);
}

int t5_train_run_load(struct t5_train_run *run, struct t5_err *err)
{
    return load(run, err) ? t5_check_behind_end(&run->check, -1, err) : 0;
}

void t5_train_run_close(struct t5_train_run *run)
{
    t5_train_log_close(&run->log);
    t5_trainer_close(run->trainer);
    t5_model_close(run->model);
    t5_train_state_free(&run->state);
    t5_dataset_free(&run->train);
    t5_dataset_free(&run->eval);
    t5_judge_close(run->judge);
    t5_token_settings_free(&run->tokens);
    t5_adapter_free(&run->adapter);
    t5_check_behind_stop(&run->check);
    t5_checkpoint_close(run->base);
    free(run->config_text);
    if (run->backend.dev)
        t5_backend_close(&run->backend);
    if (run->lock >= 0)
        close(run->lock);
}
