/* random_model.c - writes an HF directory of any T5 config with random bf16 weights, fast: what the
 * benchmarks measure with where trained weights are not at hand. usage: random_model CONFIG DIR
 *
 * Weights are uniform with the deviation that keeps a pre-norm stack sane: projections 1/sqrt(in),
 * the output projections a further 1/sqrt(2 layers), embeddings 1; logits of deviation about 2. Not
 * the initialisation that training starts from: see t5_model_create. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/rng.h"
#include "io/atomic.h"
#include "io/checkpoint.h"

#define CHUNK ((int64_t)1 << 22) /* elements made at a time */

static double deviation_of(const struct t5_layout_entry *e, const struct t5_config *c)
{
    const char *name = e->name;
    double in = (double)(e->rank > 1 ? e->shape[1] : 1);
    if (e->rank == 1)
        return 0;
    if (strstr(name, "relative_attention_bias") || strcmp(name, "shared.weight") == 0)
        return 1;
    if (strcmp(name, "lm_head.weight") == 0)
        return 2 / sqrt(in);
    if (strstr(name, ".o.weight") || strstr(name, ".wo.weight"))
        return 1 / sqrt(in * 2 * (double)c->n_encoder);
    if (strstr(name, ".q.weight")) /* scores are not divided by sqrt(d_kv) */
        return 1 / sqrt(in * (double)c->d_kv);
    return 1 / sqrt(in);
}

/* Sum of two uniforms, cheap and without outliers: variance 1 before scaling. */
static void fill(uint16_t *out, int64_t first, int64_t n, double deviation, uint64_t which)
{
    uint32_t key[2];
    float size = (float)(deviation * sqrt(6.0));
    t5_rng_key(key, 1, T5_RNG_INIT, which);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += 2) {
        uint64_t at = (uint64_t)(first + i) / 2;
        uint32_t counter[4] = {(uint32_t)at, (uint32_t)(at >> 32), 0, 0};
        struct t5_philox d = t5_philox(counter, key);
        out[i] = t5_f32_to_bf16(deviation > 0 ? size * (t5_uniform(d.v[0]) + t5_uniform(d.v[1]) - 1)
                                              : 1);
        if (i + 1 < n)
            out[i + 1] = t5_f32_to_bf16(
                deviation > 0 ? size * (t5_uniform(d.v[2]) + t5_uniform(d.v[3]) - 1) : 1);
    }
}

static int write_weights(struct t5_atomic *file, const struct t5_layout_entry *layout, int n,
                         const struct t5_config *config, struct t5_err *err)
{
    uint16_t *chunk = t5_alloc((size_t)CHUNK, sizeof *chunk, "weights", err);
    int rc = chunk ? 0 : -1;
    for (int i = 0; i < n && rc == 0; i++) {
        int64_t all = layout[i].shape[0] * (layout[i].rank > 1 ? layout[i].shape[1] : 1);
        double deviation = deviation_of(&layout[i], config);
        for (int64_t first = 0; first < all && rc == 0; first += CHUNK) {
            int64_t some = all - first < CHUNK ? all - first : CHUNK;
            fill(chunk, first, some, deviation, (uint64_t)i);
            rc = t5_atomic_write(file, chunk, (size_t)some * sizeof *chunk, err);
        }
    }
    free(chunk);
    return rc;
}

static int write_model(const char *path, const struct t5_config *config, struct t5_err *err)
{
    struct t5_layout_entry *layout = NULL;
    struct t5_tensor *tensors = NULL;
    struct t5_atomic *file = NULL;
    struct t5_metadata format = {"format", "pt"};
    int n, rc = -1;
    if (t5_layout(&layout, &n, config, err))
        return -1;
    tensors = t5_alloc_zeroed((size_t)n, sizeof *tensors, "tensors", err);
    if (!tensors)
        goto out;
    for (int i = 0; i < n; i++) {
        tensors[i].name = layout[i].name;
        tensors[i].type = T5_BF16;
        tensors[i].rank = layout[i].rank;
        tensors[i].elements = 1;
        for (int k = 0; k < layout[i].rank; k++) {
            tensors[i].shape[k] = layout[i].shape[k];
            tensors[i].elements *= layout[i].shape[k];
        }
        tensors[i].bytes = (size_t)tensors[i].elements * 2;
    }
    if (t5_atomic_open(&file, path, err) ||
        t5_safetensors_write_header(file, tensors, n, &format, 1, err) ||
        write_weights(file, layout, n, config, err))
        goto out;
    rc = t5_atomic_commit(file, err);
    file = NULL;
out:
    t5_atomic_abandon(file);
    free(tensors);
    free(layout);
    return rc;
}

int main(int argc, char **argv)
{
    static char text[1 << 16];
    struct t5_err err = {0};
    struct t5_config config;
    char path[4096];
    FILE *in = argc == 3 ? fopen(argv[1], "r") : NULL;
    size_t n = in ? fread(text, 1, sizeof text, in) : 0;
    if (!n) {
        fprintf(stderr, "usage: random_model CONFIG DIR\n");
        return 2;
    }
    fclose(in);
    mkdir(argv[2], 0777);
    snprintf(path, sizeof path, "%s/config.json", argv[2]);
    if (t5_config_parse(&config, text, (int64_t)n, &err) || t5_atomic_save(path, text, n, &err))
        goto failed;
    snprintf(path, sizeof path, "%s/model.safetensors", argv[2]);
    if (write_model(path, &config, &err))
        goto failed;
    return 0;
failed:
    fprintf(stderr, "random_model: %s\n", err.text);
    return 1;
}
