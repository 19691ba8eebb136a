/* test_sampling.c - the filters against transformers' (testdata/golden/sampling.jsonl), the draw's keys and its
 * distribution. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include <jansson.h>

#include "compare.h"
#include "t5/constraints.h"
#include "t5/sampling.h"

#define MOST 128

struct ranked {
    float value;
    int32_t id;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->value > y->value ? -1 : x->value < y->value ? 1 : x->id - y->id;
}

static double option(const json_t *c, const char *name, double otherwise)
{
    const json_t *v = json_object_get(c, name);
    return v ? json_number_value(v) : otherwise;
}

/* Logits after the case's penalty, sorted. */
static int ranked_logits(struct ranked *out, const json_t *c)
{
    struct t5_err err = {0};
    const json_t *logits = json_object_get(c, "logits"), *previous = json_object_get(c, "previous");
    int n = (int)json_array_size(logits), n_previous = (int)json_array_size(previous);
    int32_t sequence[MOST];
    struct t5_constraints rules = {.penalty = (float)option(c, "repetition_penalty", 1), .eos = 1};
    assert_in_range(n, 1, MOST);
    for (int i = 0; i < n_previous; i++) {
        sequence[i] = (int32_t)json_integer_value(json_array_get(previous, (size_t)i));
        assert_in_range(sequence[i], 0, n - 1);
    }
    assert_int_equal(t5_constraints_init(&rules, n, MOST, &err), 0);
    t5_constraints_set(&rules, sequence, n_previous);
    for (int i = 0; i < n; i++) {
        float logit = (float)json_number_value(json_array_get(logits, (size_t)i));
        out[i] = (struct ranked){t5_constraints_score(&rules, i, logit), i};
    }
    t5_constraints_free(&rules);
    qsort(out, (size_t)n, sizeof *out, by_value);
    return n;
}

static void check_case(const json_t *c)
{
    struct ranked ranked[MOST];
    float logit[MOST], got[MOST] = {0}, want[MOST];
    double p[MOST];
    const struct t5_sampling how = {.temperature = option(c, "temperature", 1),
                                    .top_k = (int64_t)option(c, "top_k", 0),
                                    .top_p = option(c, "top_p", 1),
                                    .min_p = option(c, "min_p", 0),
                                    .typical = option(c, "typical_p", 1)};
    const char *name = json_string_value(json_object_get(c, "name"));
    int n = ranked_logits(ranked, c);
    for (int i = 0; i < n; i++) {
        logit[i] = ranked[i].value;
        want[i] = (float)json_number_value(json_array_get(json_object_get(c, "probs"), (size_t)i));
    }
    int64_t kept = t5_sampling_filter(p, logit, n, &how);
    for (int64_t i = 0; i < kept; i++)
        got[ranked[i].id] = (float)p[i];
    for (int i = 0; i < n; i++)
        if ((got[i] == 0) != (want[i] == 0))
            fail_msg("%s: id %d: got %g, want %g", name, i, (double)got[i], (double)want[i]);
    assert_close(got, want, n, 1e-7, 1e-5, name);
}

static void filters_equal_transformers(void **state)
{
    (void)state;
    FILE *f = fopen("testdata/golden/sampling.jsonl", "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    assert_non_null(f);
    for (; getline(&line, &room, f) > 0; n++) {
        json_t *c = json_loads(line, 0, NULL);
        assert_non_null(c);
        check_case(c);
        json_decref(c);
    }
    free(line);
    fclose(f);
    assert_true(n >= 19);
}

static void infinity_weighs_nothing(void **state)
{
    (void)state;
    const float logit[] = {1, 0, -INFINITY, -INFINITY};
    const struct t5_sampling how = {.temperature = 1, .top_p = 1};
    double p[4];
    int64_t kept = t5_sampling_filter(p, logit, 4, &how);
    assert_true(kept >= 2);
    assert_true(t5_close(p[0] + p[1], 1, 1e-12, 0));
    for (int64_t i = 2; i < kept; i++)
        assert_true(p[i] == 0);
    assert_int_equal(t5_sampling_pick(p, kept, 0x1.fffffffffffffp-1), 1);
}

static void pick_covers_the_line(void **state)
{
    (void)state;
    const double p[] = {0.5, 0.25, 0.25};
    assert_int_equal(t5_sampling_pick(p, 3, 0), 0);
    assert_int_equal(t5_sampling_pick(p, 3, 0.499), 0);
    assert_int_equal(t5_sampling_pick(p, 3, 0.5), 1);
    assert_int_equal(t5_sampling_pick(p, 3, 0.75), 2);
    assert_int_equal(t5_sampling_pick(p, 3, 0.999999), 2);
}

static void hash_reads_every_id(void **state)
{
    (void)state;
    const int32_t a[] = {5, 6, 1}, b[] = {6, 5, 1}, c[] = {5, 6, 1, 0};
    assert_true(t5_sampling_hash(a, 3) != t5_sampling_hash(b, 3));
    assert_true(t5_sampling_hash(a, 3) != t5_sampling_hash(c, 4));
    assert_true(t5_sampling_hash(a, 3) == t5_sampling_hash(c, 3));
}

/* Every part of the key changes the draw; over positions draws fill [0, 1) evenly. */
static void draws_are_uniform_and_keyed(void **state)
{
    (void)state;
    enum { N = 100000, BINS = 20 };
    int bins[BINS] = {0};
    double base = t5_sampling_uniform(1, 2, 3, 4), chi = 0;
    assert_true(base == t5_sampling_uniform(1, 2, 3, 4));
    assert_true(base != t5_sampling_uniform(2, 2, 3, 4));
    assert_true(base != t5_sampling_uniform(1, 3, 3, 4));
    assert_true(base != t5_sampling_uniform(1, 2, 4, 4));
    assert_true(base != t5_sampling_uniform(1, 2, 3, 5));
    for (uint32_t i = 0; i < N; i++) {
        double u = t5_sampling_uniform(42, 7, i % 8, i / 8);
        assert_true(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
    }
    for (int i = 0; i < BINS; i++)
        chi += pow(bins[i] - (double)N / BINS, 2) / ((double)N / BINS);
    assert_true(chi < 43.8); /* 19 degrees of freedom, p = 0.001 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_equal_transformers), cmocka_unit_test(infinity_weighs_nothing),
        cmocka_unit_test(pick_covers_the_line),       cmocka_unit_test(hash_reads_every_id),
        cmocka_unit_test(draws_are_uniform_and_keyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
