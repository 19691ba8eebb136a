/* test_beam.c - one source's beams, step by step, on candidates with results worked out by hand. Against
 * transformers: tests/cli/t5-generate.bats. */
/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "compare.h"
#include "t5/beam.h"

#define EOS 1
#define STRIDE 9

struct fixture {
    struct t5_beam_rules rules;
    struct t5_beam beam;
    int32_t sequences[4 * STRIDE]; /* running beams; row b starts 0, 10+b, 20+b, ... */
    float logprobs[4 * STRIDE];    /* -sequences / 100 */
    struct t5_beam_candidate next[4];
};

static void begin(struct fixture *f, int64_t beams, int64_t max_new, double length_penalty,
                  enum t5_early_stopping early)
{
    struct t5_err err = {0};
    memset(f, 0, sizeof *f);
    f->rules = (struct t5_beam_rules){beams, max_new, length_penalty, early, EOS};
    assert_int_equal(t5_beam_init(&f->beam, &f->rules, &err), 0);
    for (int32_t b = 0; b < 4; b++)
        for (int32_t i = 0; i < STRIDE; i++) {
            int32_t id = f->sequences[b * STRIDE + i] = i ? 10 * i + b : 0;
            f->logprobs[b * STRIDE + i] = -(float)id / 100;
        }
}

struct given {
    float score;
    int32_t beam, id;
};

/* A token's log-probability is -id / 100 here, so that it can be seen to stay beside its token. */
static int64_t advance(struct fixture *f, int64_t length, const struct given *c, int64_t n)
{
    struct t5_beam_candidate candidates[16];
    for (int64_t i = 0; i < n; i++)
        candidates[i] = (struct t5_beam_candidate){c[i].score, c[i].beam, c[i].id, -(float)c[i].id / 100};
    int64_t on = t5_beam_advance(&f->beam, f->next, candidates, n, f->sequences, f->logprobs, STRIDE, length);
    for (int64_t i = 0; i < on; i++)
        assert_true(f->next[i].logprob == -(float)f->next[i].id / 100);
    for (int64_t i = 0; i < f->beam.n_finished; i++)
        for (int64_t k = 0; k < f->beam.finished[i].n; k++)
            assert_true(f->beam.finished[i].logprobs[k] == -(float)f->beam.finished[i].ids[k] / 100);
    return on;
}
#define ADVANCE(f, length, ...)                                                                    \
    advance(f, length, (const struct given[]){__VA_ARGS__},                                        \
            sizeof((const struct given[]){__VA_ARGS__}) / sizeof(struct given))

static void best_go_on_in_order(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2, 5, 1, T5_EARLY_FALSE);
    assert_int_equal(ADVANCE(&f, 1, {-3, 0, 7}, {-1, 0, 5}, {-2, 0, 6}, {-4, 0, 8}), 2);
    assert_int_equal(f.next[0].id, 5);
    assert_int_equal(f.next[1].id, 6);
    assert_true(f.beam.running[0] == -1 && f.beam.running[1] == -2);
    /* equal scores: the earlier beam, then the smaller id */
    assert_int_equal(ADVANCE(&f, 2, {-3, 1, 4}, {-3, 0, 9}, {-3, 0, 8}, {-9, 1, 5}), 2);
    assert_int_equal(f.next[0].beam, 0);
    assert_int_equal(f.next[0].id, 8);
    assert_int_equal(f.next[1].id, 9);
    t5_beam_free(&f.beam);
}

static void an_end_counts_only_among_the_first_beams(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2, 5, 1, T5_EARLY_FALSE);
    assert_int_equal(ADVANCE(&f, 1, {-1, 0, 5}, {-2, 0, 6}, {-2.5f, 0, EOS}, {-4, 0, 8}), 2);
    assert_int_equal(f.beam.n_finished, 0);
    assert_int_equal(ADVANCE(&f, 2, {-2, 1, EOS}, {-3, 0, 6}, {-4, 0, 5}, {-5, 1, 8}), 2);
    assert_int_equal(f.beam.n_finished, 1);
    const struct t5_beam_hypothesis *h = f.beam.finished;
    assert_int_equal(h->n, 2);
    assert_int_equal(h->ids[0], 11); /* beam 1's first token */
    assert_int_equal(h->ids[1], EOS);
    assert_true(h->score == -1); /* -2 over 2 tokens */
    t5_beam_free(&f.beam);
}

static void at_the_last_position_the_first_beams_end(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2, 2, 2, T5_EARLY_FALSE);
    assert_int_equal(ADVANCE(&f, 1, {-1, 0, 5}, {-2, 0, 6}, {-3, 0, 7}, {-4, 0, 8}), 2);
    assert_int_equal(ADVANCE(&f, 2, {-4, 1, 6}, {-3, 0, 5}, {-5, 0, EOS}, {-6, 1, 8}), 0);
    assert_int_equal(f.beam.n_finished, 2);
    assert_true(f.beam.finished[0].score == -0.75f && f.beam.finished[1].score == -1);
    assert_int_equal(f.beam.finished[0].ids[0], 10);
    assert_int_equal(f.beam.finished[0].ids[1], 5);
    t5_beam_free(&f.beam);
}

static void better_ones_replace_the_worst(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2, 8, 0, T5_EARLY_FALSE);
    ADVANCE(&f, 1, {-5, 0, EOS}, {-5.5f, 0, 6}, {-6, 0, 7}, {-7, 0, 8});
    assert_int_equal(ADVANCE(&f, 2, {-4, 0, EOS}, {-4.2f, 0, 5}, {-4.5f, 0, 6}, {-9, 1, 8}), 2);
    assert_int_equal(ADVANCE(&f, 3, {-4.5f, 0, EOS}, {-4.6f, 1, 5}, {-4.7f, 0, 6}, {-9, 1, 8}), 0);
    assert_true(f.beam.finished[0].score == -4 && f.beam.finished[1].score == -4.5f);
    assert_int_equal(f.beam.finished[1].n, 3);
    assert_int_equal(f.beam.finished[1].ids[1], 20);
    t5_beam_free(&f.beam);
}

/* Two finished at -1 and -2 / 2; a running beam of -1.5 after two tokens scores -0.75 now. */
static int64_t after_two_ends(struct fixture *f, double length_penalty, enum t5_early_stopping early)
{
    begin(f, 2, 8, length_penalty, early);
    ADVANCE(f, 1, {-1, 0, EOS}, {-1.2f, 0, 6}, {-1.3f, 0, 7}, {-7, 0, 8});
    return ADVANCE(f, 2, {-1.4f, 0, 5}, {-2, 0, EOS}, {-3, 0, 6}, {-9, 1, 8});
}

static void when_to_stop(void **state)
{
    (void)state;
    struct fixture f;
    assert_int_equal(after_two_ends(&f, 1, T5_EARLY_TRUE), 0); /* enough are finished */
    t5_beam_free(&f.beam);
    assert_int_equal(after_two_ends(&f, 1, T5_EARLY_FALSE), 2); /* -1.4 / 2 beats -1 */
    /* -5 / 3 does not; over the longest length, 8, it would */
    assert_int_equal(ADVANCE(&f, 3, {-5, 0, 5}, {-5.5f, 0, 6}, {-6, 1, 7}, {-9, 1, 8}), 0);
    t5_beam_free(&f.beam);
    assert_int_equal(after_two_ends(&f, 1, T5_EARLY_NEVER), 2);
    assert_int_equal(ADVANCE(&f, 3, {-5, 0, 5}, {-5.5f, 0, 6}, {-6, 1, 7}, {-9, 1, 8}), 2);
    t5_beam_free(&f.beam);
    /* without a length penalty there is nothing to hope for */
    assert_int_equal(after_two_ends(&f, 0, T5_EARLY_NEVER), 2);
    assert_int_equal(ADVANCE(&f, 3, {-5, 0, 5}, {-5.5f, 0, 6}, {-6, 1, 7}, {-9, 1, 8}), 0);
    t5_beam_free(&f.beam);
}

static void banned_candidates_are_no_candidates(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2, 2, 1, T5_EARLY_FALSE);
    assert_int_equal(ADVANCE(&f, 1, {-1, 0, 5}, {-INFINITY, 0, 6}, {-INFINITY, 0, EOS}), 1);
    assert_int_equal(f.next[0].id, 5);
    assert_int_equal(ADVANCE(&f, 2, {-INFINITY, 0, 5}, {-INFINITY, 0, 6}), 0);
    assert_int_equal(f.beam.n_finished, 0);
    t5_beam_free(&f.beam);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_go_on_in_order),
        cmocka_unit_test(an_end_counts_only_among_the_first_beams),
        cmocka_unit_test(at_the_last_position_the_first_beams_end),
        cmocka_unit_test(better_ones_replace_the_worst),
        cmocka_unit_test(when_to_stop),
        cmocka_unit_test(banned_candidates_are_no_candidates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
