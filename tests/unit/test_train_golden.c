/* test_train_golden.c - thirty steps of LoRA and of full fine-tuning against torch
 * (testdata/golden/training), on every backend; and what must not change them: how a batch is cut.
 */
/* SPDX-License-Identifier: MIT */
#include "training.h"

#ifndef FAST_DEVICE
#define FAST_DEVICE "cpu"
#endif

/* The golden tensor may be the first rows only. */
static void compare_param(const struct t5_model *model, const float *params, const char *name,
                          const struct t5_tensor *want)
{
    for (int i = 0; i < t5_model_param_count(model); i++) {
        const struct t5_param *p = t5_model_param(model, i);
        if (strcmp(p->name, name) != 0)
            continue;
        float *values = malloc((size_t)want->elements * sizeof *values);
        t5_to_f32(values, want->data, want->type, (size_t)want->elements);
        assert_true(want->elements <= p->rows * p->cols);
        assert_close(params + p->offset, values, want->elements, 1e-4, 1e-3, name);
        free(values);
        return;
    }
    fail_msg("no parameter %s", name);
}

static void compare_final(struct training *t, const struct curve *c)
{
    struct t5_err err = {0};
    struct t5_safetensors *file;
    static const char prefix[] = "base_model.model.";
    char path[128], name[256];
    float *params = malloc((size_t)t5_model_n_params(t->g.model) * sizeof *params);
    snprintf(path, sizeof path, "testdata/golden/training/%s.safetensors", c->name);
    OK(t5_safetensors_open(&file, path, &err));
    OK(t5_model_get_params(t->g.model, params, &err));
    assert_true(t5_safetensors_count(file) > 8);
    for (int i = 0; i < t5_safetensors_count(file); i++) {
        const struct t5_tensor *want = t5_safetensors_at(file, i);
        snprintf(name, sizeof name, "%s", want->name);
        if (c->lora) { /* base_model.model.MODULE.lora_A.weight */
            assert_int_equal(strncmp(name, prefix, sizeof prefix - 1), 0);
            memmove(name, name + sizeof prefix - 1, strlen(name) - sizeof prefix + 2);
            name[strlen(name) - strlen(".weight")] = 0;
        }
        compare_param(t->g.model, params, name, want);
    }
    t5_safetensors_close(file);
    free(params);
}

static void follow(const struct curve *c, const char *device)
{
    struct training t;
    struct t5_step_report r;
    training_open(&t, c, device, 1 << 20, 0);
    for (int s = 0; s < STEPS; s++) {
        step(&t, &r);
        if (!t5_close(r.loss, (double)c->loss[s], 0, 1e-4))
            fail_msg("%s %s step %d: loss %.9g, torch %.9g", device, c->name, s + 1, r.loss,
                     (double)c->loss[s]);
        if (!t5_close(r.grad_norm, (double)c->norm[s], 0, 1e-4))
            fail_msg("%s %s step %d: norm %.9g, torch %.9g", device, c->name, s + 1, r.grad_norm,
                     (double)c->norm[s]);
    }
    compare_final(&t, c);
    training_close(&t);
}

static void follow_all(const char *device)
{
    struct curve curves[8];
    int n = curves_load(curves);
    for (int i = 0; i < n; i++)
        follow(&curves[i], device);
}

static void test_curves_ref(void **state)
{
    (void)state;
    follow_all("ref");
}

static void test_curves_fast(void **state)
{
    (void)state;
    follow_all(FAST_DEVICE);
}

/* Micro-batches of one record make the same steps as whole batches, dropout included. */
static void cut_differently(const char *device)
{
    struct curve curves[8];
    struct t5_err err = {0};
    int n = curves_load(curves);
    for (int i = 0; i < n; i++) {
        struct training whole, ones;
        training_open(&whole, &curves[i], device, 1 << 20, 0.1);
        training_open(&ones, &curves[i], device, 1, 0.1);
        int64_t count = t5_model_n_params(whole.g.model);
        float *a = malloc((size_t)count * sizeof *a), *b = malloc((size_t)count * sizeof *b);
        for (int s = 0; s < 6; s++) {
            struct t5_step_report x, y;
            step(&whole, &x);
            step(&ones, &y);
            assert_int_equal(x.tokens, y.tokens);
            if (!t5_close(x.loss, y.loss, 0, 1e-5) || !t5_close(x.grad_norm, y.grad_norm, 0, 1e-4))
                fail_msg("%s step %d: %.9g %.9g against %.9g %.9g", curves[i].name, s + 1, x.loss,
                         x.grad_norm, y.loss, y.grad_norm);
        }
        OK(t5_model_get_params(whole.g.model, a, &err));
        OK(t5_model_get_params(ones.g.model, b, &err));
        assert_close(a, b, count, 1e-4, 1e-3, curves[i].name);
        free(a);
        free(b);
        training_close(&whole);
        training_close(&ones);
    }
}

static void test_micro_batches_ref(void **state)
{
    (void)state;
    cut_differently("ref");
}

static void test_micro_batches_fast(void **state)
{
    (void)state;
    cut_differently(FAST_DEVICE);
}

/* What the loss of a data set says is what the log-probabilities say (g00.. from transformers). */
static void test_evaluate(void **state)
{
    struct curve curves[8];
    struct training t;
    struct t5_err err = {0};
    static float logprobs[1024];
    double loss, sum = 0;
    int64_t tokens;
    (void)state;
    curves_load(curves);
    training_open(&t, &curves[0], "ref", 100, 0.1);
    int n = golden_numbers(logprobs, 1024, "testdata/golden/gated/logprobs/qv.jsonl", "logprobs");
    for (int i = 0; i < n; i++)
        sum -= (double)logprobs[i];
    assert_int_equal(t5_trainer_evaluate(t.trainer, &t.data, &loss, &tokens, &err), 1);
    assert_int_equal(tokens, n);
    assert_true(t5_close(loss, sum / n, 0, 1e-5));
    training_close(&t);
}

/* LoRA+: after one step A stands where it would, B has gone 16 times as far. */
static void test_lora_plus(void **state)
{
    struct curve curves[8];
    struct training plain, plus;
    struct t5_step_report r;
    struct t5_err err = {0};
    (void)state;
    curves_load(curves);
    training_open(&plain, &curves[0], "ref", 1 << 20, 0);
    training_open(&plus, &curves[0], "ref", 1 << 20, 0);
    t5_trainer_optimizer(plus.trainer)->settings.lora_plus = 16;
    int64_t n = t5_model_n_params(plain.g.model);
    float *start = malloc((size_t)n * sizeof *start), *a = malloc((size_t)n * sizeof *a),
          *b = malloc((size_t)n * sizeof *b);
    OK(t5_model_get_params(plain.g.model, start, &err));
    step(&plain, &r);
    step(&plus, &r);
    OK(t5_model_get_params(plain.g.model, a, &err));
    OK(t5_model_get_params(plus.g.model, b, &err));
    for (int i = 0; i < t5_model_param_count(plain.g.model); i++) {
        const struct t5_param *p = t5_model_param(plain.g.model, i);
        double ratio = strstr(p->name, "lora_B") ? 16 : 1;
        for (int64_t k = p->offset; k < p->offset + p->rows * p->cols; k++)
            assert_true(
                t5_close((double)(b[k] - start[k]), ratio * (double)(a[k] - start[k]), 3e-6, 1e-4));
    }
    free(start);
    free(a);
    free(b);
    training_close(&plain);
    training_close(&plus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curves_ref),        cmocka_unit_test(test_curves_fast),
        cmocka_unit_test(test_micro_batches_ref), cmocka_unit_test(test_micro_batches_fast),
        cmocka_unit_test(test_evaluate),          cmocka_unit_test(test_lora_plus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
