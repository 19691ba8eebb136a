/* config.c - the geometry from HF's config.json. Keys that do not change the mathematics are
 * ignored. */
/* SPDX-License-Identifier: MIT */
#include "t5/config.h"

#include <math.h>
#include <string.h>

#include "io/document.h"

#define MAX_DIM ((int64_t)1 << 20)
#define MAX_LAYERS 512
#define MAX_CONFIG ((int64_t)1 << 20) /* bytes */

/* A whole number in [low, high]. fallback < 0: the key must be there. null counts as absent. */
static int whole(int64_t *out, const json_t *root, const char *key, int64_t low, int64_t high,
                 int64_t fallback, struct t5_err *err)
{
    const json_t *value = json_object_get(root, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return fallback >= 0 ? 0 : t5_fail(err, "no \"%s\"", key);
    if (!json_is_integer(value))
        return t5_fail(err, "\"%s\": expected a whole number", key);
    *out = json_integer_value(value);
    if (*out < low || *out > high)
        return t5_fail(err, "\"%s\": expected %lld to %lld, found %lld", key, (long long)low,
                       (long long)high, (long long)*out);
    return 0;
}

static int real(float *out, const json_t *root, const char *key, double low, double high,
                double fallback, struct t5_err *err)
{
    const json_t *value = json_object_get(root, key);
    double v = value && !json_is_null(value) ? json_number_value(value) : fallback;
    if (value && !json_is_null(value) && !json_is_number(value))
        return t5_fail(err, "\"%s\": expected a number", key);
    if (!(v >= low && v < high))
        return t5_fail(err, "\"%s\": expected at least %g and below %g, found %g", key, low, high,
                       v);
    *out = (float)v;
    return 0;
}

static int flag(int *out, const json_t *root, const char *key, int fallback, struct t5_err *err)
{
    const json_t *value = json_object_get(root, key);
    *out = value && !json_is_null(value) ? json_is_true(value) : fallback;
    return value && !json_is_null(value) && !json_is_boolean(value)
               ? t5_fail(err, "\"%s\": expected true or false", key)
               : 0;
}

/* Absent or null gives fallback; another type is an error. NULL on error. */
static const char *text(const json_t *root, const char *key, const char *fallback,
                        struct t5_err *err)
{
    const json_t *value = json_object_get(root, key);
    if (!value || json_is_null(value))
        return fallback;
    if (!json_is_string(value))
        t5_fail(err, "\"%s\": expected a string", key);
    return json_string_value(value);
}

/* feed_forward_proj names the activation; dense_act_fn, which newer files add,
 * must agree with it. */
static int activation(struct t5_config *c, const json_t *root, struct t5_err *err)
{
    static const struct {
        const char *name, *function;
        enum t5_activation activation;
        int gated;
    } known[] = {
        {"relu", "relu", T5_RELU, 0},
        {"gated-gelu", "gelu_new", T5_GELU_NEW, 1}, /* HF: "gated-gelu" means the tanh form */
        {"gated-silu", "silu", T5_SILU, 1},
    };
    char shown[T5_ESCAPED];
    const char *name = text(root, "feed_forward_proj", "relu", err);
    if (!name)
        return -1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) != 0)
            continue;
        const char *function = text(root, "dense_act_fn", known[i].function, err);
        if (!function)
            return -1;
        if (strcmp(function, known[i].function) != 0)
            return t5_fail(
                err,
                "\"dense_act_fn\": expected \"%s\" beside feed_forward_proj \"%s\", found \"%s\"",
                known[i].function, name, t5_escape(shown, function, strlen(function)));
        c->activation = known[i].activation;
        c->gated = known[i].gated;
        return 0;
    }
    return t5_fail(
        err, "\"feed_forward_proj\": \"%s\" not known (relu, gated-gelu, gated-silu expected)",
        t5_escape(shown, name, strlen(name)));
}

static int geometry(struct t5_config *c, const json_t *root, struct t5_err *err)
{
    if (whole(&c->d_model, root, "d_model", 1, MAX_DIM, -1, err) ||
        whole(&c->d_kv, root, "d_kv", 1, MAX_DIM, -1, err) ||
        whole(&c->d_ff, root, "d_ff", 1, MAX_DIM, -1, err) ||
        whole(&c->n_heads, root, "num_heads", 1, MAX_DIM, -1, err) ||
        whole(&c->n_encoder, root, "num_layers", 1, MAX_LAYERS, -1, err) ||
        whole(&c->n_decoder, root, "num_decoder_layers", 1, MAX_LAYERS, c->n_encoder, err) ||
        whole(&c->vocab, root, "vocab_size", 1, MAX_DIM, -1, err) ||
        whole(&c->buckets, root, "relative_attention_num_buckets", 4, 65536, -1, err) ||
        /* files older than transformers 4.11 lack it; the number was built in then */
        whole(&c->max_distance, root, "relative_attention_max_distance", 1, MAX_DIM, 128, err))
        return -1;
    if (c->n_heads * c->d_kv > MAX_DIM)
        return t5_fail(err, "\"num_heads\" x \"d_kv\": expected at most %lld, found %lld",
                       (long long)MAX_DIM, (long long)(c->n_heads * c->d_kv));
    if (c->buckets % 2)
        return t5_fail(err,
                       "\"relative_attention_num_buckets\": expected an even number, found %lld",
                       (long long)c->buckets);
    /* half the decoder's buckets are exact; the rest need a logarithm above zero */
    if (c->max_distance <= c->buckets / 2)
        return t5_fail(err,
                       "\"relative_attention_max_distance\": expected more than %lld, found %lld",
                       (long long)(c->buckets / 2), (long long)c->max_distance);
    return 0;
}

static int read_root(struct t5_config *c, const json_t *root, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    int64_t pad, eos, start;
    const char *type = text(root, "model_type", "", err);
    if (!type)
        return -1;
    if (strcmp(type, "t5") != 0)
        return t5_fail(err, "\"model_type\": expected \"t5\", found \"%s\"",
                       t5_escape(shown, type, strlen(type)));
    if (geometry(c, root, err) || activation(c, root, err) ||
        real(&c->eps, root, "layer_norm_epsilon", 1e-12, 1, 1e-6, err) ||
        real(&c->dropout, root, "dropout_rate", 0, 1, 0.1, err) ||
        flag(&c->tied, root, "tie_word_embeddings", 1, err) ||
        flag(&c->scale_output, root, "scale_decoder_outputs", c->tied, err) ||
        whole(&pad, root, "pad_token_id", 0, c->vocab - 1, 0, err) ||
        whole(&eos, root, "eos_token_id", 0, c->vocab - 1, 1, err) ||
        whole(&start, root, "decoder_start_token_id", 0, c->vocab - 1, pad, err))
        return -1;
    c->pad = (int32_t)pad;
    c->eos = (int32_t)eos;
    c->decoder_start = (int32_t)start;
    return 0;
}

int t5_config_parse(struct t5_config *out, const char *json, int64_t n, struct t5_err *err)
{
    memset(out, 0, sizeof *out);
    if (n > MAX_CONFIG)
        return t5_fail(err, "%lld bytes (at most %lld expected)", (long long)n,
                       (long long)MAX_CONFIG);
    json_t *root = t5_document_load(json, (size_t)n, err);
    if (!root)
        return -1;
    int rc = read_root(out, root, err);
    json_decref(root);
    return rc;
}
