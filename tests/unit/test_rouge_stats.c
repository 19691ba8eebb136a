/* test_rouge_stats.c - bootstrap intervals and tests of a difference: against the exact
 * distribution where it is known, their coverage, the tests' false positives and power, and what
 * they must not depend on. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <string.h>

#include "base/rng.h"
#include "text/rouge_stats.h"

enum { MEASURES = 4, NUMBERS = MEASURES * 3 };

/* Number i of a stream that the library does not use, in [0, 1). */
static double noise(uint64_t which, uint64_t i)
{
    return (double)(t5_mix(t5_mix(0x7e57, which), i) >> 11) * 0x1p-53;
}

static void add(struct t5_rouge_sample *sample, const double row[NUMBERS])
{
    struct t5_rouge_scores scores;
    struct t5_err err;
    memcpy(&scores, row, NUMBERS * sizeof *row);
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
    struct t5_rouge_sample sample = {.measures = MEASURES};
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
    struct t5_rouge_sample sample = {.measures = MEASURES};
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
    struct t5_rouge_sample sample = {.measures = MEASURES};
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
        struct t5_rouge_sample sample = {.measures = MEASURES};
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

static struct t5_rouge_comparison compare(const struct t5_rouge_sample *a,
                                          const struct t5_rouge_sample *b, int64_t resamples,
                                          uint64_t seed)
{
    struct t5_rouge_comparison got;
    struct t5_err err;
    assert_int_equal(t5_rouge_compare(&got, a, b, resamples, seed, &err), 0);
    return got;
}

/* Six records, each better by the same: of the 64 patterns of signs two are as far out, 1/32. A
 * resampled difference is always 0.125, so that none is as far from it as 0 is. Equal columns: all
 * patterns are as far out. */
static void test_by_hand(void **state)
{
    struct t5_rouge_sample a = {.measures = MEASURES}, b = a;
    (void)state;
    for (int i = 0; i < 6; i++) {
        add(&a, (double[NUMBERS]){0.5, 0.25, i});
        add(&b, (double[NUMBERS]){0.375, 0.375, i});
    }
    struct t5_rouge_comparison got = compare(&a, &b, 99999, 1);
    const struct t5_prf *d = got.difference.of, *boot = got.p_bootstrap.of,
                        *rand = got.p_randomisation.of;
    assert_true(t5_close(d->precision, 0.125, 1e-15, 0));
    assert_true(t5_close(d->recall, -0.125, 1e-15, 0));
    assert_true(t5_close(got.interval.low.of->precision, 0.125, 1e-15, 0));
    assert_true(t5_close(boot->precision, 1e-5, 0, 1e-12));
    assert_true(t5_close(boot->recall, 1e-5, 0, 1e-12));
    /* 4 standard errors of 1/32 at 99,999 draws */
    assert_true(t5_close(rand->precision, 1 / 32.0, 0.0022, 0));
    assert_true(t5_close(rand->recall, rand->precision, 0, 0));
    assert_true(d->fmeasure == 0 && boot->fmeasure == 1 && rand->fmeasure == 1);
    t5_rouge_sample_free(&a);
    t5_rouge_sample_free(&b);
}

/* How often p <= 0.05, by column, in `pairs` simulated pairs of 60 records; the first system is
 * better by `shift` on average. Scores of one record have its difficulty in common. */
static void simulate(int boot[NUMBERS], int rand[NUMBERS], int pairs, double shift)
{
    memset(boot, 0, NUMBERS * sizeof *boot);
    memset(rand, 0, NUMBERS * sizeof *rand);
    for (int t = 0; t < pairs; t++) {
        struct t5_rouge_sample sample[2] = {{.measures = MEASURES}, {.measures = MEASURES}};
        double row[2][NUMBERS], p[2][NUMBERS];
        uint64_t which = 10000 + (uint64_t)t, at = 0;
        for (int i = 0; i < 60; i++) {
            for (int c = 0; c < NUMBERS; c++) {
                double hard = noise(which, at), x = noise(which, at + 1), y = noise(which, at + 2);
                at += 3;
                row[0][c] = 0.5 * hard + 0.5 * x * x + shift;
                row[1][c] = 0.5 * hard + 0.5 * y * y;
            }
            add(&sample[0], row[0]);
            add(&sample[1], row[1]);
        }
        struct t5_rouge_comparison got = compare(&sample[0], &sample[1], 199, (uint64_t)t);
        memcpy(p[0], &got.p_bootstrap, sizeof p[0]);
        memcpy(p[1], &got.p_randomisation, sizeof p[1]);
        for (int c = 0; c < NUMBERS; c++) {
            boot[c] += p[0][c] <= 0.05;
            rand[c] += p[1][c] <= 0.05;
        }
        t5_rouge_sample_free(&sample[0]);
        t5_rouge_sample_free(&sample[1]);
    }
}

/* 1,000 null pairs: 5 % in each of the 12 numbers (a standard error is 0.7 %) and in all together
 * (0.2 %). */
static void test_false_positives(void **state)
{
    int boot[NUMBERS], rand[NUMBERS], pairs = 1000;
    double all[2] = {0};
    (void)state;
    simulate(boot, rand, pairs, 0);
    for (int c = 0; c < NUMBERS; c++) {
        assert_in_range(boot[c], 28, 80);
        assert_in_range(rand[c], 28, 72);
        all[0] += boot[c] / (double)(pairs * NUMBERS);
        all[1] += rand[c] / (double)(pairs * NUMBERS);
    }
    print_message("# false positives at 5 %%: bootstrap %.2f %%, randomisation %.2f %%\n",
                  100 * all[0], 100 * all[1]);
    assert_true(all[0] > 0.044 && all[0] < 0.062);
    assert_true(all[1] > 0.044 && all[1] < 0.056);
}

/* The difference of two 0.5 x^2 has a deviation of 0.21, its mean over 60 one of 0.027: a shift of
 * 0.12 is 4.4 of these, and found in 99 % of all pairs. */
static void test_power(void **state)
{
    int boot[NUMBERS], rand[NUMBERS];
    (void)state;
    simulate(boot, rand, 50, 0.12);
    for (int c = 0; c < NUMBERS; c++) {
        assert_in_range(boot[c], 46, 50);
        assert_in_range(rand[c], 46, 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binomial),
        cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_coverage),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_false_positives),
        cmocka_unit_test(test_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
