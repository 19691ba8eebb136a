/* peft_write.c - an adapter into a directory that PEFT opens, read back and compared before we say
 * so. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/atomic.h"
#include "io/mapping.h"
#include "io/peft_config.h"

struct named { /* a tensor's description with room for its name */
    char name[128];
};

static int check_finite(const float *values, int64_t n, const char *module, char which,
                        struct t5_err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return t5_fail_as(err, T5_NOT_FINITE,
                              "%s.lora_%c: element %lld is not finite: not written", module, which,
                              (long long)i);
    return 0;
}

static void describe(struct t5_tensor *t, struct named *name, const char *module, char which,
                     int64_t rows, int64_t columns, const float *data)
{
    snprintf(name->name, sizeof name->name, "base_model.model.%s.lora_%c.weight", module, which);
    *t = (struct t5_tensor){.name = name->name,
                            .type = T5_F32,
                            .rank = 2,
                            .shape = {rows, columns},
                            .elements = rows * columns,
                            .data = data,
                            .bytes = (size_t)(rows * columns) * sizeof *data};
}

/* Two tensors a module. Caller frees both arrays. */
static int list_tensors(struct t5_tensor **tensors, struct named **names,
                        const struct t5_adapter *a, struct t5_err *err)
{
    *tensors = t5_alloc(2 * (size_t)a->n_modules, sizeof **tensors, "the adapter's tensors", err);
    *names = t5_alloc(2 * (size_t)a->n_modules, sizeof **names, "the adapter's tensors", err);
    if (!*tensors || !*names)
        return -1;
    for (int i = 0; i < a->n_modules; i++) {
        const struct t5_lora_module *m = &a->modules[i];
        describe(&(*tensors)[2 * i], &(*names)[2 * i], m->module, 'A', a->rank, m->in, m->a);
        describe(&(*tensors)[2 * i + 1], &(*names)[2 * i + 1], m->module, 'B', m->out, a->rank,
                 m->b);
        if (check_finite(m->a, a->rank * m->in, m->module, 'A', err) ||
            check_finite(m->b, a->rank * m->out, m->module, 'B', err))
            return -1;
    }
    return 0;
}

static int compare_weights(const char *path, const struct t5_tensor *tensors, int n,
                           struct t5_err *err)
{
    struct t5_safetensors *file;
    int rc = t5_safetensors_open(&file, path, err);
    if (rc)
        return -1;
    rc = t5_safetensors_verify(file, err);
    for (int i = 0; rc == 0 && i < n; i++) {
        const struct t5_tensor *t = t5_safetensors_find(file, tensors[i].name);
        if (!t || t->bytes != tensors[i].bytes || memcmp(t->data, tensors[i].data, t->bytes) != 0)
            rc = t5_fail_as(err, T5_ENVIRONMENT,
                            "%s: tensor '%s' does not read back as it was written",
                            t5_safetensors_shown(file), tensors[i].name);
    }
    t5_safetensors_close(file);
    return rc;
}

static int compare_config(const char *path, const struct t5_buf *want, struct t5_err *err)
{
    size_t n;
    char *text = t5_read_regular(AT_FDCWD, path, T5_ADAPTER_CONFIG, 0, &n, err);
    int same = text && n == want->n && memcmp(text, want->data, n) == 0;
    if (text && !same)
        t5_fail_as(err, T5_ENVIRONMENT, T5_ADAPTER_CONFIG " does not read back as it was written");
    free(text);
    return same ? 0 : -1;
}

/* What is known of the base and of the tokens it was trained on; returns how many rows. */
static int describe_base(struct t5_metadata rows[3 + T5_TOKEN_SETTINGS], const struct t5_adapter *a)
{
    int n = 0;
    rows[n++] = (struct t5_metadata){"format", "pt"};
    if (a->base_fingerprint[0])
        rows[n++] = (struct t5_metadata){"base_fingerprint", a->base_fingerprint};
    if (a->base_norms[0])
        rows[n++] = (struct t5_metadata){"base_norms", a->base_norms};
    return n + t5_token_settings_rows(rows + n, &a->tokens);
}

int t5_adapter_save(const struct t5_adapter *a, const char *dir, struct t5_err *err)
{
    struct t5_tensor *tensors = NULL;
    struct named *names = NULL;
    struct t5_buf config = {0}, weights_path = {0}, config_path = {0};
    struct t5_metadata metadata[3 + T5_TOKEN_SETTINGS];
    int n = 2 * a->n_modules, n_metadata = describe_base(metadata, a), rc = -1;
    if (t5_dir_make(dir, err) < 0)
        return -1;
    if (list_tensors(&tensors, &names, a, err) == 0 && t5_peft_config_print(&config, a, err) == 0 &&
        t5_buf_printf(&weights_path, err, "%s/" T5_ADAPTER_WEIGHTS, dir) == 0 &&
        t5_buf_printf(&config_path, err, "%s/" T5_ADAPTER_CONFIG, dir) == 0 &&
        t5_safetensors_save(weights_path.data, tensors, n, metadata, n_metadata, err) == 0 &&
        t5_atomic_save(config_path.data, config.data, config.n, err) == 0 &&
        compare_weights(weights_path.data, tensors, n, err) == 0)
        rc = compare_config(config_path.data, &config, err);
    free(tensors);
    free(names);
    t5_buf_free(&config);
    t5_buf_free(&weights_path);
    t5_buf_free(&config_path);
    return rc;
}
