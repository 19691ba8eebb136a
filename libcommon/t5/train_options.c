/* train_options.c - defaults and contradictions among a training run's options. */
/* SPDX-License-Identifier: MIT */
#include "t5/train_options.h"

#include <string.h>

#include "io/atomic.h"
#include "t5/keep.h"

static int usage(struct t5_err *err, const char *text)
{
    return t5_fail_as(err, T5_USAGE, "%s (see --help)", text);
}

static int check_lora(struct t5_train_options *o, struct t5_err *err)
{
    int shaped = o->rank >= 0 || o->alpha >= 0 || o->targets || o->rslora;
    if (o->full && (shaped || o->dropout >= 0 || o->init || o->lora_plus > 0))
        return usage(err, "--full takes none of LoRA's options");
    if (o->init && shaped)
        return usage(err, "--init brings its own rank, alpha, targets and rsLoRA");
    if (!o->full && t5_train_options_optimizer(o) != T5_ADAMW)
        return usage(err, "--optimizer other than adamw is for --full: adapters are small");
    o->rank = o->rank < 0 ? 16 : o->rank;
    o->alpha = o->alpha < 0 ? 32 : o->alpha;
    o->targets = o->targets ? o->targets : "q,v";
    return 0;
}

static int check_evaluation(struct t5_train_options *o, struct t5_err *err)
{
    if (!o->eval && (o->eval_generate || o->best))
        return usage(err, "--eval-generate and --best need --eval");
    if (o->eval_generate != !!o->tokenizer)
        return usage(err, "--eval-generate and --tokenizer need each other");
    if (!o->eval_generate && o->eval_max_new > 0)
        return usage(err, "--eval-max-new needs --eval-generate");
    if (o->best && strcmp(o->best, "loss") != 0 && !o->eval_generate)
        return usage(err, "--best by ROUGE needs --eval-generate");
    if (o->early_stopping && !o->best)
        return usage(err, "--early-stopping needs --best");
    o->eval_max_new = o->eval_max_new < 0 ? 128 : o->eval_max_new;
    return 0;
}

static int check_spikes(struct t5_train_options *o, struct t5_err *err)
{
    if (o->spike_z <= 0 && (o->spike_window > 0 || o->on_spike))
        return usage(err, "--spike-window and --on-spike need --spike-z");
    o->spike_window = o->spike_window < 0 ? 50 : o->spike_window;
    o->on_spike = o->on_spike ? o->on_spike : "log";
    return 0;
}

static int check_arithmetic(const struct t5_train_options *o, struct t5_err *err)
{
    int eight = o->compute && (strcmp(o->compute, "int8") == 0 || strcmp(o->compute, "fp8") == 0);
    if (eight && o->full)
        return usage(err, "--compute int8 and fp8 are for frozen weights, not for --full");
    return t5_keep_check(o->keep_bf16, o->compute, o->device, err);
}

/* The recipe of the published FLAN-T5 summarisers is what the defaults are; what is left is where
 * it cuts records. */
static int apply_preset(struct t5_train_options *o, struct t5_err *err)
{
    if (o->preset && o->full)
        return usage(err, "--preset recipe trains an adapter");
    o->truncate = o->truncate || o->preset;
    o->max_source = o->max_source < 0 ? (o->preset ? 255 : 0) : o->max_source;
    o->max_target = o->max_target < 0 ? (o->preset ? 50 : 0) : o->max_target;
    return 0;
}

int t5_train_options_check(struct t5_train_options *o, int n_files, struct t5_err *err)
{
    o->full = o->full || o->from_config;
    if (apply_preset(o, err))
        return -1;
    if (!o->model == !o->from_config)
        return usage(err, "one of --model and --from-config is needed");
    if (!o->output && !o->dry_run)
        return usage(err, "--output is missing");
    if (t5_same_file(o->output, o->model) || t5_same_file(o->output, o->init))
        return usage(err, "--output is also an input");
    if (o->model && strcmp(o->model, "-") == 0 && (n_files == 0 || o->resume))
        return usage(err, "a model on standard input leaves no room for records there");
    if (o->truncate && !o->max_source && !o->max_target)
        return usage(err, "--truncate needs --max-source or --max-target");
    return check_arithmetic(o, err) || check_evaluation(o, err) || check_spikes(o, err) ||
                   check_lora(o, err)
               ? -1
               : 0;
}

enum t5_optimizer_kind t5_train_options_optimizer(const struct t5_train_options *o)
{
    int kind = 0;
    while (strcmp(o->optimizer, t5_optimizer_names[kind]) != 0)
        kind++;
    return (enum t5_optimizer_kind)kind;
}

struct t5_schedule t5_train_options_schedule(const struct t5_train_options *o, int64_t total)
{
    static const char *const names[] = {[T5_SCHEDULE_LINEAR] = "linear",
                                        [T5_SCHEDULE_COSINE] = "cosine",
                                        [T5_SCHEDULE_CONSTANT] = "constant",
                                        [T5_SCHEDULE_INVERSE_SQRT] = "inverse-sqrt",
                                        [T5_SCHEDULE_WSD] = "wsd"};
    struct t5_schedule s = {.lr = o->lr,
                            .warmup = t5_amount_of(o->warmup, total),
                            .decay = t5_amount_of(o->decay, total),
                            .total = total};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(o->schedule, names[i]) == 0)
            s.kind = (enum t5_schedule_kind)i;
    return s;
}
