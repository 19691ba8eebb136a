/* golden.h - what tests over testdata/golden share: records, golden numbers, a model on a device.
 */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_GOLDEN_H
#define T5_TESTS_GOLDEN_H

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "io/tokens.h"
#include "t5/model.h"

static const char *const geometries[] = {"gated", "relu", "shallow"};
static const char *const adapters[] = {"none", "qv", "all"};

#define GOLDEN_RECORDS 24
#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call)                                                                                  \
            fail_msg("%s", err.text);                                                              \
    } while (0)

/* Records packed one behind the other. */
struct records {
    int n;
    int32_t input[2048], labels[1024], input_offsets[GOLDEN_RECORDS + 1],
        label_offsets[GOLDEN_RECORDS + 1];
    uint32_t record[GOLDEN_RECORDS];
};

static inline void records_load(struct records *r)
{
    struct t5_err err = {0};
    const char *path = "testdata/golden/records.jsonl";
    struct t5_tokens_options options = {
        .vocab = 96, .labels = T5_LABELS_REQUIRED, .max_line = T5_MAX_LINE};
    struct t5_tokens_reader *reader;
    struct t5_token_record t;
    OK(t5_tokens_open(&reader, &path, 1, &options, &err));
    memset(r, 0, sizeof *r);
    while (t5_tokens_next(reader, &t, &err) == 1) {
        int32_t *in = r->input_offsets + r->n, *out = r->label_offsets + r->n;
        memcpy(r->input + in[0], t.input, (size_t)t.n_input * sizeof *t.input);
        memcpy(r->labels + out[0], t.labels, (size_t)t.n_labels * sizeof *t.labels);
        in[1] = in[0] + (int32_t)t.n_input;
        out[1] = out[0] + (int32_t)t.n_labels;
        r->record[r->n] = (uint32_t)r->n;
        r->n++;
    }
    t5_tokens_close(reader);
    assert_int_equal(r->n, GOLDEN_RECORDS);
}

/* Records [first, first + n) as a batch; offsets live in the caller's arrays of n + 1. */
static inline struct t5_batch records_batch(const struct records *r, int first, int n,
                                            int32_t *input_offsets, int32_t *label_offsets)
{
    for (int i = 0; i <= n; i++) {
        input_offsets[i] = r->input_offsets[first + i] - r->input_offsets[first];
        label_offsets[i] = r->label_offsets[first + i] - r->label_offsets[first];
    }
    return (struct t5_batch){.n_seqs = n,
                             .input = r->input + r->input_offsets[first],
                             .input_offsets = input_offsets,
                             .labels = r->labels + r->label_offsets[first],
                             .label_offsets = label_offsets,
                             .record = r->record + first};
}

struct golden_model {
    struct t5_backend_handle backend;
    struct t5_checkpoint *checkpoint;
    struct t5_adapter adapter;
    int has_adapter;
    struct t5_model *model;
};

static inline void golden_open(struct golden_model *g, const char *device, const char *geometry,
                               const char *adapter, enum t5_model_mode mode)
{
    struct t5_err err = {0};
    struct t5_device_options options = {.threads = 2};
    char path[200];
    memset(g, 0, sizeof *g);
    OK(t5_backend_open(&g->backend, device, &options, &err));
    snprintf(path, sizeof path, "testdata/golden/%s/model", geometry);
    OK(t5_checkpoint_open(&g->checkpoint, path, &err));
    if (strcmp(adapter, "none") != 0) {
        snprintf(path, sizeof path, "testdata/golden/%s/adapter-%s", geometry, adapter);
        OK(t5_adapter_load(&g->adapter, path, g->checkpoint, &err));
        g->has_adapter = 1;
    }
    OK(t5_model_open(&g->model, &g->backend, g->checkpoint, g->has_adapter ? &g->adapter : NULL,
                     mode, &err));
}

static inline void golden_reserve(struct golden_model *g, const struct records *r)
{
    struct t5_err err = {0};
    struct t5_pass_limits limits = {.input_tokens = r->input_offsets[r->n],
                                    .label_tokens = r->label_offsets[r->n],
                                    .seqs = r->n};
    OK(t5_model_reserve(g->model, &limits, &err));
}

static inline void golden_close(struct golden_model *g)
{
    t5_model_close(g->model);
    if (g->has_adapter)
        t5_adapter_free(&g->adapter);
    t5_checkpoint_close(g->checkpoint);
    t5_backend_close(&g->backend);
}

/* The numbers of member `key` of every line of a JSONL file, one behind the other. Returns how
 * many. */
static inline int golden_numbers(float *out, int most, const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    if (!f)
        fail_msg("%s: cannot be opened", path);
    while (getline(&line, &room, f) > 0) {
        json_t *record = json_loads(line, 0, NULL), *value = json_object_get(record, key);
        size_t count = json_is_array(value) ? json_array_size(value) : 1;
        assert_non_null(value);
        assert_true(n + (int)count <= most);
        for (size_t i = 0; i < count; i++)
            out[n++] =
                (float)json_number_value(json_is_array(value) ? json_array_get(value, i) : value);
        json_decref(record);
    }
    free(line);
    fclose(f);
    return n;
}

#endif
