/* quantize_plan.c - which tensor gets which type. Does not touch data. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/nf4.h"
#include "io/peft_modules.h"
#include "io/quantize.h"

static const struct {
    const char *name;
    enum t5_dtype type;
} types[] = {{"int8", T5_I8}, {"fp8", T5_F8}, {"nf4", T5_NF4}, {"bf16", T5_BF16}, {"f32", T5_F32}};

const char *t5_quantize_name(enum t5_dtype type)
{
    for (size_t i = 0; t5_dtype_quantised(type) && i < sizeof types / sizeof *types; i++)
        if (types[i].type == type)
            return types[i].name;
    return "";
}

int64_t t5_quantize_bytes(const struct t5_quantize_step *s)
{
    int64_t n = s->in->elements, scales = s->out == T5_NF4 ? t5_nf4_scales(n) : s->matrix.rows;
    return t5_dtype_bytes(s->out, n) + (s->out == T5_NF4 ? t5_nf4_blocks(n) : 0) +
           (t5_dtype_quantised(s->out) ? scales * (int64_t)sizeof(float) : 0);
}

static int parse_type(enum t5_dtype *out, int *same, const char *name)
{
    *same = strcmp(name, "same") == 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) {
            *out = types[i].type;
            return 0;
        }
    return *same ? 0 : -1;
}

/* Whether the pattern's components are the name's first ones. */
static int matches_here(const char *pattern, size_t n, const char *name)
{
    const char *end = pattern + n;
    for (;;) {
        size_t p = strcspn(pattern, "."), k = strcspn(name, ".");
        if (p > (size_t)(end - pattern))
            p = (size_t)(end - pattern);
        int any = p == 1 && pattern[0] == '*';
        if (!any && (p != k || memcmp(pattern, name, k) != 0))
            return 0;
        if (pattern + p == end)
            return 1;
        if (!name[k])
            return 0;
        pattern += p + 1;
        name += k + 1;
    }
}

/* Components, anywhere in the name: "wo" is no part of "two", "o" none of "wo". */
static int matches(const char *pattern, size_t n, const char *name)
{
    for (;;) {
        if (matches_here(pattern, n, name))
            return 1;
        const char *dot = strchr(name, '.');
        if (!dot)
            return 0;
        name = dot + 1;
    }
}

static int is_table(const char *name)
{
    return strstr(name, ".relative_attention_bias.") != NULL;
}

/* q, k, v, o, wi, wi_0, wi_1 and wo: what a layer multiplies by. */
static int is_projection(const struct t5_tensor *t)
{
    char module[96];
    size_t n = strlen(t->name);
    if (t->rank != 2 || n < 7 || n - 7 >= sizeof module || strcmp(t->name + n - 7, ".weight") != 0)
        return 0;
    memcpy(module, t->name, n - 7);
    module[n - 7] = 0;
    return t5_peft_leaf(module) >= 0;
}

const struct t5_lora_module *t5_quantize_find_lora(const struct t5_adapter *a, const char *name)
{
    for (int i = 0; i < a->n_modules; i++) {
        size_t n = strlen(a->modules[i].module);
        if (strncmp(name, a->modules[i].module, n) == 0 && strcmp(name + n, ".weight") == 0)
            return &a->modules[i];
    }
    return NULL;
}

static int apply_keep(struct t5_quantize_step *steps, int n, const char *keep, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    const char *equals = strrchr(keep, '=');
    enum t5_dtype type = T5_F32;
    int same = 0, found = 0;
    t5_escape(shown, keep, strlen(keep));
    if (!equals || equals == keep || parse_type(&type, &same, equals + 1))
        return t5_fail_as(err, T5_USAGE,
                          "--keep: expected PATTERN=int8|fp8|nf4|bf16|f32|same, found '%s'", shown);
    for (int i = 0; i < n; i++) {
        const struct t5_tensor *t = steps[i].in;
        if (!matches(keep, (size_t)(equals - keep), t->name))
            continue;
        found = 1;
        if (!same && t5_dtype_quantised(type) && (t->rank != 2 || is_table(t->name)))
            return t5_fail_as(err, T5_USAGE, "--keep %s: '%s' cannot be %s (matrices only)", shown,
                              t->name, equals + 1);
        steps[i].out = same ? t->type : type;
        steps[i].copy = same;
    }
    return found ? 0 : t5_fail_as(err, T5_USAGE, "--keep %s: matches no tensor", shown);
}

/* A merged tensor is computed; one that only keeps its type is copied, unless it is quantised and
 * was asked to be so again: that loses twice, and has to be asked for. */
static int settle(struct t5_quantize_step *steps, int n, int requantize, struct t5_err *err)
{
    for (int i = 0; i < n; i++) {
        struct t5_quantize_step *s = &steps[i];
        int quantised = t5_dtype_quantised(s->in->type);
        s->copy = !s->merged && (s->copy || (s->out == s->in->type && !quantised));
        if (quantised && t5_dtype_quantised(s->out) && !s->copy && !requantize)
            return t5_fail(
                err,
                "%s: tensor '%s' is %s already (--requantize quantises it again, with its loss)",
                s->in->file, s->in->name, t5_quantize_name(s->in->type));
    }
    return 0;
}

int t5_quantize_plan(struct t5_quantize_step **out, int *n, const struct t5_checkpoint *model,
                     const struct t5_quantize_options *options, struct t5_err *err)
{
    enum t5_dtype type;
    int same, count = t5_checkpoint_count(model), rc = -1;
    struct t5_quantize_step *steps = t5_alloc_zeroed((size_t)count, sizeof *steps, "the plan", err);
    *out = NULL;
    *n = 0;
    if (!steps)
        return -1;
    if (parse_type(&type, &same, options->type) || same) {
        t5_fail_as(err, T5_USAGE, "type '%s' not known", options->type);
        goto out;
    }
    for (int i = 0; i < count; i++) {
        struct t5_quantize_step *s = &steps[*n];
        s->in = t5_checkpoint_at(model, i);
        s->matrix = t5_checkpoint_matrix(model, i);
        s->n_scales = s->in->type == T5_NF4 ? 2 : t5_dtype_quantised(s->in->type);
        i += s->n_scales;
        for (int k = 0; k < options->n_merges && !s->merged; k++)
            s->merged = t5_quantize_find_lora(&options->merges[k].adapter, s->in->name) != NULL;
        s->copy = t5_dtype_quantised(type) && !is_projection(s->in);
        s->out = s->copy ? s->in->type : type;
        ++*n;
    }
    for (int i = 0; i < options->n_keep; i++)
        if (apply_keep(steps, *n, options->keep[i], err))
            goto out;
    rc = settle(steps, *n, options->requantize, err);
out:
    if (rc)
        free(steps);
    else
        *out = steps;
    return rc;
}
