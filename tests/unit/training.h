/* training.h - the runs of testdata/golden/training as tests train them, a step at a time. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_TRAINING_H
#define T5_TESTS_TRAINING_H

#include "golden.h"

#include "t5/trainer.h"

#define STEPS 30

struct curve { /* one row of runs.jsonl, and its golden numbers */
    char name[32], geometry[16];
    int lora;
    double lr, weight_decay, clip;
    float loss[STEPS], norm[STEPS];
};

static inline int curves_load(struct curve curves[8])
{
    FILE *f = fopen("testdata/golden/training/runs.jsonl", "r");
    char line[512], path[128];
    int n = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *run = json_loads(line, 0, NULL);
        struct curve *c = &curves[n++];
        assert_int_equal(json_integer_value(json_object_get(run, "steps")), STEPS);
        assert_int_equal(json_integer_value(json_object_get(run, "batch")), 8);
        snprintf(c->name, sizeof c->name, "%s", json_string_value(json_object_get(run, "name")));
        snprintf(c->geometry, sizeof c->geometry, "%s",
                 json_string_value(json_object_get(run, "geometry")));
        c->lora = json_is_string(json_object_get(run, "adapter"));
        c->lr = json_number_value(json_object_get(run, "lr"));
        c->weight_decay = json_number_value(json_object_get(run, "weight_decay"));
        c->clip = json_number_value(json_object_get(run, "clip"));
        json_decref(run);
        snprintf(path, sizeof path, "testdata/golden/training/%s.jsonl", c->name);
        assert_int_equal(golden_numbers(c->loss, STEPS, path, "loss"), STEPS);
        assert_int_equal(golden_numbers(c->norm, STEPS, path, "grad_norm"), STEPS);
    }
    fclose(f);
    assert_int_equal(n, 4);
    return n;
}

static inline void dataset_load(struct t5_dataset *data)
{
    struct t5_err err = {0};
    const char *path = "testdata/golden/records.jsonl";
    struct t5_tokens_options how = {
        .vocab = 96, .labels = T5_LABELS_REQUIRED, .max_line = T5_MAX_LINE};
    struct t5_tokens_reader *reader;
    struct t5_token_record record;
    OK(t5_tokens_open(&reader, &path, 1, &how, &err));
    while (t5_tokens_next(reader, &record, &err) == 1)
        OK(t5_dataset_add(data, &record, &err));
    t5_tokens_close(reader);
    assert_int_equal(data->n, GOLDEN_RECORDS);
}

/* Settings of what training_open opens. */
static int64_t tolerated;
static double spike_z; /* of 4 losses; spikes are left out */
static const struct t5_ranges *left_out;
static void (*on_cut)(void *context, int64_t step, int64_t pass_tokens, const struct t5_err *why);

/* A curve being trained. */
struct training {
    struct golden_model g;
    struct t5_dataset data;
    struct t5_trainer *trainer;
};

static inline void training_open(struct training *t, const struct curve *c, const char *device,
                          int64_t micro_tokens, double dropout)
{
    struct t5_err err = {0};
    struct t5_pass_limits limits = {0};
    struct t5_train_settings settings = {
        .batch = 8,
        .micro_tokens = micro_tokens,
        .total_steps = STEPS,
        .schedule = {.kind = T5_SCHEDULE_LINEAR, .lr = c->lr, .total = STEPS},
        .optimizer = {.clip = c->clip, .weight_decay = c->weight_decay, .decay_all = 1},
        .model_dropout = dropout,
        .lora_dropout = dropout,
        .seed = 42,
        .order = T5_ORDER_FILE,
        .tolerate = tolerated,
        .spike_z = spike_z,
        .spike_window = 4,
        .spike_skip = 1,
        .skip = left_out,
        .cut = on_cut};
    memset(t, 0, sizeof *t);
    golden_open(&t->g, device, c->geometry, c->lora ? "qv" : "none",
                c->lora ? T5_TRAIN_LORA : T5_TRAIN_FULL);
    dataset_load(&t->data);
    OK(t5_limits_add(&limits, &t->data, 8, micro_tokens, &err));
    OK(t5_model_reserve(t->g.model, &limits, &err));
    OK(t5_trainer_open(&t->trainer, t->g.model, &t->data, &limits, &settings, &err));
}

static inline void training_close(struct training *t)
{
    t5_trainer_close(t->trainer);
    t5_dataset_free(&t->data);
    golden_close(&t->g);
}

static inline void step(struct training *t, struct t5_step_report *report)
{
    struct t5_err err = {0};
    if (t5_trainer_step(t->trainer, report, &err) != 1)
        fail_msg("step %lld: %s", (long long)report->step, err.text);
}

#endif
