/* model_export.c - HF directories of trained models. Streams from the device: a model is never in
 * host memory a second time. */
/* SPDX-License-Identifier: MIT */
#include "t5/model_export.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/program.h"
#include "io/atomic.h"
#include "io/safetensors.h"

enum { PIECE = 1 << 16 }; /* elements converted at a time */

static int path_in(char path[PATH_MAX], const char *dir, const char *name, struct t5_err *err)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return t5_fail_as(err, T5_ENVIRONMENT, "the output directory's name is too long");
    return 0;
}

static int write_values(struct t5_safetensors_writer *w, const struct t5_model *model,
                        enum t5_dtype type, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    int64_t n = t5_model_n_params(model);
    size_t size = t5_dtype_size(type);
    float *piece = t5_alloc(PIECE, sizeof *piece, "a model", err);
    void *out = t5_alloc(PIECE, size, "a model", err);
    int rc = piece && out ? 0 : -1;
    for (int64_t at = 0; rc == 0 && at < n; at += PIECE) {
        size_t k = (size_t)(n - at < PIECE ? n - at : PIECE);
        rc = backend->ops.download(backend->dev, piece, t5_model_params(model) + at,
                                   k * sizeof *piece, err);
        if (rc)
            break;
        t5_from_f32(out, piece, type, k);
        rc = t5_safetensors_write(w, out, k * size, err);
    }
    free(piece);
    free(out);
    return rc;
}

static int write_weights(struct t5_atomic *file, const struct t5_model *model, enum t5_dtype type,
                         const struct t5_token_settings *tokens, struct t5_err *err)
{
    /* transformers asks for "format" */
    struct t5_metadata metadata[2 + T5_TOKEN_SETTINGS] = {{"format", "pt"},
                                                          {"t5_tools", t5_version}};
    int n_metadata = 2 + t5_token_settings_rows(metadata + 2, tokens);
    struct t5_safetensors_writer *w = NULL;
    struct t5_err ignored;
    int n = t5_model_param_count(model);
    struct t5_tensor *tensors = t5_alloc((size_t)n, sizeof *tensors, "a model", err);
    if (!tensors)
        return -1;
    for (int i = 0; i < n; i++) {
        const struct t5_param *p = t5_model_param(model, i);
        tensors[i] = (struct t5_tensor){.name = p->name,
                                        .type = type,
                                        .rank = p->vector ? 1 : 2,
                                        .shape = {p->rows, p->cols},
                                        .elements = p->rows * p->cols};
    }
    int rc = t5_safetensors_write_open(&w, file, tensors, n, metadata, n_metadata, err);
    free(tensors);
    if (rc == 0)
        rc = write_values(w, model, type, err);
    if (w && t5_safetensors_write_close(w, rc ? &ignored : err))
        rc = -1;
    return rc;
}

static int export_weights(const char *dir, const struct t5_model *model, enum t5_dtype type,
                          const struct t5_token_settings *tokens, struct t5_err *err)
{
    char path[PATH_MAX];
    struct t5_atomic *file;
    if (path_in(path, dir, "model.safetensors", err) || t5_atomic_open(&file, path, err))
        return -1;
    if (write_weights(file, model, type, tokens, err) == 0)
        return t5_atomic_commit(file, err);
    t5_atomic_abandon(file);
    return -1;
}

/* transformers loads into the type that the config names, so it must be the file's. */
static int export_config(const char *dir, const char *text, int64_t n, enum t5_dtype type,
                         struct t5_err *err)
{
    char path[PATH_MAX], *dump = NULL;
    int rc = -1;
    json_t *config = json_loadb(text, (size_t)n, 0, NULL);
    if (!config || !json_is_object(config)) {
        t5_fail(err, "config.json: not a JSON object");
        goto out;
    }
    const char *key = json_object_get(config, "dtype") ? "dtype" : "torch_dtype";
    if (json_object_set_new(config, key, json_string(type == T5_BF16 ? "bfloat16" : "float32")) ||
        !(dump = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15)))) {
        t5_fail_memory(err, (size_t)n, "config.json");
        goto out;
    }
    if (path_in(path, dir, "config.json", err) == 0)
        rc = t5_atomic_save(path, dump, strlen(dump), err);
out:
    free(dump);
    json_decref(config);
    return rc;
}

int t5_model_export(const char *dir, const struct t5_model *model, const char *config,
                    int64_t config_n, enum t5_dtype type, const struct t5_token_settings *tokens,
                    struct t5_err *err)
{
    if (export_weights(dir, model, type, tokens, err))
        return -1;
    return export_config(dir, config, config_n, type, err);
}
