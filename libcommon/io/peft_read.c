/* peft_read.c - a PEFT directory checked against its base. What the file's keys say is the truth;
 * the config must agree with it. Does not attach the adapter: see t5/model.c. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/mapping.h"
#include "io/peft_config.h"
#include "io/peft_modules.h"
#include "io/torch_archive.h"

#define TORCH_WEIGHTS "adapter_model.bin"
#define PREFIX "base_model.model."
#define MAX_CONFIG ((size_t)1 << 20)

struct loader {
    /* modules: all that the base offers, a or b NULL where the file has none */
    struct t5_adapter *adapter;
    struct t5_peft_targets targets;
    struct t5_safetensors *file;
    char shown[T5_ESCAPED + 32]; /* DIR/adapter_model.safetensors or .bin */
    struct t5_err *err;
};

static const char *escaped(char out[T5_ESCAPED], const char *text)
{
    return t5_escape(out, text, strlen(text));
}

/* Splits "base_model.model.MODULE.lora_A.weight". 'A', 'B', or 0 with err filled. */
static char split_key(char module[96], const struct loader *l, const char *key)
{
    static const struct {
        const char *part, *what;
    } others[] = {
        {"lora_magnitude_vector", "DoRA"},           {"lora_embedding_", "LoRA on an embedding"},
        {"modules_to_save", "modules_to_save"},      {".bias", "a bias"},
        {".default.", "an adapter name in the key"},
    };
    char name[T5_ESCAPED];
    size_t n = strlen(key), head = strlen(PREFIX), tail = strlen(".lora_A.weight");
    escaped(name, key);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(key, others[i].part)) {
            t5_fail(l->err, "%s: tensor '%s': %s is not supported", l->shown, name, others[i].what);
            return 0;
        }
    int is_a = n > tail && strcmp(key + n - tail, ".lora_A.weight") == 0,
        is_b = n > tail && strcmp(key + n - tail, ".lora_B.weight") == 0;
    if (strncmp(key, PREFIX, head) != 0 || n <= head + tail || n - head - tail >= 96 ||
        !(is_a || is_b)) {
        t5_fail(l->err, "%s: tensor '%s': not a key of a LoRA adapter", l->shown, name);
        return 0;
    }
    memcpy(module, key + head, n - head - tail);
    module[n - head - tail] = 0;
    return is_a ? 'A' : 'B';
}

static struct t5_lora_module *find_module(const struct loader *l, const char *name)
{
    for (int i = 0; i < l->adapter->n_modules; i++)
        if (strcmp(l->adapter->modules[i].module, name) == 0)
            return &l->adapter->modules[i];
    return NULL;
}

/* Copies a tensor as float after checking its type, shape and values. NULL after filling err. */
static float *take(const struct loader *l, const struct t5_tensor *t, int64_t rows, int64_t columns)
{
    char name[T5_ESCAPED];
    escaped(name, t->name);
    if (t->type != T5_F32 && t->type != T5_F16 && t->type != T5_BF16) {
        t5_fail(l->err, "%s: tensor '%s': type %s, expected F32, F16 or BF16", l->shown, name,
                t5_dtype_name(t->type));
        return NULL;
    }
    if (t->rank != 2 || t->shape[0] != rows || t->shape[1] != columns) {
        char found[64];
        if (t->rank == 2)
            snprintf(found, sizeof found, "(%lld, %lld)", (long long)t->shape[0],
                     (long long)t->shape[1]);
        else
            snprintf(found, sizeof found, "%d dimension%s", t->rank, t->rank == 1 ? "" : "s");
        t5_fail(l->err,
                "%s: tensor '%s': shape (%lld, %lld) expected from r and the base, found %s",
                l->shown, name, (long long)rows, (long long)columns, found);
        return NULL;
    }
    float *values = t5_alloc((size_t)t->elements, sizeof *values, "an adapter", l->err);
    if (!values)
        return NULL;
    t5_to_f32(values, t->data, t->type, (size_t)t->elements);
    for (int64_t i = 0; i < t->elements; i++)
        if (!isfinite(values[i])) {
            t5_fail(l->err, "%s: tensor '%s': element %lld is not finite", l->shown, name,
                    (long long)i);
            free(values);
            return NULL;
        }
    return values;
}

static int read_tensor(struct loader *l, const struct t5_tensor *t)
{
    char module[96], name[T5_ESCAPED];
    int64_t rank = l->adapter->rank;
    char which = split_key(module, l, t->name);
    if (!which)
        return -1;
    struct t5_lora_module *m = find_module(l, module);
    if (!m)
        return t5_fail(l->err, "%s: tensor '%s': the base model has no such projection", l->shown,
                       escaped(name, t->name));
    float **slot = which == 'A' ? &m->a : &m->b;
    *slot = which == 'A' ? take(l, t, rank, m->in) : take(l, t, m->out, rank);
    return *slot ? 0 : -1;
}

/* PEFT's rule for a list: the module is called so, or ends in a dot and that. */
static int names(const char *target, size_t n, const char *module)
{
    size_t k = strlen(module);
    return k >= n && memcmp(module + k - n, target, n) == 0 && (k == n || module[k - n - 1] == '.');
}

static int is_target(const struct loader *l, const char *module)
{
    for (const char *p = l->adapter->targets;;) {
        size_t n = strcspn(p, ",");
        if (names(p, n, module))
            return 1;
        if (!p[n])
            return 0;
        p += n + 1;
    }
}

/* Every name of the list is a projection of the base. */
static int check_targets(const struct loader *l)
{
    char shown[T5_ESCAPED];
    for (const char *p = l->adapter->targets;;) {
        size_t n = strcspn(p, ",");
        int found = 0;
        for (int i = 0; i < l->adapter->n_modules && !found; i++)
            found = names(p, n, l->adapter->modules[i].module);
        if (!found)
            return t5_fail(l->err, "target module '%s': the base model has no such projection",
                           t5_escape(shown, p, n));
        if (!p[n])
            return 0;
        p += n + 1;
    }
}

/* A and B together, all that the config lists, and no others; what the file does not have goes. */
static int check_complete(struct loader *l)
{
    struct t5_adapter *a = l->adapter;
    int kept = 0, n = a->n_modules;
    for (int i = 0; i < n; i++) {
        const struct t5_lora_module *m = &a->modules[i];
        int listed = l->targets.is_list && is_target(l, m->module);
        if (!m->a != !m->b || (!m->a && listed && !l->targets.narrowed))
            return t5_fail(l->err, "%s: tensor '" PREFIX "%s.lora_%c.weight' is missing", l->shown,
                           m->module, m->a ? 'B' : 'A');
        if (m->a && l->targets.is_list && !listed)
            return t5_fail(l->err,
                           "%s: tensor '" PREFIX "%s.lora_A.weight': not among the target modules",
                           l->shown, m->module);
    }
    for (int i = 0; i < n; i++)
        if (a->modules[i].a)
            a->modules[kept++] = a->modules[i];
    a->n_modules = kept;
    return kept ? 0 : t5_fail(l->err, "%s: holds no LoRA tensors", l->shown);
}

static int read_config(struct loader *l, int dirfd, const char *dir)
{
    char shown[T5_ESCAPED + 32];
    size_t n;
    snprintf(shown, sizeof shown, "%s/" T5_ADAPTER_CONFIG, dir);
    char *text = t5_read_regular(dirfd, T5_ADAPTER_CONFIG, shown, MAX_CONFIG, &n, l->err);
    if (!text)
        return -1;
    int rc = t5_peft_config_parse(l->adapter, &l->targets, text, n, l->err);
    if (rc == 0 && l->targets.is_list)
        rc = check_targets(l);
    free(text);
    return rc ? t5_err_at(l->err, "%s", shown) : 0;
}

/* adapter_model.safetensors, or where there is none, adapter_model.bin. */
static int open_weights(struct loader *l, int dirfd, const char *dir)
{
    size_t size;
    struct stat st;
    int is_torch = fstatat(dirfd, T5_ADAPTER_WEIGHTS, &st, AT_SYMLINK_NOFOLLOW) != 0 &&
                   fstatat(dirfd, TORCH_WEIGHTS, &st, AT_SYMLINK_NOFOLLOW) == 0;
    const char *name = is_torch ? TORCH_WEIGHTS : T5_ADAPTER_WEIGHTS;
    snprintf(l->shown, sizeof l->shown, "%s/%s", dir, name);
    int fd = t5_open_regular(dirfd, name, l->shown, 0, &size, l->err);
    size_t n = strlen(l->shown);
    const char *shown = l->shown + (n < T5_ESCAPED ? 0 : n - T5_ESCAPED + 1);
    if (fd < 0)
        return -1;
    return is_torch ? t5_torch_open_fd(&l->file, fd, shown, l->err)
                    : t5_safetensors_open_fd(&l->file, fd, shown, l->err);
}

static const char *metadata(const void *file, const char *key)
{
    return t5_safetensors_metadata(file, key, NULL);
}

static int read_weights(struct loader *l, int dirfd, const char *dir)
{
    if (open_weights(l, dirfd, dir) || t5_safetensors_verify(l->file, l->err))
        return -1;
    for (int i = 0; i < t5_safetensors_count(l->file); i++)
        if (read_tensor(l, t5_safetensors_at(l->file, i)))
            return -1;
    const char *of = metadata(l->file, "base_fingerprint"),
               *norms = metadata(l->file, "base_norms");
    snprintf(l->adapter->base_fingerprint, sizeof l->adapter->base_fingerprint, "%s", of ? of : "");
    snprintf(l->adapter->base_norms, sizeof l->adapter->base_norms, "%s", norms ? norms : "");
    if (t5_token_settings_read_carried(&l->adapter->tokens, metadata, l->file, l->err))
        return -1;
    return check_complete(l);
}

int t5_adapter_load(struct t5_adapter *out, const char *dir, const struct t5_checkpoint *base,
                    struct t5_err *err)
{
    struct loader l = {.adapter = out, .err = err};
    char shown[T5_ESCAPED];
    int rc = -1;
    *out = (struct t5_adapter){0};
    escaped(shown, dir);
    int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return t5_fail_errno(err, "%s", shown);
    if (t5_peft_modules(&out->modules, &out->n_modules, t5_checkpoint_config(base), err) == 0 &&
        read_config(&l, dirfd, shown) == 0)
        rc = read_weights(&l, dirfd, shown);
    close(dirfd);
    t5_safetensors_close(l.file);
    if (rc)
        t5_adapter_free(out);
    return rc;
}
