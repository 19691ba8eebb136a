/* adapter_params.c - between an adapter and the parameters of a model. */
/* SPDX-License-Identifier: MIT */
#include "t5/adapter_params.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0;
    for (; *name; name++)
        hash = t5_mix(hash, (unsigned char)*name);
    return hash;
}

static void draw_uniform(float *out, int64_t n, float bound, const uint32_t key[2])
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), 0, 0};
        out[i] = bound * (2 * t5_uniform(t5_philox(counter, key).v[i % 4]) - 1);
    }
}

void t5_adapter_start(struct t5_adapter *adapter, uint64_t seed)
{
    for (int i = 0; i < adapter->n_modules; i++) {
        struct t5_lora_module *module = &adapter->modules[i];
        uint32_t key[2];
        t5_rng_key(key, seed, T5_RNG_INIT, hash_name(module->module));
        draw_uniform(module->a, adapter->rank * module->in, (float)(1 / sqrt((double)module->in)),
                     key);
        memset(module->b, 0, (size_t)(module->out * adapter->rank) * sizeof *module->b);
    }
}

static int fetch(float *out, const struct t5_model *model, const char *module, const char *which,
                 int64_t n, struct t5_err *err)
{
    const struct t5_backend_handle *backend = t5_model_backend(model);
    char name[128];
    snprintf(name, sizeof name, "%s.%s", module, which);
    for (int i = 0; i < t5_model_param_count(model); i++) {
        const struct t5_param *p = t5_model_param(model, i);
        if (strcmp(p->name, name) == 0 && p->rows * p->cols == n)
            return backend->ops.download(backend->dev, out, t5_model_params(model) + p->offset,
                                         (size_t)n * sizeof *out, err);
    }
    return t5_fail(err, "the model has no parameter '%s'", name);
}

int t5_adapter_fetch(struct t5_adapter *adapter, const struct t5_model *model, struct t5_err *err)
{
    for (int i = 0; i < adapter->n_modules; i++) {
        struct t5_lora_module *module = &adapter->modules[i];
        if (fetch(module->a, model, module->module, "lora_A", adapter->rank * module->in, err) ||
            fetch(module->b, model, module->module, "lora_B", adapter->rank * module->out, err))
            return -1;
    }
    return 0;
}
