/* test_trainer.c - what a step does on bad days: losses that are not finite or stand out, batches
 * left out, memory that runs out, a checkpoint; on a device that is waited for and on one that
 * works behind the host's back. */
/* SPDX-License-Identifier: MIT */
#include "training.h"

#include <unistd.h>

#include "t5/train_state.h"

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
        cmocka_unit_test(test_not_finite),         cmocka_unit_test(test_run_ahead),
        cmocka_unit_test(test_run_ahead_left_out), cmocka_unit_test(test_run_ahead_not_finite),
        cmocka_unit_test(test_out_of_memory),      cmocka_unit_test(test_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
