/* t5-train.c - LoRA or full fine-tuning: token records in, an adapter or a model out, metrics on
 * standard output. The loop's parts are t5/trainer.h, t5/train_state.h and t5/train_plan.h. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/program.h"
#include "base/skip.h"
#include "io/atomic.h"
#include "io/mapping.h"
#include "t5/adapter_params.h"
#include "t5/finite.h"
#include "t5/model_export.h"
#include "t5/train_log.h"
#include "t5/train_plan.h"
#include "t5/train_state.h"

#define MICRO_TOKENS 16384

static const char *model_path, *output, *targets, *config_path, *init_path, *eval_path;
static const char *schedule_name = "linear", *order_name = "shuffle", *compute = "f32",
                  *device = "auto";
static const char *save_as = "f32";
static int64_t rank = -1, epochs = 5, max_steps = -1, warmup, batch = 8, seed = 42;
static int64_t eval_every, save_every = 500, micro_tokens = -1, tolerate, threads;
static int64_t max_source, max_target, max_line = (int64_t)T5_MAX_LINE;
static double alpha = -1, dropout = -1, lr = 1e-3, clip = 1, weight_decay, model_dropout = -1;
static int full, resume, rslora, dry_run, truncate_long;
static struct t5_skip skip = {.program = "t5-train"};

static const struct t5_option options[] = {
    {"model", 'm', T5_OPT_STRING, "MODEL", &model_path, 0, 0,
     "HF directory or a file of t5-quantize"},
    {"output", 'o', T5_OPT_STRING, "DIR", &output, 0, 0,
     "where adapter or model and checkpoints go"},
    {"rank", 0, T5_OPT_INT, "N", &rank, 1, 4096, "LoRA rank [16]"},
    {"alpha", 0, T5_OPT_REAL, "X", &alpha, 1e-6, 1e6, "LoRA scale is alpha / rank [32]"},
    {"dropout", 0, T5_OPT_REAL, "P", &dropout, 0, 0.99, "dropout of LoRA's input [0.05]"},
    {"targets", 0, T5_OPT_STRING, "LIST", &targets, 0, 0,
     "adapted projections: q,k,v,o,wi,wi_0,wi_1,wo, or all [q,v]"},
    {"rslora", 0, T5_OPT_FLAG, NULL, &rslora, 0, 0, "LoRA scale is alpha / sqrt(rank)"},
    {"init", 0, T5_OPT_STRING, "ADAPTER", &init_path, 0, 0,
     "go on from this PEFT adapter, its rank and alpha"},
    {"full", 0, T5_OPT_FLAG, NULL, &full, 0, 0, "train every weight; DIR becomes an HF model"},
    {"from-config", 0, T5_OPT_STRING, "CONFIG", &config_path, 0, 0,
     "train a new model of this config.json; implies --full"},
    {"save-as", 0, T5_OPT_CHOICE, "f32|bf16", &save_as, 0, 0,
     "type of the weights that --full writes"},
    {"epochs", 0, T5_OPT_INT, "N", &epochs, 1, 1000000, "passes over the data"},
    {"max-steps", 0, T5_OPT_INT, "N", &max_steps, 1, 1e12, "steps, whatever --epochs says"},
    {"batch", 0, T5_OPT_INT, "N", &batch, 1, 65536, "records a step"},
    {"lr", 0, T5_OPT_REAL, "X", &lr, 0, 1e30, "highest learning rate"},
    {"schedule", 0, T5_OPT_CHOICE, "linear|cosine|constant", &schedule_name, 0, 0, "how it falls"},
    {"warmup", 0, T5_OPT_INT, "N", &warmup, 0, 1e12, "steps over which it rises"},
    {"clip", 0, T5_OPT_REAL, "X", &clip, 0, 1e30, "largest gradient norm; 0: no limit"},
    {"weight-decay", 0, T5_OPT_REAL, "X", &weight_decay, 0, 1000,
     "AdamW's, norms and biases exempt"},
    {"model-dropout", 0, T5_OPT_REAL, "P", &model_dropout, 0, 0.99,
     "T5's own [the config's dropout_rate]"},
    {"seed", 0, T5_OPT_INT, "N", &seed, 0, 9007199254740992, "of order, dropout and first values"},
    {"order", 0, T5_OPT_CHOICE, "shuffle|file", &order_name, 0, 0, "of the records in an epoch"},
    {"eval", 0, T5_OPT_STRING, "FILE", &eval_path, 0, 0, "records whose loss is measured"},
    {"eval-every", 0, T5_OPT_INT, "N", &eval_every, 0, 1e12,
     "steps between measurements; 0: an epoch"},
    {"save-every", 0, T5_OPT_INT, "N", &save_every, 0, 1e12,
     "steps between checkpoints; 0: none before the end"},
    {"resume", 0, T5_OPT_FLAG, NULL, &resume, 0, 0, "go on from the newest checkpoint in DIR"},
    {"tolerate", 0, T5_OPT_INT, "N", &tolerate, 0, 1000000,
     "steps in a row with gradients not finite that are passed over"},
    {"micro-tokens", 0, T5_OPT_INT, "N", &micro_tokens, 1, 1 << 28, "tokens of one pass [16384]"},
    {"max-source", 0, T5_OPT_INT, "N", &max_source, 0, 1 << 20,
     "refuse longer inputs (tokens); 0: no limit"},
    {"max-target", 0, T5_OPT_INT, "N", &max_target, 0, 1 << 20,
     "refuse longer labels (tokens); 0: no limit"},
    {"truncate", 0, T5_OPT_FLAG, NULL, &truncate_long, 0, 0, "cut what is longer instead"},
    {"compute", 0, T5_OPT_CHOICE, "f32|bf16", &compute, 0, 0, "arithmetic with frozen weights"},
    {"device", 0, T5_OPT_STRING, "DEVICE", &device, 0, 0, "auto, cpu, cuda, cuda:N or ref"},
    {"threads", 0, T5_OPT_INT, "N", &threads, 0, 1024, "0: as many as the process may use"},
    {"skip-bad", 0, T5_OPT_FLAG, NULL, &skip.on, 0, 0, "go on after a bad record; exit 3"},
    {"max-line", 0, T5_OPT_INT, "N", &max_line, 2, 1 << 30, "refuse longer lines (bytes)"},
    {"dry-run", 0, T5_OPT_FLAG, NULL, &dry_run, 0, 0, "print the memory plan and exit"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {
    "t5-train", "Fine-tune a T5 model on token records: a LoRA adapter, or every weight.",
    "[FILE...]", options};

/* What one run holds open. */
struct run {
    struct t5_backend_handle backend;
    struct t5_checkpoint *base; /* NULL with --from-config */
    char *config_text;          /* --from-config: owned */
    struct t5_config config;
    char base_digest[65];
    struct t5_adapter adapter; /* LoRA */
    struct t5_dataset train, eval;
    struct t5_train_settings settings;
    struct t5_train_plan plan;
    struct t5_identity identity;
    struct t5_train_state state; /* where --resume goes on */
    struct t5_model *model;
    struct t5_trainer *trainer;
    struct t5_train_log log;
    int lock, slot; /* slot: which checkpoint is written next */
    int64_t saved;  /* the step of the newest checkpoint; -1: none */
};

/* ---- signals ---- */

static volatile sig_atomic_t stop_signal;

/* The first asks the run to save and end; the second ends it. */
static void on_signal(int number)
{
    if (stop_signal) {
        t5_atomic_remove_all();
        signal(number, SIG_DFL);
        raise(number);
    }
    stop_signal = number;
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], NULL, &old);
        if (old.sa_handler != SIG_IGN) /* nohup stays in force */
            sigaction(numbers[i], &action, NULL);
    }
}

/* ---- options ---- */

static int is_lora(void)
{
    return !full;
}

static int same_file(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

static int usage(struct t5_err *err, const char *text)
{
    return t5_fail_as(err, T5_USAGE, "%s (see --help)", text);
}

static int check_lora_options(struct t5_err *err)
{
    int shaped = rank >= 0 || alpha >= 0 || targets || rslora;
    if (full && (shaped || dropout >= 0 || init_path))
        return usage(err, "--full takes none of LoRA's options");
    if (init_path && shaped)
        return usage(err, "--init brings its own rank, alpha, targets and rsLoRA");
    rank = rank < 0 ? 16 : rank;
    alpha = alpha < 0 ? 32 : alpha;
    targets = targets ? targets : "q,v";
    return 0;
}

static int check_options(const struct t5_list *files, struct t5_err *err)
{
    full = full || config_path;
    if (!model_path == !config_path)
        return usage(err, "one of --model and --from-config is needed");
    if (!output && !dry_run)
        return usage(err, "--output is missing");
    if (same_file(output, model_path) || same_file(output, init_path))
        return usage(err, "--output is also an input");
    if (model_path && strcmp(model_path, "-") == 0 && (files->n == 0 || resume))
        return usage(err, "a model on standard input leaves no room for records there");
    if (truncate_long && !max_source && !max_target)
        return usage(err, "--truncate needs --max-source or --max-target");
    return check_lora_options(err);
}

/* ---- inputs ---- */

static int open_config(struct run *run, struct t5_err *err)
{
    size_t n;
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char shown[T5_ESCAPED];
    t5_escape(shown, config_path, strlen(config_path));
    run->config_text = t5_read_regular(AT_FDCWD, config_path, shown, (size_t)1 << 20, &n, err);
    if (!run->config_text)
        return -1;
    if (t5_json_check(run->config_text, n, err) ||
        t5_config_parse(&run->config, run->config_text, (int64_t)n, err))
        return t5_err_at(err, "%s", shown);
    sha256_init(&sha);
    sha256_update(&sha, n, (const uint8_t *)run->config_text);
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(run->base_digest + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

static int open_base(struct run *run, struct t5_err *err)
{
    if (config_path)
        return open_config(run, err);
    if (t5_checkpoint_open(&run->base, model_path, err))
        return -1;
    if (t5_checkpoint_warning(run->base))
        t5_warn(program.name, "%s", t5_checkpoint_warning(run->base));
    run->config = *t5_checkpoint_config(run->base);
    return t5_checkpoint_fingerprint(run->base_digest, run->base, err);
}

static int open_adapter(struct run *run, struct t5_err *err)
{
    struct t5_adapter *a = &run->adapter;
    if (!is_lora())
        return 0;
    if (init_path) {
        if (t5_adapter_load(a, init_path, run->base, err))
            return -1;
        a->dropout = dropout < 0 ? a->dropout : dropout;
    } else {
        if (t5_adapter_init(a, targets, rank, alpha, dropout < 0 ? 0.05 : dropout, rslora,
                            &run->config, err))
            return -1;
        t5_adapter_start(a, (uint64_t)seed);
    }
    snprintf(a->base, sizeof a->base, "%s", model_path);
    memcpy(a->base_fingerprint, run->base_digest, sizeof a->base_fingerprint);
    return 0;
}

static int read_records(struct t5_dataset *data, const char *const *paths, int n,
                        const struct run *run, struct t5_err *err)
{
    struct t5_tokens_options how = {.vocab = run->config.vocab,
                                    .labels = T5_LABELS_REQUIRED,
                                    .max_input = max_source,
                                    .max_labels = max_target,
                                    .truncate = truncate_long,
                                    .max_line = (size_t)max_line};
    struct t5_tokens_reader *reader;
    struct t5_token_record record;
    int rc;
    if (t5_tokens_open(&reader, paths, n, &how, err))
        return -1;
    while ((rc = t5_tokens_next(reader, &record, err)) != 0) {
        if (rc == 1)
            rc = t5_dataset_add(data, &record, err);
        if (rc < 0 && !t5_skip_bad(&skip, err))
            break;
    }
    t5_tokens_close(reader);
    return rc;
}

/* What --dry-run plans for when it is given no records: one batch of the longest. */
static int assume_data(struct run *run, struct t5_err *err)
{
    struct t5_token_record r = {.n_input = max_source ? max_source : 512,
                                .n_labels = max_target ? max_target : 128};
    int32_t *ids = t5_alloc_zeroed((size_t)(r.n_input + r.n_labels), sizeof *ids, "records", err);
    int rc = ids ? 0 : -1;
    r.input = r.labels = ids;
    for (int64_t i = 0; rc == 0 && i < batch; i++)
        rc = t5_dataset_add(&run->train, &r, err);
    free(ids);
    return rc;
}

static int read_data(struct run *run, const struct t5_list *files, struct t5_err *err)
{
    if (dry_run && files->n == 0)
        return assume_data(run, err);
    if (read_records(&run->train, files->items, files->n, run, err) ||
        (eval_path && read_records(&run->eval, &eval_path, 1, run, err)))
        return -1;
    if (run->train.n == 0)
        return t5_fail(err, "no records to train on");
    if (eval_path && run->eval.n == 0)
        return t5_fail(err, "%s: no records", eval_path);
    return 0;
}

static int open_device(struct run *run, struct t5_err *err)
{
    struct t5_device_options how = {.threads = (int)threads,
                                    .compute = strcmp(compute, "bf16") == 0 ? T5_COMPUTE_BF16
                                                                            : T5_COMPUTE_F32};
    return t5_backend_open(&run->backend, device, &how, err);
}

/* ---- settings ---- */

static void make_settings(struct run *run)
{
    struct t5_train_settings *s = &run->settings;
    s->batch = batch;
    s->micro_tokens = run->plan.micro_tokens;
    s->total_steps = t5_total_steps(run->train.n, batch, epochs, max_steps);
    s->schedule =
        (struct t5_schedule){.kind = strcmp(schedule_name, "linear") == 0   ? T5_SCHEDULE_LINEAR
                                     : strcmp(schedule_name, "cosine") == 0 ? T5_SCHEDULE_COSINE
                                                                            : T5_SCHEDULE_CONSTANT,
                             .lr = lr,
                             .warmup = warmup,
                             .total = s->total_steps};
    s->optimizer = (struct t5_optimizer_settings){.clip = clip, .weight_decay = weight_decay};
    s->model_dropout = model_dropout < 0 ? (double)run->config.dropout : model_dropout;
    s->lora_dropout = is_lora() ? run->adapter.dropout : 0;
    s->seed = (uint64_t)seed;
    s->order = strcmp(order_name, "file") == 0 ? T5_ORDER_FILE : T5_ORDER_SHUFFLE;
    s->tolerate = tolerate;
    s->stop = &stop_signal;
}

static void add_lora_identity(struct run *run)
{
    struct t5_identity *id = &run->identity;
    t5_identity_add(id, "rank", "%lld", (long long)run->adapter.rank);
    t5_identity_add(id, "alpha", "%.17g", run->adapter.alpha);
    t5_identity_add(id, "dropout", "%.17g", run->adapter.dropout);
    t5_identity_add(id, "rslora", "%d", run->adapter.rslora);
    t5_identity_add(id, "targets", "%s", run->adapter.targets);
}

/* All that the bytes of the result depend on. */
static void make_identity(struct run *run)
{
    const struct t5_train_settings *s = &run->settings;
    struct t5_identity *id = &run->identity;
    char digest[65];
    t5_identity_add(id, "mode", "%s", config_path ? "from-config" : full ? "full" : "lora");
    t5_identity_add(id, "base", "%s", run->base_digest);
    t5_dataset_digest(digest, &run->train);
    t5_identity_add(id, "data", "%s", digest);
    if (is_lora())
        add_lora_identity(run);
    t5_identity_add(id, "batch", "%lld", (long long)s->batch);
    t5_identity_add(id, "total_steps", "%lld", (long long)s->total_steps);
    t5_identity_add(id, "micro_tokens", "%lld", (long long)s->micro_tokens);
    t5_identity_add(id, "lr", "%.17g", lr);
    t5_identity_add(id, "schedule", "%s", schedule_name);
    t5_identity_add(id, "warmup", "%lld", (long long)warmup);
    t5_identity_add(id, "clip", "%.17g", clip);
    t5_identity_add(id, "weight_decay", "%.17g", weight_decay);
    t5_identity_add(id, "model_dropout", "%.9g", s->model_dropout);
    t5_identity_add(id, "seed", "%lld", (long long)seed);
    t5_identity_add(id, "order", "%s", order_name);
    t5_identity_add(id, "tolerate", "%lld", (long long)tolerate);
    t5_identity_add(id, "compute", "%s", compute);
    t5_identity_add(id, "backend", "%s", run->backend.ops.name);
}

static int make_plan(struct run *run, struct t5_err *err)
{
    struct t5_train_shape shape = {.backend = &run->backend,
                                   .checkpoint = run->base,
                                   .config = &run->config,
                                   .adapter = is_lora() ? &run->adapter : NULL,
                                   .mode = is_lora() ? T5_TRAIN_LORA : T5_TRAIN_FULL,
                                   .train = &run->train,
                                   .eval = &run->eval,
                                   .batch = batch};
    /* where memory was short, the run goes on with the cut it began with: else its bytes would
     * differ */
    const char *began = run->state.file ? t5_train_state_value(&run->state, "micro_tokens") : NULL;
    int64_t want = micro_tokens < 0 ? MICRO_TOKENS : micro_tokens;
    if (micro_tokens < 0 && began && atoll(began) > 0)
        want = atoll(began);
    if (t5_train_plan_make(&run->plan, &shape, want, run->state.file != NULL, err))
        return -1;
    if (run->plan.fits || dry_run)
        return 0;
    return t5_fail_as(err, T5_ENVIRONMENT,
                      "the run needs %lld bytes of memory, %lld are free (see --dry-run)",
                      (long long)run->plan.bytes, (long long)run->plan.free_bytes);
}

/* ---- the output directory ---- */

/* The directory is ours before anything large is read. */
static int open_output(struct run *run, struct t5_err *err)
{
    if (t5_dir_lock(&run->lock, output, err) || t5_atomic_sweep(output, err) ||
        t5_train_state_find(&run->state, output, err))
        return -1;
    if (run->state.warning[0])
        t5_warn(program.name, "%s; going back to checkpoint.%d.safetensors at step %lld",
                run->state.warning, run->state.slot, (long long)run->state.position.step);
    if (resume || !run->state.file)
        return 0;
    if (!run->state.finished)
        return t5_fail_as(
            err, T5_USAGE,
            "%s: holds a run that ended at step %lld: --resume goes on with it, or remove "
            "its checkpoint files",
            output, (long long)run->state.position.step);
    t5_train_state_free(&run->state);
    return t5_train_state_remove(output, -1, err);
}

static int64_t product_bytes(const struct run *run)
{
    return run->plan.trainable * (is_lora() || strcmp(save_as, "f32") == 0 ? 4 : 2);
}

static int check_space(const struct run *run, struct t5_err *err)
{
    struct statvfs fs;
    int64_t need = 2 * t5_train_state_bytes(run->plan.trainable) + product_bytes(run);
    if (statvfs(output, &fs) != 0)
        return t5_fail_errno(err, "%s", output);
    int64_t left = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    if (left < need)
        return t5_fail_as(err, T5_ENVIRONMENT, "%s: checkpoints need %lld bytes, %lld are free",
                          output, (long long)need, (long long)left);
    return 0;
}

static int check_state(struct run *run, struct t5_err *err)
{
    const char *tool;
    run->saved = -1;
    if (!run->state.file)
        return 0;
    if (t5_train_state_check(&run->state, output, &run->identity, err))
        return -1;
    tool = t5_train_state_value(&run->state, "tool");
    if (!tool || strcmp(tool, t5_version) != 0)
        t5_warn(program.name,
                "the checkpoint was made by version %.40s: the result may differ in its last bits",
                tool ? tool : "unknown");
    run->slot = !run->state.slot;
    run->saved = run->state.position.step;
    return 0;
}

/* ---- loading ---- */

static int load_model(struct run *run, struct t5_err *err)
{
    if (config_path)
        return t5_model_create(&run->model, &run->backend, &run->config, (uint64_t)seed, err);
    if (t5_checkpoint_verify(run->base, err) || t5_checkpoint_check_finite(run->base, err))
        return -1;
    return t5_model_open(&run->model, &run->backend, run->base, is_lora() ? &run->adapter : NULL,
                         is_lora() ? T5_TRAIN_LORA : T5_TRAIN_FULL, err);
}

static int load_all(struct run *run, struct t5_err *err)
{
    if (load_model(run, err) || t5_model_reserve(run->model, &run->plan.limits, err) ||
        t5_trainer_open(&run->trainer, run->model, &run->train, &run->plan.limits, &run->settings,
                        err))
        return -1;
    if (!run->state.file)
        return 0;
    int rc = t5_train_state_load(&run->state, run->model, run->trainer, err);
    t5_train_state_free(&run->state); /* its file is the next but one to be replaced */
    return rc;
}

/* ---- the run ---- */

static int log_head(struct run *run, const char *event, struct t5_err *err)
{
    struct t5_train_head head = {.model = model_path ? model_path : config_path,
                                 .output = output,
                                 .mode = is_lora() ? "lora" : "full",
                                 .device = run->backend.ops.name,
                                 .records = run->train.n,
                                 .eval_records = run->eval.n,
                                 .steps = run->settings.total_steps,
                                 .epoch_steps = (run->train.n + batch - 1) / batch,
                                 .resumed = run->saved,
                                 .checkpoint_bytes = t5_train_state_bytes(run->plan.trainable)};
    return t5_train_log_head(&run->log, event, &head, &run->plan, err);
}

static int save(struct run *run, int finished, struct t5_err *err)
{
    if (t5_train_state_save(output, run->slot, run->model, run->trainer, &run->identity, finished,
                            err))
        return -1;
    run->slot = !run->slot;
    run->saved = t5_trainer_position(run->trainer).step;
    return 0;
}

static int eval_is_due(const struct run *run, int64_t step)
{
    int64_t every = eval_every ? eval_every : (run->train.n + batch - 1) / batch;
    return eval_path && step > 0 && (step % every == 0 || step == run->settings.total_steps);
}

/* 1: measured, or nothing to measure; 0: stopped by a signal, and the next run measures. */
static int evaluate(struct run *run, struct t5_err *err)
{
    struct t5_train_position at = t5_trainer_position(run->trainer);
    double loss, began = t5_now();
    int64_t tokens;
    if (!eval_is_due(run, at.step) || at.evaluated == at.step)
        return 1;
    int rc = t5_trainer_evaluate(run->trainer, &run->eval, &loss, &tokens, err);
    if (rc <= 0)
        return rc;
    int64_t epoch_steps = (run->train.n + batch - 1) / batch;
    t5_train_log_eval(&run->log, at.step, (double)at.step / (double)epoch_steps, loss, tokens,
                      t5_now() - began);
    at.evaluated = at.step;
    t5_trainer_set_position(run->trainer, &at);
    return 1;
}

static void show(struct t5_progress *progress, const struct t5_step_report *r)
{
    char note[48];
    snprintf(note, sizeof note, "loss %.4f", r->loss);
    t5_progress_update(progress, r->step, note);
}

/* 1: all steps are made and measured; 0: stopped by a signal. */
static int train(struct run *run, struct t5_progress *progress, struct t5_err *err)
{
    struct t5_step_report report;
    int warned = 0, rc = evaluate(run, err);
    while (rc == 1) {
        rc = t5_trainer_step(run->trainer, &report, err);
        if (rc <= 0)
            break;
        t5_train_log_step(&run->log, &report);
        show(progress, &report);
        if (run->log.failure && !warned++)
            t5_warn(program.name, "<stdout>: %s: training goes on without its log",
                    strerror(run->log.failure));
        rc = evaluate(run, err);
        if (rc == 1 && save_every && report.step % save_every == 0 &&
            report.step < run->settings.total_steps && save(run, 0, err))
            rc = -1;
    }
    return rc == 0 && !stop_signal ? 1 : rc;
}

static int write_product(struct run *run, struct t5_err *err)
{
    int64_t n;
    const char *text = run->config_text;
    if (is_lora())
        return t5_adapter_fetch(&run->adapter, run->model, err) ||
                       t5_adapter_save(&run->adapter, output, err)
                   ? -1
                   : 0;
    if (text)
        n = (int64_t)strlen(text);
    else
        text = t5_checkpoint_config_text(run->base, &n);
    return t5_model_export(output, run->model, text, n,
                           strcmp(save_as, "bf16") == 0 ? T5_BF16 : T5_F32, err);
}

/* Saves what a stopped run has, and ends as the signal would have ended it. */
static int end_by_signal(struct run *run, struct t5_err *err)
{
    int64_t step = t5_trainer_position(run->trainer).step;
    int number = stop_signal;
    if (run->saved != step && save(run, 0, err))
        return -1;
    t5_train_log_end(&run->log, "stopped", step);
    signal(number, SIG_DFL);
    raise(number);
    return 0;
}

static int run_and_write(struct run *run, struct t5_err *err)
{
    struct t5_progress progress;
    int64_t total = run->settings.total_steps;
    if (log_head(run, "start", err))
        return -1;
    t5_progress_start(&progress, program.name, "steps", total);
    catch_signals();
    int rc = train(run, &progress, err);
    t5_progress_end(&progress);
    if (rc <= 0)
        return rc < 0 ? -1 : end_by_signal(run, err);
    if (save(run, 1, err) || write_product(run, err) ||
        t5_train_state_remove(output, run->slot, err))
        return -1;
    t5_train_log_end(&run->log, "end", total);
    return 0;
}

/* A reader that left is no failure; a full disk is, though the run is saved. */
static int check_log(const struct run *run, struct t5_err *err)
{
    if (run->log.failure == 0 || run->log.failure == EPIPE)
        return 0;
    errno = run->log.failure;
    return t5_fail_errno(err, "<stdout>");
}

static void run_free(struct run *run)
{
    t5_trainer_close(run->trainer);
    t5_model_close(run->model);
    t5_train_state_free(&run->state);
    t5_dataset_free(&run->train);
    t5_dataset_free(&run->eval);
    t5_adapter_free(&run->adapter);
    t5_checkpoint_close(run->base);
    free(run->config_text);
    if (run->backend.dev)
        t5_backend_close(&run->backend);
    if (run->lock >= 0)
        close(run->lock);
}

static int work(const struct t5_list *files, struct t5_err *err)
{
    struct run run = {.lock = -1, .saved = -1};
    int rc = -1;
    if (check_options(files, err))
        return -1;
    signal(SIGPIPE, SIG_IGN); /* losing the reader of the log must not lose the run */
    t5_train_log_start(&run.log, STDOUT_FILENO);
    if ((!dry_run && open_output(&run, err)) || open_base(&run, err) || open_adapter(&run, err) ||
        open_device(&run, err) || read_data(&run, files, err) || make_plan(&run, err))
        goto out;
    make_settings(&run);
    if (dry_run) {
        rc = log_head(&run, "plan", err);
        goto end;
    }
    make_identity(&run);
    if (check_state(&run, err) || check_space(&run, err) || load_all(&run, err) ||
        run_and_write(&run, err))
        goto out;
    rc = 0;
end:
    rc = rc || check_log(&run, err) || t5_skip_end(&skip, run.train.n + run.eval.n, err) ? -1 : 0;
out:
    run_free(&run);
    return rc;
}

int main(int argc, char **argv) { return t5_program_main(&program, argc, argv, work); }
