/* random_model.c - an HF directory of a T5 of any geometry with random weights, for benchmarks:
 * random_model CONFIG.json DIR. Same names, shapes and sizes as a trained one; f32. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/rng.h"
#include "io/atomic.h"
#include "io/checkpoint.h"
#include "io/mapping.h"

#define PIECE (1 << 20) /* elements at a time */

/* Sums of four uniform draws, as good as normal here, with deviation 1 / sqrt(columns); norms are
 * ones. */
static void fill(float *w, uint64_t from, int64_t n, const struct t5_layout_entry *e,
                 const uint32_t key[2])
{
    float scale = e->rank == 2 ? 1.7320508f / sqrtf((float)e->shape[1]) : 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        uint64_t at = from + (uint64_t)i;
        uint32_t counter[4] = {(uint32_t)at, (uint32_t)(at >> 32), 0, 0};
        struct t5_philox p = t5_philox(counter, key);
        float sum = t5_uniform(p.v[0]) + t5_uniform(p.v[1]) + t5_uniform(p.v[2]) +
                    t5_uniform(p.v[3]) - 2.0f;
        w[i] = e->rank == 2 ? sum * scale : 1.0f;
    }
}

static int write_all(struct t5_atomic *file, const struct t5_layout_entry *layout, int n,
                     struct t5_err *err)
{
    struct t5_tensor *tensors = t5_alloc_zeroed((size_t)n, sizeof *tensors, "tensors", err);
    float *w = t5_alloc(PIECE, sizeof *w, "a piece", err);
    const struct t5_metadata metadata = {"format", "pt"};
    int rc = tensors && w ? 0 : -1;
    for (int i = 0; rc == 0 && i < n; i++)
        tensors[i] = (struct t5_tensor){.name = layout[i].name,
                                        .type = T5_F32,
                                        .rank = layout[i].rank,
                                        .shape = {layout[i].shape[0], layout[i].shape[1]}};
    if (rc == 0)
        rc = t5_safetensors_write_header(file, tensors, n, &metadata, 1, err);
    for (int i = 0; rc == 0 && i < n; i++) {
        int64_t elements = layout[i].shape[0] * (layout[i].rank == 2 ? layout[i].shape[1] : 1);
        uint32_t key[2];
        t5_rng_key(key, 1, T5_RNG_INIT, (uint64_t)i);
        for (int64_t at = 0; rc == 0 && at < elements; at += PIECE) {
            int64_t k = elements - at < PIECE ? elements - at : PIECE;
            fill(w, (uint64_t)at, k, &layout[i], key);
            rc = t5_atomic_write(file, w, (size_t)k * sizeof *w, err);
        }
    }
    free(tensors);
    free(w);
    return rc;
}

static int run(const char *config_path, const char *dir, struct t5_err *err)
{
    struct t5_config config;
    struct t5_layout_entry *layout = NULL;
    struct t5_atomic *file = NULL;
    char path[4096];
    size_t size;
    int n, rc = -1;
    char *text = t5_read_regular(AT_FDCWD, config_path, config_path, 1 << 20, &size, err);
    mkdir(dir, 0777);
    if (!text || t5_config_parse(&config, text, (int64_t)size, err) ||
        t5_layout(&layout, &n, &config, err))
        goto out;
    snprintf(path, sizeof path, "%s/config.json", dir);
    if (t5_atomic_save(path, text, size, err))
        goto out;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (t5_atomic_open(&file, path, err) == 0 && write_all(file, layout, n, err) == 0)
        rc = t5_atomic_commit(file, err);
out:
    free(layout);
    free(text);
    return rc;
}

int main(int argc, char **argv)
{
    struct t5_err err = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: random_model CONFIG.json DIR\n");
        return T5_USAGE;
    }
    if (run(argv[1], argv[2], &err) == 0)
        return 0;
    fprintf(stderr, "random_model: %s\n", err.text);
    return (int)err.status;
}
