/* train_output.c - a run's output directory: the lock, the checkpoint to go on from, room for the
 * next ones, and the result. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "io/atomic.h"
#include "t5/adapter_params.h"
#include "t5/model_export.h"
#include "t5/train_run.h"

int t5_train_best_dir(char path[PATH_MAX], const struct t5_train_run *run, int make,
                      struct t5_err *err)
{
    if (snprintf(path, PATH_MAX, "%s/best", run->options->output) >= PATH_MAX)
        return t5_fail_as(err, T5_ENVIRONMENT, "the output directory's name is too long");
    return make && t5_dir_make(path, err) < 0 ? -1 : 0;
}

/* Temporary files of killed runs, where the best result is kept, too. */
static int sweep(const struct t5_train_run *run, struct t5_err *err)
{
    char best[PATH_MAX];
    if (t5_atomic_sweep(run->options->output, err) || t5_train_best_dir(best, run, 0, err))
        return -1;
    return access(best, F_OK) == 0 ? t5_atomic_sweep(best, err) : 0;
}

int t5_train_open_output(struct t5_train_run *run, struct t5_err *err)
{
    const struct t5_train_options *o = run->options;
    struct t5_train_state *state = &run->state;
    char text[401];
    if (t5_dir_lock(&run->lock, o->output, err) || sweep(run, err) ||
        t5_train_state_find(state, &run->slots, o->output, err))
        return -1;
    if (state->warning[0]) {
        snprintf(text, sizeof text, "%s; going back to checkpoint.%d.safetensors at step %lld",
                 state->warning, state->slot, (long long)state->position.step);
        run->hooks->warn(text);
    }
    if (o->resume || !state->file)
        return 0;
    if (!state->finished)
        return t5_fail_as(
            err, T5_USAGE,
            "%s: holds a run that ended at step %lld: --resume goes on with it, or remove "
            "its checkpoint files",
            o->output, (long long)state->position.step);
    t5_train_state_free(state);
    return t5_train_slots_trim(&run->slots, o->output, 0, err);
}

static int64_t product_bytes(const struct t5_train_run *run)
{
    int wide = t5_train_run_is_lora(run) || strcmp(run->options->save_as, "f32") == 0;
    return run->plan.trainable * (wide ? 4 : 2);
}

int64_t t5_train_checkpoint_bytes(const struct t5_train_run *run)
{
    return t5_train_state_bytes(run->plan.trainable, run->plan.optimizer_bytes);
}

/* Files written in turn: the newest one is never touched. */
static int in_turn(const struct t5_train_run *run)
{
    return run->options->keep < 2 ? 2 : (int)run->options->keep;
}

static int check_space(const struct t5_train_run *run, struct t5_err *err)
{
    const char *dir = run->options->output;
    struct statvfs fs;
    int64_t missing = 1; /* the one being written, and the slots still empty */
    for (int i = 0; i < in_turn(run); i++)
        missing += run->slots.step[i] == T5_SLOT_EMPTY;
    int64_t need = (missing > 2 ? missing : 2) * t5_train_checkpoint_bytes(run) +
                   (run->options->best ? 2 : 1) * product_bytes(run);
    if (statvfs(dir, &fs) != 0)
        return t5_fail_errno(err, "%s", dir);
    int64_t left = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    if (left < need)
        return t5_fail_as(err, T5_ENVIRONMENT, "%s: checkpoints need %lld bytes, %lld are free",
                          dir, (long long)need, (long long)left);
    return 0;
}

static int check_state(struct t5_train_run *run, struct t5_err *err)
{
    struct t5_train_state *state = &run->state;
    char text[128];
    run->saved = -1;
    if (!state->file)
        return 0;
    if (t5_train_state_check(state, run->options->output, &run->identity, err))
        return -1;
    const char *tool = t5_train_state_value(state, "tool");
    if (!tool || strcmp(tool, t5_version) != 0) {
        snprintf(text, sizeof text,
                 "the checkpoint was made by version %.40s: the result may differ in its last bits",
                 tool ? tool : "unknown");
        run->hooks->warn(text);
    }
    run->saved = state->position.step;
    return 0;
}

int t5_train_check_output(struct t5_train_run *run, struct t5_err *err)
{
    return check_state(run, err) || check_space(run, err) ? -1 : 0;
}

int t5_train_save(struct t5_train_run *run, int finished, struct t5_err *err)
{
    int slot = t5_train_slots_next(&run->slots, in_turn(run));
    if (t5_check_behind_end(&run->check, 0, err) ||
        t5_train_state_save(run->options->output, slot, run->model, run->trainer, &run->identity,
                            finished, err))
        return -1;
    run->saved = t5_trainer_position(run->trainer).step;
    run->saved_at = t5_now();
    t5_train_slots_put(&run->slots, slot, run->saved);
    return 0;
}

int t5_train_write_product(struct t5_train_run *run, const char *dir, struct t5_err *err)
{
    int64_t n;
    const char *text = run->config_text;
    if (t5_check_behind_end(&run->check, 0, err))
        return -1;
    if (t5_train_run_is_lora(run))
        return t5_adapter_fetch(&run->adapter, run->model, err) ||
                       t5_adapter_save(&run->adapter, dir, err)
                   ? -1
                   : 0;
    if (text)
        n = (int64_t)strlen(text);
    else
        text = t5_checkpoint_config_text(run->base, &n);
    return t5_model_export(dir, run->model, text, n,
                           strcmp(run->options->save_as, "bf16") == 0 ? T5_BF16 : T5_F32,
                           t5_train_run_tokens(run), err);
}
