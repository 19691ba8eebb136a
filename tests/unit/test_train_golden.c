/* test_train_golden.c - thirty steps of LoRA and of full fine-tuning against torch
 * (testdata/golden/training), on every backend; and what must not change them: how a batch is cut.
 */
/* SPDX-License-Identifier: MIT */
#include "golden.h"

#include <unistd.h>

#include "t5/adapter_params.h"
#include "t5/train_state.h"
#include "t5/trainer.h"

#ifndef FAST_DEVICE
#define FAST_DEVICE "cpu"
#endif

#define STEPS 30

struct curve { /* one row of runs.jsonl, and its golden numbers */
    char name[32], geometry[16];
    int lora;
    double lr, weight_decay, clip;
    float loss[STEPS], norm[STEPS];
};

static int curves_load(struct curve curves[8])
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

static void dataset_load(struct t5_dataset *data)
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

static void training_open(struct training *t, const struct curve *c, const char *device,
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

static void training_close(struct training *t)
{
    t5_trainer_close(t->trainer);
    t5_dataset_free(&t->data);
    golden_close(&t->g);
}

static void step(struct training *t, struct t5_step_report *report)
{
    struct t5_err err = {0};
    if (t5_trainer_step(t->trainer, report, &err) != 1)
        fail_msg("step %lld: %s", (long long)report->step, err.text);
}

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

/* A poisoned weight stops the run, and says which; tolerated, it leaves the parameters as they
 * were. */
static void test_not_finite(void **state)
{
    struct curve curves[8];
    struct training t;
    struct t5_step_report r;
    struct t5_err err = {0};
    (void)state;
    curves_load(curves);
    training_open(&t, &curves[1], "ref", 1 << 20, 0);
    step(&t, &r);
    int64_t n = t5_model_n_params(t.g.model);
    float *params = malloc((size_t)n * sizeof *params);
    OK(t5_model_get_params(t.g.model, params, &err));
    const struct t5_param *p = t5_model_param(t.g.model, 3);
    params[p->offset + 1] = NAN;
    OK(t5_model_set_params(t.g.model, params, &err));
    assert_int_equal(t5_trainer_step(t.trainer, &r, &err), -1);
    assert_int_equal(err.status, T5_NOT_FINITE);
    assert_int_equal(t5_trainer_position(t.trainer).step, 1);
    assert_non_null(strstr(err.text, p->name));
    assert_non_null(strstr(err.text, "step 2"));
    /* and never becomes a checkpoint */
    struct t5_identity identity = {.n = 0};
    char dir[] = "/tmp/t5-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/checkpoint.0.safetensors", dir);
    assert_int_equal(t5_train_state_save(dir, 0, t.g.model, t.trainer, &identity, 0, &err), -1);
    assert_int_equal(err.status, T5_NOT_FINITE);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rmdir(dir), 0);
    free(params);
    training_close(&t);
}

/* ---- a device that works behind the host's back: ref, whose sums are fetched a step later ---- */

static char landing[T5_LATER_SLOTS][T5_LATER_BYTES];
static int later, fetched;

static void land(struct t5_device *dev, const void *src, size_t bytes, int slot)
{
    (void)dev;
    later++;
    memcpy(landing[slot], src, bytes);
}

static int fetch(struct t5_device *dev, void *host, size_t bytes, int slot, struct t5_err *err)
{
    (void)dev, (void)err;
    fetched++;
    memcpy(host, landing[slot], bytes);
    return 0;
}

static void run_behind(struct training *t)
{
    t->g.backend.ops.download_later = land;
    t->g.backend.ops.fetch = fetch;
}

/* Queueing the next step before the sums of this one are known changes nothing: reports,
 * evaluations between steps, parameters. */
static void test_run_ahead(void **state)
{
    struct curve curves[8];
    struct training a, b;
    struct t5_err err = {0};
    (void)state;
    int n_curves = curves_load(curves);
    for (int i = 0; i < n_curves; i++) {
        training_open(&a, &curves[i], "ref", 200, 0.1);
        training_open(&b, &curves[i], "ref", 200, 0.1);
        run_behind(&b);
        later = fetched = 0;
        size_t bytes = (size_t)t5_model_n_params(a.g.model) * sizeof(float);
        float *x = malloc(bytes), *y = malloc(bytes);
        for (int s = 0; s < 8; s++) {
            struct t5_step_report r, q;
            double loss, same;
            int64_t tokens;
            step(&a, &r);
            step(&b, &q);
            assert_memory_equal(&r, &q, sizeof r);
            OK(t5_model_get_params(a.g.model, x, &err));
            OK(t5_model_get_params(b.g.model, y, &err));
            assert_memory_equal(x, y, bytes);
            if (s % 3)
                continue;
            assert_int_equal(t5_trainer_evaluate(a.trainer, &a.data, &loss, &tokens, &err), 1);
            assert_int_equal(t5_trainer_evaluate(b.trainer, &b.data, &same, &tokens, &err), 1);
            assert_true(loss == same);
        }
        assert_true(later == 8 && fetched == 8);
        free(x);
        free(y);
        training_close(&a);
        training_close(&b);
    }
}

/* Spikes and batches that are left out: the same steps, the same parameters. */
static void test_run_ahead_left_out(void **state)
{
    static const struct t5_ranges skipped = {.first = {2, 9}, .last = {2, 10}, .n = 2};
    struct curve curves[8];
    struct training a, b;
    struct t5_err err = {0};
    int spikes = 0;
    (void)state;
    curves_load(curves);
    spike_z = 0.5;
    left_out = &skipped;
    training_open(&a, &curves[0], "ref", 200, 0.1);
    training_open(&b, &curves[0], "ref", 200, 0.1);
    spike_z = 0;
    left_out = NULL;
    run_behind(&b);
    size_t bytes = (size_t)t5_model_n_params(a.g.model) * sizeof(float);
    float *before = malloc(bytes), *x = malloc(bytes), *y = malloc(bytes);
    for (int s = 1; s <= 16; s++) {
        struct t5_step_report r, q;
        OK(t5_model_get_params(a.g.model, before, &err));
        step(&a, &r);
        step(&b, &q);
        assert_true(r.spike == q.spike && r.z == q.z && r.passed_over == q.passed_over);
        assert_int_equal(r.skipped, s == 2 || s == 9 || s == 10);
        assert_true(r.skipped ? isnan(r.loss) && isnan(q.loss) : r.loss == q.loss);
        OK(t5_model_get_params(a.g.model, x, &err));
        OK(t5_model_get_params(b.g.model, y, &err));
        assert_memory_equal(x, y, bytes);
        assert_int_equal(r.passed_over, r.spike);
        assert_int_equal(memcmp(x, before, bytes) == 0, r.skipped || r.spike);
        spikes += r.spike;
    }
    assert_true(spikes > 0 && spikes < 10);
    struct t5_train_position at = t5_trainer_position(a.trainer);
    assert_true(at.step == 16 && at.updates == 16 - 3 - spikes && at.bad == 0);
    free(before);
    free(x);
    free(y);
    training_close(&a);
    training_close(&b);
}

/* Steps that are not finite: the same ones are passed over, the same one ends the run, the same
 * tensor is named. */
static void test_run_ahead_not_finite(void **state)
{
    struct curve curves[8];
    struct training a, b;
    struct t5_step_report r, q;
    struct t5_err why = {0}, same = {0};
    int passed = 0, rc;
    (void)state;
    curves_load(curves);
    curves[1].lr = 1e30; /* the first update is the last good one */
    tolerated = 3;
    training_open(&a, &curves[1], "ref", 1 << 20, 0);
    training_open(&b, &curves[1], "ref", 1 << 20, 0);
    tolerated = 0;
    run_behind(&b);
    while ((rc = t5_trainer_step(a.trainer, &r, &why)) == 1) {
        assert_int_equal(t5_trainer_step(b.trainer, &q, &same), 1);
        assert_true(r.step == q.step && r.passed_over == q.passed_over);
        passed += r.passed_over;
    }
    assert_int_equal(rc, -1);
    assert_int_equal(passed, 3);
    assert_int_equal(t5_trainer_step(b.trainer, &q, &same), -1);
    assert_int_equal(same.status, T5_NOT_FINITE);
    assert_string_equal(same.text, why.text);
    struct t5_train_position x = t5_trainer_position(a.trainer), y = t5_trainer_position(b.trainer);
    assert_memory_equal(&x, &y, sizeof x);
    training_close(&a);
    training_close(&b);
}

/* ---- memory that runs out ---- */

static int cuts;
static int64_t cut_to;

static void count_cut(void *context, int64_t step, int64_t pass_tokens, const struct t5_err *why)
{
    (void)context;
    assert_int_equal(step, 3);
    assert_true(why->out_of_memory && strstr(why->text, "asked "));
    assert_true(cuts == 0 || pass_tokens < cut_to);
    cut_to = pass_tokens;
    cuts++;
}

/* Six steps, the third of which finds no scratch for attention of more than 70 tokens from its
 * call `at` on (0: never). Losses, and parameters, which the caller frees. */
static float *starve(double loss[6], int64_t *count, const struct curve *c, int at, int behind)
{
    struct training t;
    struct t5_step_report r;
    struct t5_err err = {0};
    char how[32];
    on_cut = count_cut;
    cuts = 0;
    snprintf(how, sizeof how, "%d:70", at);
    if (at)
        setenv("T5_REF_SCRATCH", how, 1);
    training_open(&t, c, "ref", 1 << 20, 0.1);
    unsetenv("T5_REF_SCRATCH");
    if (behind)
        run_behind(&t);
    for (int s = 0; s < 6; s++) {
        step(&t, &r);
        loss[s] = r.loss;
        assert_int_equal(r.records, 8);
    }
    assert_int_equal(t5_trainer_position(t.trainer).pass_tokens, at ? cut_to : 1 << 20);
    on_cut = NULL;
    *count = t5_model_n_params(t.g.model);
    float *params = malloc((size_t)*count * sizeof *params);
    OK(t5_model_get_params(t.g.model, params, &err));
    training_close(&t);
    return params;
}

/* The same steps but for rounding, whichever pass it is in, on a device that is waited for or not.
 */
static void test_out_of_memory(void **state)
{
    struct curve curves[8];
    (void)state;
    int n = curves_load(curves);
    for (int i = 0; i < n; i++) {
        double whole[6], cut[6], behind[6];
        int64_t count;
        int pass = strcmp(curves[i].geometry, "gated") == 0 ? 9 : 6; /* attentions in one */
        float *a = starve(whole, &count, &curves[i], 0, 0);
        for (int at = 2 * pass + 1; at < 3 * pass; at += 2) {
            float *b = starve(cut, &count, &curves[i], at, 0);
            assert_true(cuts > 0);
            float *c = starve(behind, &count, &curves[i], at, 1);
            for (int s = 0; s < 6; s++) {
                assert_true(t5_close(cut[s], whole[s], 0, 1e-5));
                assert_true(memcmp(&cut[s], &behind[s], sizeof *cut) == 0);
            }
            assert_close(b, a, count, 1e-4, 1e-3, curves[i].name);
            assert_memory_equal(b, c, (size_t)count * sizeof *b);
            free(b);
            free(c);
        }
        free(a);
    }
}

/* A checkpoint brings another trainer to the same place: position, parameters, moments, the next
 * step. */
static void test_checkpoint(void **state)
{
    struct curve curves[8];
    struct training a, b;
    struct t5_step_report x, y;
    struct t5_err err = {0};
    struct t5_identity identity = {.n = 0};
    struct t5_train_state found;
    struct t5_train_slots slots;
    char dir[] = "/tmp/t5-test-XXXXXX";
    (void)state;
    curves_load(curves);
    t5_identity_add(&identity, "seed", "%d", 42);
    assert_non_null(mkdtemp(dir));
    training_open(&a, &curves[1], "ref", 1 << 20, 0.1);
    training_open(&b, &curves[1], "ref", 1 << 20, 0.1);
    for (int s = 0; s < 4; s++)
        step(&a, &x);
    OK(t5_train_state_save(dir, 1, a.g.model, a.trainer, &identity, 0, &err));
    OK(t5_train_state_find(&found, &slots, dir, &err));
    assert_int_equal(found.slot, 1);
    assert_int_equal(found.finished, 0);
    OK(t5_train_state_check(&found, dir, &identity, &err));
    OK(t5_train_state_load(&found, b.g.model, b.trainer, &err));
    t5_train_state_free(&found);
    assert_int_equal(t5_trainer_position(b.trainer).step, 4);
    assert_int_equal(t5_trainer_position(b.trainer).updates, 4);
    step(&a, &x);
    step(&b, &y);
    assert_true(x.step == y.step && x.loss == y.loss && x.grad_norm == y.grad_norm && x.lr == y.lr);
    identity.rows[0].value[0] = '5';
    OK(t5_train_state_find(&found, &slots, dir, &err));
    assert_int_equal(t5_train_state_check(&found, dir, &identity, &err), -1);
    t5_train_state_free(&found);
    OK(t5_train_slots_trim(&slots, dir, 0, &err));
    assert_int_equal(rmdir(dir), 0);
    training_close(&a);
    training_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curves_ref),         cmocka_unit_test(test_curves_fast),
        cmocka_unit_test(test_micro_batches_ref),  cmocka_unit_test(test_micro_batches_fast),
        cmocka_unit_test(test_evaluate),           cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_checkpoint),         cmocka_unit_test(test_lora_plus),
        cmocka_unit_test(test_out_of_memory),      cmocka_unit_test(test_run_ahead),
        cmocka_unit_test(test_run_ahead_left_out), cmocka_unit_test(test_run_ahead_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
