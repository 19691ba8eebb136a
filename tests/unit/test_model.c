/* test_model.c - the model against transformers and peft: log-probabilities; packed against alone;
 * adapters mixed; dropout; micro-batches. On every device. */
/* SPDX-License-Identifier: MIT */
#include "golden.h"

static struct records records;
#ifndef TEST_DEVICES
#define TEST_DEVICES "ref", "cpu"
#define ALONE 1e-6 /* how far a record alone may be from the same in a batch */
#define MICRO 1e-6 /* the same of the gradient of records one by one, of its norm */
#endif
static const char *const devices[] = {TEST_DEVICES};
#define N_DEVICES (sizeof devices / sizeof *devices)

static void score_all(struct golden_model *g, float *out)
{
    struct t5_err err = {0};
    int32_t in[GOLDEN_RECORDS + 1], lab[GOLDEN_RECORDS + 1];
    struct t5_batch batch = records_batch(&records, 0, records.n, in, lab);
    OK(t5_model_score(g->model, &batch, out, &err));
}

/* Requirement: label log-probabilities equal transformers' and peft's to 1e-4. */
static void test_logprobs(void **state)
{
    (void)state;
    static float got[1024], want[1024];
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t i = 0; i < 3; i++)
            for (size_t a = 0; a < 3; a++) {
                struct golden_model g;
                char path[200];
                golden_open(&g, devices[d], geometries[i], adapters[a], T5_INFER);
                golden_reserve(&g, &records);
                score_all(&g, got);
                snprintf(path, sizeof path, "testdata/golden/%s/logprobs/%s.jsonl", geometries[i],
                         adapters[a]);
                int n = golden_numbers(want, 1024, path, "logprobs");
                assert_int_equal(n, records.label_offsets[records.n]);
                assert_close(got, want, n, 1e-4, 0, path);
                golden_close(&g);
            }
}

/* Requirement: a batch that mixes adapters and none gives each record what transformers and peft give with its own. Here
 * every neighbour goes through another. */
static void test_mixed_adapters(void **state)
{
    (void)state;
    static float got[1024], each[3][1024];
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t i = 0; i < 3; i++) {
            struct golden_model g;
            struct t5_adapter all;
            struct t5_err err = {0};
            char path[200];
            int32_t in[GOLDEN_RECORDS + 1], lab[GOLDEN_RECORDS + 1], adapter[GOLDEN_RECORDS];
            struct t5_batch batch = records_batch(&records, 0, records.n, in, lab);
            golden_open(&g, devices[d], geometries[i], "qv", T5_INFER);
            snprintf(path, sizeof path, "testdata/golden/%s/adapter-all", geometries[i]);
            OK(t5_adapter_load(&all, path, g.checkpoint, &err));
            OK(t5_model_add_adapter(g.model, &all, &err));
            golden_reserve(&g, &records);
            for (int r = 0; r < records.n; r++)
                adapter[r] = r % 3 - 1;
            batch.adapter = adapter;
            OK(t5_model_score(g.model, &batch, got, &err));
            for (int a = 0; a < 3; a++) {
                snprintf(path, sizeof path, "testdata/golden/%s/logprobs/%s.jsonl", geometries[i],
                         adapters[a]);
                golden_numbers(each[a], 1024, path, "logprobs");
            }
            for (int r = 0; r < records.n; r++)
                assert_close(got + lab[r], each[r % 3] + lab[r], lab[r + 1] - lab[r], 1e-4, 0,
                             geometries[i]);
            t5_adapter_free(&all);
            golden_close(&g);
        }
}

/* Requirement: a batch of mixed lengths gives what each record gives alone (1e-6). */
static void test_packed_equals_alone(void **state)
{
    (void)state;
    static float together[1024], alone[1024];
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t i = 0; i < 3; i++) {
            struct golden_model g;
            struct t5_err err = {0};
            golden_open(&g, devices[d], geometries[i], "all", T5_INFER);
            golden_reserve(&g, &records);
            score_all(&g, together);
            for (int r = 0; r < records.n; r++) {
                int32_t in[2], lab[2];
                struct t5_batch batch = records_batch(&records, r, 1, in, lab);
                OK(t5_model_score(g.model, &batch, alone + records.label_offsets[r], &err));
            }
            assert_close(alone, together, records.label_offsets[records.n], ALONE, ALONE, "alone");
            golden_close(&g);
        }
}

static void gradients(struct golden_model *g, const struct t5_batch *batch,
                      const struct t5_pass *pass, float *out, double *loss)
{
    struct t5_err err = {0};
    size_t bytes = (size_t)t5_model_n_params(g->model) * sizeof(float);
    if (out)
        g->backend.ops.zero(g->backend.dev, t5_model_grads(g->model), bytes);
    OK(t5_model_train(g->model, batch, pass, loss, &err));
    if (out)
        OK(g->backend.ops.download(g->backend.dev, out, t5_model_grads(g->model), bytes, &err));
}

static float *new_params(const struct golden_model *g)
{
    float *p = calloc((size_t)t5_model_n_params(g->model), sizeof *p);
    assert_non_null(p);
    return p;
}

/* Requirement: batch 8 equals 8 micro-batches of 1, dropout drawn or not. */
static void check_micro_batches(const char *device, enum t5_model_mode mode, float dropout)
{
    struct golden_model g;
    struct t5_err err = {0};
    golden_open(&g, device, "gated", mode == T5_TRAIN_LORA ? "all" : "none", mode);
    golden_reserve(&g, &records);
    int32_t in[9], lab[9];
    struct t5_batch batch = records_batch(&records, 2, 8, in, lab);
    struct t5_pass pass = {.loss_scale = 1.0f / (float)lab[8],
                           .model_dropout = dropout,
                           .lora_dropout = dropout,
                           .seed = 42,
                           .epoch = 3};
    float *whole = new_params(&g), *cut = new_params(&g);
    double loss, sum = 0, part;
    gradients(&g, &batch, &pass, whole, &loss);
    g.backend.ops.zero(g.backend.dev, t5_model_grads(g.model),
                       (size_t)t5_model_n_params(g.model) * sizeof(float));
    for (int r = 2; r < 10; r++) {
        int32_t one_in[2], one_lab[2];
        struct t5_batch one = records_batch(&records, r, 1, one_in, one_lab);
        gradients(&g, &one, &pass, NULL, &part);
        sum += part;
    }
    OK(g.backend.ops.download(g.backend.dev, cut, t5_model_grads(g.model),
                              (size_t)t5_model_n_params(g.model) * sizeof(float), &err));
    assert_true(t5_close(sum, loss, 0, 1e-6));
    assert_near(cut, whole, t5_model_n_params(g.model), MICRO, "micro-batches");
    free(whole);
    free(cut);
    golden_close(&g);
}

/* Requirement: recomputing changes no bit of gradients and loss, dropout drawn. */
static void check_recompute(const char *device, const char *geometry, enum t5_model_mode mode)
{
    struct golden_model g;
    struct t5_err err = {0};
    golden_open(&g, device, geometry, mode == T5_TRAIN_LORA ? "all" : "none", mode);
    int32_t in[9], lab[9];
    struct t5_batch batch = records_batch(&records, 2, 8, in, lab);
    struct t5_pass pass = {.loss_scale = 1.0f / (float)lab[8],
                           .model_dropout = 0.2f,
                           .lora_dropout = 0.1f,
                           .seed = 42,
                           .epoch = 3};
    struct t5_pass_limits limits = {.input_tokens = in[8], .label_tokens = lab[8], .seqs = 8};
    float *kept = new_params(&g), *again = new_params(&g);
    double loss, same;
    OK(t5_model_reserve(g.model, &limits, &err));
    gradients(&g, &batch, &pass, kept, &loss);
    for (int level = T5_RECOMPUTE_NORMS; level <= T5_RECOMPUTE_BLOCKS; level++) {
        limits.recompute = (enum t5_recompute)level;
        OK(t5_model_reserve(g.model, &limits, &err));
        gradients(&g, &batch, &pass, again, &same);
        assert_true(loss == same);
        assert_memory_equal(again, kept, (size_t)t5_model_n_params(g.model) * sizeof *kept);
    }
    free(kept);
    free(again);
    golden_close(&g);
}

static void test_recompute(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t i = 0; i < 3; i++) {
            check_recompute(devices[d], geometries[i], T5_TRAIN_LORA);
            check_recompute(devices[d], geometries[i], T5_TRAIN_FULL);
        }
}

static void test_micro_batches(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++)
        for (int dropout = 0; dropout < 2; dropout++) {
            check_micro_batches(devices[d], T5_TRAIN_LORA, 0.3f * (float)dropout);
            check_micro_batches(devices[d], T5_TRAIN_FULL, 0.3f * (float)dropout);
        }
}

/* The whole backward pass against finite differences of the loss, dropout on: a random direction,
 * and each tensor's largest gradient by itself. */
static double loss_at(struct golden_model *g, float *params, const struct t5_batch *batch,
                      const struct t5_pass *pass)
{
    struct t5_err err = {0};
    double loss;
    OK(t5_model_set_params(g->model, params, &err));
    gradients(g, batch, pass, NULL, &loss);
    return loss * (double)pass->loss_scale;
}

static void check_gradient(const char *geometry, const char *adapter, enum t5_model_mode mode)
{
    struct golden_model g;
    struct t5_err err = {0};
    golden_open(&g, "ref", geometry, adapter, mode);
    golden_reserve(&g, &records);
    int32_t in[5], lab[5];
    struct t5_batch batch = records_batch(&records, 3, 4, in, lab);
    struct t5_pass pass = {
        .loss_scale = 1.0f / (float)lab[4], .model_dropout = 0.2f, .lora_dropout = 0.3f, .seed = 7};
    float *params = new_params(&g), *grads = new_params(&g);
    double loss;
    OK(t5_model_get_params(g.model, params, &err));
    gradients(&g, &batch, &pass, grads, &loss);
    for (int i = 0; i < t5_model_param_count(g.model); i++) {
        const struct t5_param *p = t5_model_param(g.model, i);
        int64_t best = p->offset;
        for (int64_t k = p->offset; k < p->offset + p->rows * p->cols; k++)
            if (fabsf(grads[k]) > fabsf(grads[best]))
                best = k;
        float was = params[best], h = 2e-3f * fmaxf(1e-1f, fabsf(was));
        params[best] = was + h;
        double up = loss_at(&g, params, &batch, &pass), step = (double)params[best];
        params[best] = was - h;
        double down = loss_at(&g, params, &batch, &pass);
        step -= (double)params[best];
        params[best] = was;
        double want = (up - down) / step;
        if (!t5_close((double)grads[best], want, 3e-4, 2e-2))
            fail_msg("%s %s: gradient %.7g, finite difference %.7g", geometry, p->name,
                     (double)grads[best], want);
    }
    free(params);
    free(grads);
    golden_close(&g);
}

static void test_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        check_gradient(geometries[i], "all", T5_TRAIN_LORA);
        check_gradient(geometries[i], "none", T5_TRAIN_FULL);
    }
}

/* Dropout: the same key draws the same masks, another epoch others. */
static void test_dropout_draws(void **state)
{
    (void)state;
    struct golden_model g;
    golden_open(&g, "ref", "gated", "qv", T5_TRAIN_LORA);
    golden_reserve(&g, &records);
    int32_t in[5], lab[5];
    struct t5_batch batch = records_batch(&records, 4, 4, in, lab);
    struct t5_pass pass = {.loss_scale = 1, .seed = 1};
    double plain, first, again, other;
    gradients(&g, &batch, &pass, NULL, &plain);
    pass.model_dropout = pass.lora_dropout = 0.1f;
    gradients(&g, &batch, &pass, NULL, &first);
    gradients(&g, &batch, &pass, NULL, &again);
    pass.epoch = 1;
    gradients(&g, &batch, &pass, NULL, &other);
    assert_true(first == again);
    assert_true(first != other && first != plain);
    golden_close(&g);
}

static int setup(void **state)
{
    (void)state;
    records_load(&records);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logprobs),      cmocka_unit_test(test_mixed_adapters),
        cmocka_unit_test(test_packed_equals_alone),
        cmocka_unit_test(test_micro_batches), cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_gradients),     cmocka_unit_test(test_dropout_draws),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
