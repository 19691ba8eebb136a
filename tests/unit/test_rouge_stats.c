/* test_rouge_stats.c - bootstrap intervals: against the exact distribution where it is known, their
 * coverage, and what they must not depend on. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <string.h>

#include "base/rng.h"
#include "text/rouge_stats.h"

enum { NUMBERS = T5_ROUGE_KINDS * 3 };

/* Number i of a stream that the library does not use, in [0, 1). */
static double noise(uint64_t which, uint64_t i)
{
    return (double)(t5_mix(t5_mix(0x7e57, which), i) >> 11) * 0x1p-53;
}

static void add(struct t5_rouge_sample *sample, const double row[NUMBERS])
{
    struct t5_rouge_scores scores;
    struct t5_err err;
    memcpy(&scores, row, sizeof scores);
    assert_int_equal(t5_rouge_sample_add(sample, &scores, &err), 0);
}

static struct t5_rouge_interval bootstrap(const struct t5_rouge_sample *sample, int64_t resamples,
                                          uint64_t seed)
{
    struct t5_rouge_interval interval;
    struct t5_err err;
    assert_int_equal(t5_rouge_bootstrap(&interval, sample, resamples, seed, &err), 0);
    return interval;
}

/* 100 records, half of them 0 and half of them 1: a resample's mean is Binomial(100, 1/2) / 100,
 * whose 2.5th and 97.5th percentiles are 0.40 and 0.60 (P(X <= 39) = 0.0176, P(X <= 40) =
 * 0.0284). Recall is twice and F 3 - as much; a constant has no width. */
static void test_binomial(void **state)
{
    struct t5_rouge_sample sample = {0};
    (void)state;
    for (int i = 0; i < 100; i++) {
        double x = i % 2;
        add(&sample, (double[NUMBERS]){x, 2 * x, 3 - x, 0.25});
    }
    assert_int_equal(t5_rouge_sample_count(&sample), 100);
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct t5_rouge_interval got = bootstrap(&sample, 20000, seed);
        const struct t5_prf *low = got.low.of, *high = got.high.of;
        assert_true(t5_close(low->precision, 0.40, 1e-12, 0));
        assert_true(t5_close(high->precision, 0.60, 1e-12, 0));
        assert_true(t5_close(low->recall, 0.80, 1e-12, 0));
        assert_true(t5_close(high->recall, 1.20, 1e-12, 0));
        assert_true(t5_close(low->fmeasure, 2.40, 1e-12, 0));
        assert_true(t5_close(high->fmeasure, 2.60, 1e-12, 0));
        assert_true(low[1].precision == 0.25 && high[1].precision == 0.25);
    }
    t5_rouge_sample_free(&sample);
}

/* One record, two resamples: the smallest there is. */
static void test_smallest(void **state)
{
    struct t5_rouge_sample sample = {0};
    double row[NUMBERS];
    (void)state;
    for (int c = 0; c < NUMBERS; c++)
        row[c] = noise(1, (uint64_t)c);
    add(&sample, row);
    for (int64_t resamples = 1; resamples <= 2; resamples++) {
        struct t5_rouge_interval got = bootstrap(&sample, resamples, 3);
        assert_memory_equal(&got.low, row, sizeof row);
        assert_memory_equal(&got.high, row, sizeof row);
    }
    t5_rouge_sample_free(&sample);
}

/* The same seed gives the same bytes, another one others. */
static void test_seed(void **state)
{
    struct t5_rouge_sample sample = {0};
    (void)state;
    for (uint64_t i = 0; i < 57; i++) {
        double row[NUMBERS];
        for (uint64_t c = 0; c < NUMBERS; c++)
            row[c] = noise(2, i * NUMBERS + c);
        add(&sample, row);
    }
    struct t5_rouge_interval a = bootstrap(&sample, 100, 1), b = bootstrap(&sample, 100, 1),
                             c = bootstrap(&sample, 100, 2);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    t5_rouge_sample_free(&sample);
}

/* Of 500 x 12 samples of 60 uniform numbers, 95 % (less a little, since 60 are few) of the
 * intervals hold the true mean. */
static void test_coverage(void **state)
{
    int held = 0, trials = 500;
    (void)state;
    for (int t = 0; t < trials; t++) {
        struct t5_rouge_sample sample = {0};
        double row[NUMBERS], low[NUMBERS], high[NUMBERS];
        for (uint64_t i = 0; i < 60; i++) {
            for (uint64_t c = 0; c < NUMBERS; c++)
                row[c] = noise(100 + (uint64_t)t, i * NUMBERS + c);
            add(&sample, row);
        }
        struct t5_rouge_interval got = bootstrap(&sample, 199, (uint64_t)t);
        memcpy(low, &got.low, sizeof low);
        memcpy(high, &got.high, sizeof high);
        for (int c = 0; c < NUMBERS; c++)
            held += low[c] <= 0.5 && high[c] >= 0.5;
        t5_rouge_sample_free(&sample);
    }
    double rate = held / (double)(trials * NUMBERS);
    print_message("# 95 %% intervals held the true mean in %.2f %%\n", 100 * rate);
    assert_true(rate > 0.925 && rate < 0.96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binomial),
        cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_coverage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
