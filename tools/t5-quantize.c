/* t5-quantize.c - a model in, the same model with other types out: quantised weights, bf16, f32,
 * adapters merged; or what that cost. The pass itself is io/quantize.c, the cost t5/compare.c. */
/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/program.h"
#include "io/atomic.h"
#include "io/list.h"
#include "io/quantize.h"
#include "t5/compare_files.h"

static const char *type, *report, *output, *to_dir;
static struct t5_list keep, merges;
static int requantize, list;
static const char *original, *device, *compute;
static int64_t records = -1, threads = -1; /* -1: not given */

static const struct t5_option options[] = {
    {"type", 't', T5_OPT_CHOICE, "int8|fp8|nf4|bf16|f32", &type, 0, 0,
     "type of the weights [int8; f32 with --to-dir]"},
    {"keep", 0, T5_OPT_LIST, "PATTERN=TYPE", &keep, 0, 0,
     "tensors whose name has these dotted components: int8, fp8, nf4, bf16, f32 or same"},
    {"output", 'o', T5_OPT_STRING, "FILE", &output, 0, 0, "write here instead of standard output"},
    {"to-dir", 0, T5_OPT_STRING, "DIR", &to_dir, 0, 0, "write a directory that transformers loads"},
    {"merge", 0, T5_OPT_LIST, "ADAPTER[=WEIGHT]", &merges, 0, 0,
     "add a LoRA adapter, WEIGHT times, into the weights first"},
    {"report", 0, T5_OPT_STRING, "FILE", &report, 0, 0,
     "write a line of JSON per tensor: types, sizes, error"},
    {"requantize", 0, T5_OPT_FLAG, NULL, &requantize, 0, 0, "let quantised weights be so again"},
    {"list", 0, T5_OPT_FLAG, NULL, &list, 0, 0,
     "print the tensors of MODEL, any safetensors, as JSON lines"},
    {"compare", 0, T5_OPT_STRING, "ORIGINAL", &original, 0, 0,
     "print how far MODEL is from this one on records of tokens, as JSON lines"},
    {"records", 0, T5_OPT_INT, "N", &records, 1, 1e15, "compare on the first N [all]"},
    {"compute", 0, T5_OPT_CHOICE, "f32|bf16|int8|fp8", &compute, 0, 0,
     "compare MODEL with this arithmetic; the original's is f32 [f32]"},
    {"device", 0, T5_OPT_STRING, "DEVICE", &device, 0, 0,
     "compare on auto, cpu, ref, cuda or cuda:N [auto]"},
    {"threads", 'j', T5_OPT_INT, "N", &threads, 0, 4096, "compare with N CPU threads; 0: all [0]"},
    {NULL, 0, T5_OPT_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct t5_program program = {
    "t5-quantize", "Write a T5 model as one safetensors file, its weights 8 bit or otherwise.",
    "MODEL [TOKENS...]", options};

/* What one run holds open. */
struct run {
    const char *path;
    struct t5_checkpoint *model;
    struct t5_merge *merges;             /* (merges.n) */
    struct t5_buf weights_path, command; /* DIR/model.safetensors; the command line */
    struct t5_atomic *file, *report;
    struct t5_progress progress;
    int made_dir;
};

/* Ended from outside: no temporary file stays behind. A closed pipe ends us as
 * it ends any filter. */
static void on_signal(int number)
{
    t5_atomic_remove_all();
    signal(number, SIG_DFL);
    raise(number);
}

static void set_signals(void)
{
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
        sigemptyset(&action.sa_mask);
        sigaction(numbers[i], &action, NULL);
    }
}

static int usage(struct t5_err *err, const char *text)
{
    return t5_fail_as(err, T5_USAGE, "%s", text);
}

static int is_stdout(const char *path)
{
    return !path || strcmp(path, "-") == 0;
}

static int check_compare(struct t5_err *err)
{
    if (!original && (records >= 0 || device || compute || threads >= 0))
        return usage(err, "--records, --compute, --device and --threads go with --compare");
    if (original &&
        (type || keep.n || output || to_dir || merges.n || report || requantize || list))
        return usage(err, "--compare writes no model and goes with --records, --compute, --device "
                          "and --threads only");
    return 0;
}

static int check_options(const struct t5_list *operands, struct t5_err *err)
{
    if (operands->n != 1 && !(original && operands->n))
        return usage(err, operands->n ? "one MODEL expected, more found (see --help)"
                                      : "no MODEL (see --help)");
    if (check_compare(err))
        return -1;
    if (original)
        return 0;
    if (list && (type || keep.n || output || to_dir || merges.n || report || requantize))
        return usage(err, "--list prints to standard output and goes with no other option");
    if (to_dir && output)
        return usage(err, "--to-dir and --output exclude each other");
    if (to_dir && type && strcmp(type, "f32") != 0 && strcmp(type, "bf16") != 0)
        return usage(err,
                     "--to-dir writes f32 or bf16: transformers does not know our other types");
    for (int i = 0; to_dir && i < keep.n; i++) {
        const char *equals = strrchr(keep.items[i], '=');
        if (equals && strcmp(equals, "=f32") != 0 && strcmp(equals, "=bf16") != 0)
            return usage(err, "--to-dir: --keep may name f32 or bf16 only");
    }
    if (report && is_stdout(report) && !to_dir && is_stdout(output))
        return usage(err, "--report and the model cannot both go to standard output");
    if (report && output && strcmp(report, output) == 0)
        return usage(err, "--report and --output name the same file");
    if (!list && !to_dir && is_stdout(output) && isatty(STDOUT_FILENO))
        return usage(err, "standard output is a terminal: name a file with --output");
    return 0;
}

/* The command line as a shell would take it again. */
static int quote_command(struct t5_buf *out, int argc, char **argv, struct t5_err *err)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%";
    for (int i = 0; i < argc; i++) {
        const char *arg = i ? argv[i] : program.name;
        int safe = arg[0] && arg[strspn(arg, plain)] == 0;
        if ((i && t5_buf_append(out, " ", 1, err)) || (!safe && t5_buf_append(out, "'", 1, err)))
            return -1;
        for (const char *p = arg; *p; p++)
            if (*p == '\'' && !safe ? t5_buf_append(out, "'\\''", 4, err)
                                    : t5_buf_append(out, p, 1, err))
                return -1;
        if (!safe && t5_buf_append(out, "'", 1, err))
            return -1;
    }
    return t5_buf_append(out, "", 1, err);
}

static int check_not_input(const struct run *r, const char *option, const char *path,
                           struct t5_err *err)
{
    char shown[T5_ESCAPED];
    const char *file = is_stdout(path) ? "/dev/stdout" : path;
    if (t5_checkpoint_reads(r->model, file))
        return t5_fail_as(err, T5_USAGE, "%s: %s is the model itself", option,
                          is_stdout(path) ? "standard output"
                                          : t5_escape(shown, path, strlen(path)));
    return 0;
}

/* "ADAPTER" or "ADAPTER=WEIGHT"; what is itself a directory has no weight in its name. */
static int load_merge(struct t5_merge *out, const char *arg, const struct t5_checkpoint *model,
                      struct t5_err *err)
{
    char shown[T5_ESCAPED];
    struct stat st;
    const char *equals = strrchr(arg, '=');
    out->weight = 1;
    if (!equals || (stat(arg, &st) == 0 && S_ISDIR(st.st_mode)))
        return t5_adapter_load(&out->adapter, arg, model, err);
    if (!t5_read_real(&out->weight, equals + 1))
        return t5_fail_as(err, T5_USAGE, "--merge: expected a number behind '=', found '%s'",
                          t5_escape(shown, equals + 1, strlen(equals + 1)));
    char *dir = strndup(arg, (size_t)(equals - arg));
    if (!dir)
        return t5_fail_memory(err, (size_t)(equals - arg), "an adapter's name");
    int rc = t5_adapter_load(&out->adapter, dir, model, err);
    free(dir);
    return rc;
}

static int load_merges(struct run *r, struct t5_err *err)
{
    if (merges.n &&
        !(r->merges = t5_alloc_zeroed((size_t)merges.n, sizeof *r->merges, "merges", err)))
        return -1;
    for (int i = 0; i < merges.n; i++) {
        char shown[T5_ESCAPED];
        int foreign = load_merge(&r->merges[i], merges.items[i], r->model, err)
                          ? -1
                          : t5_adapter_foreign(&r->merges[i].adapter, r->model, err);
        if (foreign < 0)
            return -1;
        if (foreign)
            t5_warn(program.name, "%s: this adapter was trained on another base model",
                    t5_escape(shown, merges.items[i], strlen(merges.items[i])));
    }
    return 0;
}

static int open_inputs(struct run *r, struct t5_err *err)
{
    if (t5_checkpoint_open(&r->model, r->path, err) || t5_checkpoint_verify(r->model, err))
        return -1;
    if (t5_checkpoint_warning(r->model))
        t5_warn(program.name, "%s", t5_checkpoint_warning(r->model));
    if (load_merges(r, err))
        return -1;
    if (to_dir && t5_same_file(to_dir, r->path))
        return usage(err, "--to-dir: this is the model's own directory");
    if ((!to_dir && check_not_input(r, "--output", output, err)) ||
        (report && check_not_input(r, "--report", report, err)))
        return -1;
    return 0;
}

/* All outputs exist, or are known to be impossible, before the work begins. */
static int open_outputs(struct run *r, struct t5_err *err)
{
    if (to_dir) {
        int made = t5_dir_make(to_dir, err);
        if (made < 0)
            return -1;
        r->made_dir = made;
        if (t5_buf_printf(&r->weights_path, err, "%s/model.safetensors", to_dir))
            return -1;
        if (check_not_input(r, "--to-dir", r->weights_path.data, err))
            return -1;
    }
    if (t5_atomic_open(&r->file, to_dir ? r->weights_path.data : output, err))
        return -1;
    return report ? t5_atomic_open(&r->report, report, err) : 0;
}

static void show_progress(void *context, int64_t bytes)
{
    t5_progress_update(context, bytes, "");
}

static int convert(struct run *r, struct t5_err *err)
{
    struct t5_quantize_options o = {.type = type     ? type
                                            : to_dir ? "f32"
                                                     : "int8",
                                    .keep = keep.items,
                                    .n_keep = keep.n,
                                    .merges = r->merges,
                                    .n_merges = merges.n,
                                    .requantize = requantize,
                                    .command = r->command.data,
                                    .progress = show_progress,
                                    .context = &r->progress};
    int64_t total = 0;
    for (int i = 0; i < t5_checkpoint_count(r->model); i++)
        total += (int64_t)t5_checkpoint_at(r->model, i)->bytes;
    t5_progress_start(&r->progress, program.name, "bytes", total);
    int rc = t5_quantize_run(r->file, r->report, r->model, &o, err);
    t5_progress_end(&r->progress);
    return rc;
}

static int write_config(const struct run *r, struct t5_err *err)
{
    struct t5_buf text = {0}, path = {0};
    int64_t n;
    const char *config = t5_checkpoint_config_text(r->model, &n);
    const char *dtype = type && strcmp(type, "bf16") == 0 ? "bfloat16" : "float32";
    int rc = t5_config_with_dtype(&text, config, (size_t)n, dtype, err) ||
             t5_buf_printf(&path, err, "%s/config.json", to_dir) ||
             t5_atomic_save(path.data, text.data, text.n, err);
    t5_buf_free(&text);
    t5_buf_free(&path);
    return rc ? -1 : 0;
}

static int commit(struct t5_atomic **file, struct t5_err *err)
{
    struct t5_atomic *done = *file;
    *file = NULL;
    return done ? t5_atomic_commit(done, err) : 0;
}

static int run(struct run *r, struct t5_err *err)
{
    int rc = open_inputs(r, err) || open_outputs(r, err) || convert(r, err) ||
                     commit(&r->file, err) || (to_dir && write_config(r, err)) ||
                     commit(&r->report, err)
                 ? -1
                 : 0;
    t5_atomic_abandon(r->file);
    t5_atomic_abandon(r->report);
    if (rc && r->made_dir)
        rmdir(to_dir);
    for (int i = 0; r->merges && i < merges.n; i++)
        t5_adapter_free(&r->merges[i].adapter);
    free(r->merges);
    t5_checkpoint_close(r->model);
    t5_buf_free(&r->weights_path);
    return rc;
}

static void warn(const char *text)
{
    t5_warn(program.name, "%s", text);
}

static int compare(const struct t5_list *operands, struct t5_err *err)
{
    const struct t5_compare_files files = {
        .original = original,
        .model = operands->items[0],
        .tokens = operands->items + 1,
        .n_tokens = operands->n - 1,
        .records = records < 0 ? 0 : records,
        .device = device ? device : "auto",
        .compute = compute ? t5_compute_named(compute) : T5_COMPUTE_F32,
        .threads = threads < 0 ? 0 : (int)threads,
        .warn = warn,
    };
    return t5_compare_print(stdout, &files, err);
}

int main(int argc, char **argv)
{
    struct t5_err err = {0};
    struct t5_list operands = {0};
    struct run r = {0};
    int rc = t5_program_start(&program, &err);
    if (rc == 0)
        rc = t5_program_parse(&program, argc, argv, &operands, &err);
    if (rc == 0) {
        set_signals();
        rc = check_options(&operands, &err) || quote_command(&r.command, argc, argv, &err) ? -1 : 0;
        r.path = rc ? NULL : operands.items[0];
        if (rc == 0)
            rc = original ? compare(&operands, &err)
                 : list   ? t5_list_tensors(stdout, r.path, &err)
                          : run(&r, &err);
    }
    t5_buf_free(&r.command);
    t5_list_free(&operands);
    t5_list_free(&keep);
    t5_list_free(&merges);
    return t5_program_finish(&program, rc < 0 ? -1 : 0, &err);
}
