/* t5-train.c - LoRA or full fine-tuning: token records in, an adapter or a model out, metrics on
 * standard output. What it does is t5/train_run.h; here are the options, the signals and the lines
 * for people. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/program.h"
#include "base/skip.h"
#include "io/atomic.h"
#include "t5/train_run.h"

static struct t5_train_options o = T5_TRAIN_DEFAULTS;
static struct t5_skip skip = {.program = "t5-train"};

static const struct t5_option options[] = {
    {"model", 'm', T5_OPT_STRING, "MODEL", &o.model, 0, 0, "HF directory or a file of t5-quantize"},
    {"output", 'o', T5_OPT_STRING, "DIR", &o.output, 0, 0,
     "where adapter or model and checkpoints go"},
    {"preset", 0, T5_OPT_CHOICE, "recipe", &o.preset, 0, 0,
     "the published settings: the defaults, and --max-source 255 --max-target 50 --truncate"},
    {"rank", 0, T5_OPT_INT, "N", &o.rank, 1, 4096, "LoRA rank [16]"},
    {"alpha", 0, T5_OPT_REAL, "X", &o.alpha, 1e-6, 1e6, "LoRA scale is alpha / rank [32]"},
    {"dropout", 0, T5_OPT_REAL, "P", &o.dropout, 0, 0.99, "dropout of LoRA's input [0.05]"},
    {"targets", 0, T5_OPT_STRING, "LIST", &o.targets, 0, 0,
     "adapted projections: q,k,v,o,wi,wi_0,wi_1,wo, or all [q,v]"},
    {"rslora", 0, T5_OPT_FLAG, NULL, &o.rslora, 0, 0, "LoRA scale is alpha / sqrt(rank)"},
    {"lora-plus", 0, T5_OPT_REAL, "X", &o.lora_plus, 0, 1e6,
     "LoRA+: B's learning rate is X times A's; 0: as A's"},
    {"init", 0, T5_OPT_STRING, "ADAPTER", &o.init, 0, 0,
     "go on from this PEFT adapter, its rank and alpha"},
    {"full", 0, T5_OPT_FLAG, NULL, &o.full, 0, 0, "train every weight; DIR becomes an HF model"},
    {"from-config", 0, T5_OPT_STRING, "CONFIG", &o.from_config, 0, 0,
     "train a new model of this config.json; implies --full"},
    {"save-as", 0, T5_OPT_CHOICE, "f32|bf16", &o.save_as, 0, 0,
     "type of the weights that --full writes"},
    {"epochs", 0, T5_OPT_INT, "N", &o.epochs, 1, 1000000, "passes over the data"},
    {"max-steps", 0, T5_OPT_INT, "N", &o.max_steps, 1, 1e12, "steps, whatever --epochs says"},
    {"batch", 0, T5_OPT_INT, "N", &o.batch, 1, 65536, "records a step"},
    {"lr", 0, T5_OPT_REAL, "X", &o.lr, 0, 1e30, "highest learning rate"},
    {"schedule", 0, T5_OPT_CHOICE, "linear|cosine|constant|inverse-sqrt|wsd", &o.schedule, 0, 0,
     "how it falls"},
    {"warmup", 0, T5_OPT_AMOUNT, "N[%]", &o.warmup, 0, 1e12,
     "steps, or percent of the steps, over which it rises"},
    {"decay", 0, T5_OPT_AMOUNT, "N[%]", &o.decay, 0, 1e12, "the same, over which wsd falls"},
    {"optimizer", 0, T5_OPT_CHOICE, "adamw|adamw8bit|adafactor", &o.optimizer, 0, 0,
     "the others are for --full: their state is smaller"},
    {"label-smoothing", 0, T5_OPT_REAL, "X", &o.label_smoothing, 0, 0.99,
     "share of each target that all tokens get alike"},
    {"clip", 0, T5_OPT_REAL, "X", &o.clip, 0, 1e30, "largest gradient norm; 0: no limit"},
    {"weight-decay", 0, T5_OPT_REAL, "X", &o.weight_decay, 0, 1000,
     "AdamW's, norms and biases exempt"},
    {"model-dropout", 0, T5_OPT_REAL, "P", &o.model_dropout, 0, 0.99,
     "T5's own [the config's dropout_rate]"},
    {"seed", 0, T5_OPT_INT, "N", &o.seed, 0, 9007199254740992,
     "of order, dropout and first values"},
    {"order", 0, T5_OPT_CHOICE, "shuffle|file|length", &o.order, 0, 0,
     "of the records in an epoch"},
    {"eval", 0, T5_OPT_STRING, "FILE", &o.eval, 0, 0, "records whose loss is measured"},
    {"eval-every", 0, T5_OPT_INT, "N", &o.eval_every, 0, 1e12,
     "steps between measurements; 0: an epoch"},
    {"eval-generate", 0, T5_OPT_FLAG, NULL, &o.eval_generate, 0, 0,
     "decode those records, too, and score with ROUGE"},
    {"tokenizer", 's', T5_OPT_STRING, "FILE", &o.tokenizer, 0, 0,
     "the SentencePiece model for that, or its directory"},
    {"eval-max-new", 0, T5_OPT_INT, "N", &o.eval_max_new, 1, 8192, "tokens an answer [128]"},
    {"best", 0, T5_OPT_CHOICE, "loss|rouge1|rouge2|rougeL|rougeLsum", &o.best, 0, 0,
     "keep the best result by this measure in DIR/best"},
    {"early-stopping", 0, T5_OPT_INT, "N", &o.early_stopping, 0, 1000000,
     "end after N measurements in a row without a better one; 0: never"},
    {"save-every", 0, T5_OPT_INT, "N", &o.save_every, 0, 1e12,
     "steps between checkpoints; 0: none before the end"},
    {"save-minutes", 0, T5_OPT_REAL, "X", &o.save_minutes, 0, 1e6,
     "write one, too, when the last is X minutes old; 0: never for that"},
    {"keep", 0, T5_OPT_INT, "N", &o.keep, 1, T5_SLOTS, "checkpoints that stay"},
    {"resume", 0, T5_OPT_FLAG, NULL, &o.resume, 0, 0, "go on from the newest checkpoint in DIR"},
    {"tolerate", 0, T5_OPT_INT, "N", &o.tolerate, 0, 1000000,
     "steps in a row with gradients not finite that are passed over"},
    {"spike-z", 0, T5_OPT_REAL, "Z", &o.spike_z, 0, 1000,
     "report losses so many standard deviations above those before; 0: none"},
    {"spike-window", 0, T5_OPT_INT, "N", &o.spike_window, 4, 1000,
     "losses that they are measured by [50]"},
    {"on-spike", 0, T5_OPT_CHOICE, "log|skip", &o.on_spike, 0, 0,
     "report it, or pass over that step, too [log]"},
    {"skip-batches", 0, T5_OPT_STRING, "LIST", &o.skip_batches, 0, 0,
     "batches, from 1, that are left out, as 120-135,200"},
    {"micro-tokens", 0, T5_OPT_INT, "N", &o.micro_tokens, 1, 1 << 28, "tokens of one pass [16384]"},
    {"max-source", 0, T5_OPT_INT, "N", &o.max_source, 0, 1 << 20,
     "refuse longer inputs (tokens); 0: no limit [0]"},
    {"max-target", 0, T5_OPT_INT, "N", &o.max_target, 0, 1 << 20,
     "refuse longer labels (tokens); 0: no limit [0]"},
    {"truncate", 0, T5_OPT_FLAG, NULL, &o.truncate, 0, 0, "cut what is longer instead"},
    {"compute", 0, T5_OPT_CHOICE, "f32|bf16|int8|fp8", &o.compute, 0, 0, "arithmetic with frozen weights [by device]"},
    {"keep-bf16", 0, T5_OPT_STRING, "LIST", &o.keep_bf16, 0, 0,
     "int8 and fp8 on a GPU: projections that stay bf16: q,k,v,o,wi,wi_0,wi_1,wo"},
    {"no-tuning", 0, T5_OPT_FLAG, NULL, &o.no_tuning, 0, 0,
     "on a GPU: products as the library chooses them, none timed"},
    {"device", 0, T5_OPT_STRING, "DEVICE", &o.device, 0, 0, "auto, cpu, cuda, cuda:N or ref"},
    {"max-memory", 0, T5_OPT_SIZE, "SIZE", &o.max_memory, 1, 1e18,
     "take no more of the device's memory, as 22GiB: smaller passes, then recomputation"},
    {"threads", 0, T5_OPT_INT, "N", &o.threads, 0, 1024, "0: as many as the process may use"},
    {"skip-bad", 0, T5_OPT_FLAG, NULL, &skip.on, 0, 0, "go on after a bad record; exit 3"},
    {"max-line", 0, T5_OPT_INT, "N", &o.max_line, 2, 1 << 30, "refuse longer lines (bytes)"},
    {"tensorboard", 0, T5_OPT_STRING, "DIR", &o.tensorboard, 0, 0,
     "write TensorBoard's events there, too"},
    {"dry-run", 0, T5_OPT_FLAG, NULL, &o.dry_run, 0, 0, "print the memory plan and exit"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {
    "t5-train", "Fine-tune a T5 model on token records: a LoRA adapter, or every weight.",
    "[FILE...]", options};

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

/* ---- for people ---- */

static struct t5_progress progress;

static void warn(const char *text)
{
    t5_warn(program.name, "%s", text);
}

static int pass_over(const struct t5_err *err)
{
    return t5_skip_bad(&skip, err);
}

static void began(int64_t steps, int64_t done)
{
    t5_progress_start(&progress, program.name, "steps", steps);
    progress.first = done;
    catch_signals();
}

/* "loss 1.2345, 5123 tokens/s, 12.4 records/s, 1.3 GiB": rates since the run began. */
static void stepped(const struct t5_train_run *run, const struct t5_step_report *r)
{
    static int64_t tokens, records;
    char note[128];
    double spent = t5_now() - progress.started;
    tokens += r->tokens;
    records += r->records;
    if (r->skipped || !t5_progress_due(&progress))
        return;
    snprintf(note, sizeof note, "loss %.4f, %.0f tokens/s, %.3g records/s, %.1f GiB", r->loss,
             (double)tokens / spent, (double)records / spent,
             (double)t5_train_run_memory(run) / (1 << 30));
    t5_progress_update(&progress, r->step, note);
}

static const struct t5_train_hooks hooks = {warn, pass_over, began, stepped, &stop_signal};

/* ---- the run ---- */

static int train(struct t5_train_run *run, struct t5_err *err)
{
    if (o.dry_run)
        return t5_train_run_describe(run, err);
    if (t5_train_run_load(run, err))
        return -1;
    int rc = t5_train_run_work(run, err);
    t5_progress_end(&progress);
    if (rc == 0) { /* it is saved: end as the signal would have ended it */
        signal(stop_signal, SIG_DFL);
        raise(stop_signal);
    }
    return rc < 0 ? -1 : 0;
}

/* A reader that left is no failure; a full disk is, though the run is saved. */
static int check_log(struct t5_train_run *run, struct t5_err *err)
{
    t5_train_log_close(&run->log);
    if (run->log.events_failure.text[0]) {
        *err = run->log.events_failure;
        return -1;
    }
    if (run->log.failure == 0 || run->log.failure == EPIPE)
        return 0;
    errno = run->log.failure;
    return t5_fail_errno(err, "<stdout>");
}

static int work(const struct t5_list *files, struct t5_err *err)
{
    struct t5_train_run run;
    if (t5_train_options_check(&o, files->n, err))
        return -1;
    signal(SIGPIPE, SIG_IGN); /* losing the reader of the log must not lose the run */
    int rc = t5_train_run_open(&run, &o, &hooks, files, err) || train(&run, err) ||
                     check_log(&run, err) || t5_skip_end(&skip, run.train.n + run.eval.n, err)
                 ? -1
                 : 0;
    t5_train_run_close(&run);
    return rc;
}

int main(int argc, char **argv)
{
    return t5_program_main(&program, argc, argv, work);
}
