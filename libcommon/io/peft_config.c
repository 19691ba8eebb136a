/* peft_config.c - reading and writing adapter_config.json, in the form that every PEFT version
 * knows. */
/* SPDX-License-Identifier: MIT */
#include "io/peft_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/document.h"
#include "io/jsonl.h"

#define MAX_LORA_RANK 4096

static const char *escaped(char out[T5_ESCAPED], const char *text)
{
    return t5_escape(out, text, strlen(text));
}

/* null, false, 0, "", [] and {}: a feature that is not used */
static int is_off(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE:
        return 1;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    default:
        return 0;
    }
}

/* Keys that are read below, or that change nothing once the weights are trained. Every other key
 * must be off: PEFT adds features with each release, and half an adapter is worse than none. */
static int is_harmless(const char *key)
{
    static const char *const keys[] = {
        "peft_type",
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "use_rslora",
        "bias",
        "init_lora_weights",
        "base_model_name_or_path",
        "task_type",
        "auto_mapping",
        "peft_version",
        "revision",
        "inference_mode",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
        "eva_config",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return 1;
    return 0;
}

static int check_features(json_t *root, struct t5_err *err)
{
    /* Initialisations that alter the base weights as well: the adapter alone is not the model. */
    static const char *const altering[] = {"pissa", "olora", "loftq", "corda", "lora_ga"};
    char shown[T5_ESCAPED];
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!is_harmless(key) && !is_off(value))
            return t5_fail(err, "\"%s\" is not supported", escaped(shown, key));
    }
    value = json_object_get(root, "bias");
    if (value && !is_off(value) &&
        !(json_is_string(value) && strcmp(json_string_value(value), "none") == 0))
        return t5_fail(err, "\"bias\": only \"none\" is supported");
    value = json_object_get(root, "init_lora_weights");
    for (size_t i = 0; json_is_string(value) && i < sizeof altering / sizeof *altering; i++)
        if (strncmp(json_string_value(value), altering[i], strlen(altering[i])) == 0)
            return t5_fail(
                err, "\"init_lora_weights\": \"%s\" is not supported (it alters the base model)",
                escaped(shown, json_string_value(value)));
    return 0;
}

static int read_numbers(struct t5_adapter *a, const json_t *root, struct t5_err *err)
{
    const json_t *r = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha"),
                 *dropout = json_object_get(root, "lora_dropout"),
                 *rslora = json_object_get(root, "use_rslora");
    if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > MAX_LORA_RANK)
        return t5_fail(err, "\"r\": expected a whole number from 1 to %d%s", MAX_LORA_RANK,
                       r ? "" : ", found none");
    if (!json_is_number(alpha) || !isfinite(json_number_value(alpha)))
        return t5_fail(err, "\"lora_alpha\": expected a number%s", alpha ? "" : ", found none");
    if (dropout && (!json_is_number(dropout) || json_number_value(dropout) < 0 ||
                    !(json_number_value(dropout) < 1)))
        return t5_fail(err, "\"lora_dropout\": expected a number from 0 to below 1");
    if (rslora && !json_is_boolean(rslora) && !json_is_null(rslora))
        return t5_fail(err, "\"use_rslora\": expected true or false");
    a->rank = json_integer_value(r);
    a->alpha = json_number_value(alpha);
    a->dropout = dropout ? json_number_value(dropout) : 0;
    a->rslora = json_is_true(rslora);
    return 0;
}

static int read_targets(struct t5_adapter *a, struct t5_peft_targets *targets, const json_t *root,
                        struct t5_err *err)
{
    const json_t *value = json_object_get(root, "target_modules");
    const char *narrowing[] = {"layers_to_transform", "exclude_modules"};
    struct t5_buf list = {0};
    for (int i = 0; i < 2; i++) {
        const json_t *n = json_object_get(root, narrowing[i]);
        targets->narrowed |= n && !is_off(n);
    }
    targets->is_list = json_is_array(value);
    if (is_off(value ? value : json_null()) || (!targets->is_list && !json_is_string(value)))
        return t5_fail(err, "\"target_modules\": expected a list of names or a string");
    for (size_t i = 0; targets->is_list && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(item);
        if (!name || !name[0] || strlen(name) != json_string_length(item) || strchr(name, ','))
            t5_fail(err, "\"target_modules\": expected names, found something else at position %zu",
                    i);
        else if (t5_buf_printf(&list, err, "%s%s", i ? "," : "", name) == 0)
            continue;
        t5_buf_free(&list);
        return -1;
    }
    if (!targets->is_list && t5_buf_printf(&list, err, "%s", json_string_value(value))) {
        t5_buf_free(&list);
        return -1;
    }
    a->targets = list.data; /* t5_buf_printf puts a NUL behind */
    return 0;
}

static int read_root(struct t5_adapter *a, struct t5_peft_targets *targets, json_t *root,
                     struct t5_err *err)
{
    char shown[T5_ESCAPED];
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    if (!type || strcmp(type, "LORA") != 0)
        return t5_fail(err, "\"peft_type\": expected \"LORA\", found %s%s%s", type ? "\"" : "",
                       type ? escaped(shown, type) : "none", type ? "\"" : "");
    const char *base = json_string_value(json_object_get(root, "base_model_name_or_path"));
    snprintf(a->base, sizeof a->base, "%s", base ? base : "");
    return check_features(root, err) || read_numbers(a, root, err) ||
                   read_targets(a, targets, root, err)
               ? -1
               : 0;
}

int t5_peft_config_parse(struct t5_adapter *out, struct t5_peft_targets *targets, const char *text,
                         size_t n, struct t5_err *err)
{
    *targets = (struct t5_peft_targets){0};
    json_t *root = t5_document_load(text, n, err);
    if (!root)
        return -1;
    int rc = read_root(out, targets, root, err);
    json_decref(root);
    return rc;
}

/* The shortest of 15 to 17 digits that reads back the same: 0.05, not 0.050000000000000003. */
static const char *number(char out[32], double v)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    return out;
}

static int print_targets(struct t5_buf *out, const char *targets, struct t5_err *err)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,";
    size_t n = strlen(targets);
    if (strspn(targets, plain) != n) /* a pattern, or "all-linear" */
        return t5_json_quote(out, targets, n, err);
    if (t5_buf_printf(out, err, "["))
        return -1;
    for (const char *p = targets; *p;) {
        size_t k = strcspn(p, ",");
        if ((p != targets && t5_buf_printf(out, err, ", ")) || t5_json_quote(out, p, k, err))
            return -1;
        p += k + (p[k] == ',');
    }
    return t5_buf_printf(out, err, "]");
}

/* No key but those that PEFT 0.2 to now all know; 0.8 to 0.12 refuse a file with any other.
 * use_rslora came with 0.7 and is written only where it says something. */
int t5_peft_config_print(struct t5_buf *out, const struct t5_adapter *a, struct t5_err *err)
{
    char alpha[32], dropout[32];
    if (t5_buf_printf(out, err, "{\n  \"base_model_name_or_path\": ") ||
        (a->base[0] ? t5_json_quote(out, a->base, strlen(a->base), err)
                    : t5_buf_printf(out, err, "null")) ||
        t5_buf_printf(
            out, err,
            ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
            "  \"inference_mode\": true,\n  \"init_lora_weights\": true,\n"
            "  \"lora_alpha\": %s,\n  \"lora_dropout\": %s,\n  \"modules_to_save\": null,\n"
            "  \"peft_type\": \"LORA\",\n  \"r\": %lld,\n  \"target_modules\": ",
            number(alpha, a->alpha), number(dropout, a->dropout), (long long)a->rank) ||
        print_targets(out, a->targets, err))
        return -1;
    return t5_buf_printf(out, err, ",\n  \"task_type\": \"SEQ_2_SEQ_LM\"%s\n}\n",
                         a->rslora ? ",\n  \"use_rslora\": true" : "");
}
