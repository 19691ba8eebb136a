/* tiny_model.h - a T5 of a few kilobytes for tests of files: its tensors can be changed before they
 * are written as one file, as shards, or as a file of ours. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_TINY_MODEL_H
#define T5_TESTS_TINY_MODEL_H

#include <sys/stat.h>

#include "base/rng.h"
#include "files.h"
#include "io/checkpoint.h"

#define TINY_CONFIG                                                                                \
    "{\"model_type\":\"t5\",\"d_model\":8,\"d_kv\":2,\"d_ff\":12,\"num_heads\":3,\"num_layers\":"  \
    "2,"                                                                                           \
    "\"num_decoder_layers\":1,\"vocab_size\":16,\"relative_attention_num_buckets\":4,"             \
    "\"relative_attention_max_distance\":9,\"feed_forward_proj\":\"gated-gelu\",\"tie_word_"       \
    "embeddings\":false}"
#define TINY_TIED                                                                                  \
    "{\"model_type\":\"t5\",\"d_model\":8,\"d_kv\":2,\"d_ff\":12,\"num_heads\":3,\"num_layers\":"  \
    "1,"                                                                                           \
    "\"vocab_size\":16,\"relative_attention_num_buckets\":4,\"relative_attention_max_distance\":"  \
    "9}"

struct tiny {
    int n;
    struct t5_tensor tensors[80];
    char names[80][160];
    float data[80][256];
};

/* Fills in the tensors that the config asks for, random. */
static inline void tiny_make(struct tiny *m, const char *config)
{
    struct t5_config c;
    struct t5_err err;
    struct t5_layout_entry *layout;
    if (t5_config_parse(&c, config, (int64_t)strlen(config), &err) ||
        t5_layout(&layout, &m->n, &c, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < m->n; i++) {
        struct t5_tensor *t = &m->tensors[i];
        strcpy(m->names[i], layout[i].name);
        *t = (struct t5_tensor){.name = m->names[i],
                                .type = T5_F32,
                                .rank = layout[i].rank,
                                .shape = {layout[i].shape[0], layout[i].shape[1]},
                                .data = m->data[i]};
        t->elements = t->shape[0] * (t->rank == 2 ? t->shape[1] : 1);
        t->bytes = (size_t)t->elements * 4;
        assert_true(t->elements <= 256);
        for (uint32_t e = 0; e < (uint32_t)t->elements; e++) {
            const uint32_t counter[4] = {e, (uint32_t)i, 0, 0}, key[2] = {1, 2};
            m->data[i][e] = t5_uniform(t5_philox(counter, key).v[0]) - 0.5f;
        }
    }
    free(layout);
}

static inline int tiny_find(const struct tiny *m, const char *name)
{
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->names[i], name) == 0)
            return i;
    fail_msg("no tensor %s", name);
    return -1;
}

/* Appends a tensor, of F32, over data[its index]. */
static inline struct t5_tensor *tiny_add(struct tiny *m, const char *name, int64_t rows,
                                         int64_t columns)
{
    struct t5_tensor *t = &m->tensors[m->n];
    strcpy(m->names[m->n], name);
    *t = (struct t5_tensor){.name = m->names[m->n],
                            .type = T5_F32,
                            .rank = columns ? 2 : 1,
                            .shape = {rows, columns},
                            .elements = rows * (columns ? columns : 1),
                            .data = m->data[m->n]};
    t->bytes = (size_t)t->elements * 4;
    m->n++;
    return t;
}

static inline void tiny_remove(struct tiny *m, const char *name)
{
    int i = tiny_find(m, name);
    for (int j = i; j + 1 < m->n; j++) { /* data stay where they are: tensors point at them */
        m->tensors[j] = m->tensors[j + 1];
        strcpy(m->names[j], m->names[j + 1]);
        m->tensors[j].name = m->names[j];
    }
    m->n--;
}

static inline void tiny_save(const struct tiny *m, const char *file, int from, int to,
                             const struct t5_metadata *metadata, int n_metadata)
{
    struct t5_err err;
    if (t5_safetensors_save(files_path(file), m->tensors + from, to - from, metadata, n_metadata,
                            &err))
        fail_msg("%s", err.text);
}

static inline void tiny_dir(const char *dir)
{
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", files_path(dir));
    assert_int_equal(system(command), 0);
    assert_int_equal(mkdir(files_path(dir), 0777), 0);
}

/* DIR/config.json and DIR/model.safetensors, in a directory made anew. */
static inline void tiny_save_dir(const struct tiny *m, const char *dir, const char *config)
{
    char name[128];
    tiny_dir(dir);
    snprintf(name, sizeof name, "%s/config.json", dir);
    files_write(name, config, strlen(config));
    snprintf(name, sizeof name, "%s/model.safetensors", dir);
    tiny_save(m, name, 0, m->n, NULL, 0);
}

#endif
