/* peft.c - an adapter in memory: which modules it has, its scale, its release. Files: peft_read.c,
 * peft_write.c. */
/* SPDX-License-Identifier: MIT */
#include "io/peft.h"

#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "io/peft_modules.h"

static const char *const leaves[] = {"q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"};
#define N_LEAVES (sizeof leaves / sizeof *leaves)

double t5_adapter_scale(const struct t5_adapter *a)
{
    return a->alpha / (a->rslora ? sqrt((double)a->rank) : (double)a->rank);
}

int t5_peft_leaf(const char *module)
{
    const char *dot = strrchr(module, '.');
    for (size_t i = 0; dot && i < N_LEAVES; i++)
        if (strcmp(dot + 1, leaves[i]) == 0)
            return (int)i;
    return -1;
}

int t5_peft_modules(struct t5_lora_module **out, int *n, const struct t5_config *config,
                    struct t5_err *err)
{
    struct t5_layout_entry *layout;
    int n_layout;
    *out = NULL;
    *n = 0;
    if (t5_layout(&layout, &n_layout, config, err))
        return -1;
    *out = t5_alloc_zeroed((size_t)n_layout, sizeof **out, "the list of modules", err);
    for (int i = 0; *out && i < n_layout; i++) {
        struct t5_lora_module *m = &(*out)[*n];
        size_t k = strlen(layout[i].name) - strlen(".weight");
        memcpy(m->module, layout[i].name, k);
        m->module[k] = 0;
        m->out = layout[i].shape[0];
        m->in = layout[i].shape[1];
        if (layout[i].rank == 2 && t5_peft_leaf(m->module) >= 0)
            ++*n;
    }
    free(layout);
    return *out ? 0 : -1;
}

/* a and b, zeroed. */
static int allocate(struct t5_lora_module *m, int64_t rank, struct t5_err *err)
{
    m->a = t5_alloc_zeroed((size_t)(rank * m->in), sizeof *m->a, "an adapter", err);
    m->b = t5_alloc_zeroed((size_t)(rank * m->out), sizeof *m->b, "an adapter", err);
    return m->a && m->b ? 0 : -1;
}

/* Marks the leaves that the list names. */
static int read_leaves(int wanted[N_LEAVES], const char *targets, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    if (strcmp(targets, "all") == 0) {
        for (size_t i = 0; i < N_LEAVES; i++)
            wanted[i] = 1;
        return 0;
    }
    for (const char *p = targets;;) {
        size_t n = strcspn(p, ","), i = 0;
        while (i < N_LEAVES && !(strlen(leaves[i]) == n && memcmp(leaves[i], p, n) == 0))
            i++;
        if (i == N_LEAVES)
            return t5_fail_as(
                err, T5_USAGE,
                "targets: '%s' not known (q, k, v, o, wi, wi_0, wi_1, wo or all expected)",
                t5_escape(shown, p, n));
        wanted[i] = 1;
        if (!p[n])
            return 0;
        p += n + 1;
    }
}

int t5_adapter_init(struct t5_adapter *out, const char *targets, int64_t rank, double alpha,
                    double dropout, int rslora, const struct t5_config *config, struct t5_err *err)
{
    int wanted[N_LEAVES] = {0}, found[N_LEAVES] = {0}, n, kept = 0, rc = -1;
    struct t5_buf list = {0};
    *out = (struct t5_adapter){.rank = rank, .alpha = alpha, .dropout = dropout, .rslora = rslora};
    if (read_leaves(wanted, targets, err) || t5_peft_modules(&out->modules, &n, config, err))
        goto out;
    for (int i = 0; i < n; i++) {
        int leaf = t5_peft_leaf(out->modules[i].module);
        if (wanted[leaf])
            out->modules[kept++] = out->modules[i], found[leaf] = 1;
    }
    for (size_t i = 0; i < N_LEAVES; i++)
        if (wanted[i] && !found[i] && strcmp(targets, "all") != 0) {
            t5_fail_as(err, T5_USAGE, "targets: the model has no '%s'", leaves[i]);
            goto out;
        } else if (found[i] && t5_buf_printf(&list, err, "%s%s", list.n ? "," : "", leaves[i]))
            goto out;
    out->targets = list.data;
    list = (struct t5_buf){0};
    for (out->n_modules = 0; out->n_modules < kept; out->n_modules++)
        if (allocate(&out->modules[out->n_modules], rank, err)) {
            out->n_modules++; /* what it did allocate is freed too */
            goto out;
        }
    rc = 0;
out:
    t5_buf_free(&list);
    if (rc)
        t5_adapter_free(out);
    return rc;
}

int t5_adapter_foreign(const struct t5_adapter *a, const struct t5_checkpoint *base,
                       struct t5_err *err)
{
    char digest[65];
    const char *want = a->base_norms[0] ? a->base_norms : a->base_fingerprint;
    if (!want[0])
        return 0;
    if (a->base_norms[0] ? t5_checkpoint_norms(digest, base, err)
                         : t5_checkpoint_fingerprint(digest, base, err))
        return -1;
    return strcmp(digest, want) != 0;
}

void t5_adapter_free(struct t5_adapter *a)
{
    for (int i = 0; i < a->n_modules; i++) {
        free(a->modules[i].a);
        free(a->modules[i].b);
    }
    free(a->modules);
    free(a->targets);
    t5_token_settings_free(&a->tokens);
    *a = (struct t5_adapter){0};
}
