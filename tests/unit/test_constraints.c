/* test_constraints.c - n-gram ban, banned sequences, repetition penalty and least length on sequences worked out by
 * hand, and the ban against a plain search on random ones. */
/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/rng.h"
#include "compare.h"
#include "t5/constraints.h"

#define VOCAB 12

static struct t5_constraints rules(float penalty, int64_t no_repeat, int64_t min_new)
{
    struct t5_err err = {0};
    struct t5_constraints c = {
        .penalty = penalty, .no_repeat = no_repeat, .min_new = min_new, .eos = 1};
    assert_int_equal(t5_constraints_init(&c, VOCAB, 64, &err), 0);
    return c;
}

static int is_banned(const struct t5_constraints *c, int32_t id)
{
    return t5_constraints_score(c, id, 0.5f) == -INFINITY;
}

static void nothing_by_default(void **state)
{
    (void)state;
    const int32_t s[] = {0, 3, 3, 3};
    struct t5_constraints c = rules(1, 0, 0);
    assert_false(t5_constraints_any(&c));
    t5_constraints_set(&c, s, 4);
    assert_int_equal(c.n_penalised + c.n_banned, 0);
    for (int32_t id = 0; id < VOCAB; id++)
        assert_true(t5_constraints_score(&c, id, -1.5f) == -1.5f);
    t5_constraints_free(&c);
}

static void penalty_takes_every_id_once_and_the_start(void **state)
{
    (void)state;
    const int32_t s[] = {0, 3, 4, 3};
    struct t5_constraints c = rules(2, 0, 0);
    assert_true(t5_constraints_any(&c));
    t5_constraints_set(&c, s, 4);
    assert_int_equal(c.n_penalised, 3);
    assert_true(t5_constraints_score(&c, 3, 1) == 0.5f);
    assert_true(t5_constraints_score(&c, 3, -1) == -2);
    assert_true(t5_constraints_score(&c, 0, -1) == -2);
    assert_true(t5_constraints_score(&c, 5, -1) == -1);
    t5_constraints_set(&c, s, 1); /* the next row starts afresh */
    assert_int_equal(c.n_penalised, 1);
    assert_true(t5_constraints_score(&c, 3, -1) == -1);
    t5_constraints_free(&c);
}

static void bigrams_by_hand(void **state)
{
    (void)state;
    const int32_t s[] = {0, 5, 6, 5, 7, 5};
    struct t5_constraints c = rules(1, 2, 0);
    t5_constraints_set(&c, s, 6); /* 5 was followed by 6 and by 7 */
    assert_int_equal(c.n_banned, 2);
    assert_true(is_banned(&c, 6) && is_banned(&c, 7) && !is_banned(&c, 5));
    t5_constraints_set(&c, s, 5);
    assert_int_equal(c.n_banned, 0);
    t5_constraints_set(&c, s, 1);
    assert_int_equal(c.n_banned, 0);
    t5_constraints_free(&c);
}

static void unigrams_ban_all_that_was_said(void **state)
{
    (void)state;
    const int32_t s[] = {0, 5, 5, 9};
    struct t5_constraints c = rules(1, 1, 0);
    t5_constraints_set(&c, s, 4);
    assert_int_equal(c.n_banned, 3);
    assert_true(is_banned(&c, 0) && is_banned(&c, 5) && is_banned(&c, 9));
    t5_constraints_free(&c);
}

static void eos_waits_and_is_banned_once(void **state)
{
    (void)state;
    const int32_t s[] = {0, 1, 5, 1};
    struct t5_constraints c = rules(1, 1, 4);
    t5_constraints_set(&c, s, 4); /* 3 new tokens; 1 was said, too */
    assert_true(is_banned(&c, 1));
    assert_int_equal(c.n_banned, 3);
    t5_constraints_free(&c);
    c = rules(1, 0, 2);
    t5_constraints_set(&c, s, 2);
    assert_true(is_banned(&c, 1));
    t5_constraints_set(&c, s, 3);
    assert_false(is_banned(&c, 1));
    t5_constraints_free(&c);
}

static void banned_lists_by_hand(void **state)
{
    (void)state;
    static const char *const lists[] = {"4", "0,6", "5,7", "3,5,7", "5,5,8", "2,2,2,2,2,2,9"};
    const int32_t s[] = {0, 3, 5, 5};
    struct t5_id_lists bans = {0};
    struct t5_err err;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        assert_int_equal(t5_id_lists_parse(&bans, lists[i], VOCAB, "--ban", &err), 0);
    struct t5_constraints c = {.penalty = 1, .eos = 1, .bans = &bans};
    assert_int_equal(t5_constraints_init(&c, VOCAB, 64, &err), 0);
    assert_true(t5_constraints_any(&c));
    t5_constraints_set(&c, s, 1); /* the start token counts */
    assert_true(c.n_banned == 2 && is_banned(&c, 4) && is_banned(&c, 6));
    t5_constraints_set(&c, s, 2);
    assert_true(c.n_banned == 1 && is_banned(&c, 4) && !is_banned(&c, 6));
    t5_constraints_set(&c, s, 3); /* two lists end in 7 here */
    assert_true(c.n_banned == 2 && is_banned(&c, 4) && is_banned(&c, 7));
    t5_constraints_set(&c, s, 4);
    assert_true(c.n_banned == 3 && is_banned(&c, 7) && is_banned(&c, 8) && !is_banned(&c, 9));
    t5_constraints_free(&c);
    t5_id_lists_free(&bans);
}

/* Whether sequence + id holds its last n-gram twice. */
static int repeats(const int32_t *s, int64_t n, int32_t id, int64_t size)
{
    int32_t all[64];
    memcpy(all, s, (size_t)n * sizeof *s);
    all[n++] = id;
    for (int64_t i = 0; i + size < n; i++)
        if (memcmp(all + i, all + n - size, (size_t)size * sizeof *all) == 0)
            return 1;
    return 0;
}

static void ban_equals_plain_search(void **state)
{
    (void)state;
    const uint32_t key[2] = {9, 9};
    for (uint32_t round = 0; round < 400; round++) {
        int32_t s[40];
        int64_t n = 1 + round % 39, size = 1 + round % 4;
        for (uint32_t i = 0; i < n; i++)
            s[i] = (int32_t)(t5_philox((const uint32_t[4]){round, i, 0, 0}, key).v[0] % 4);
        struct t5_constraints c = rules(1, size, 0);
        t5_constraints_set(&c, s, n);
        for (int32_t id = 0; id < 4; id++)
            if (is_banned(&c, id) != repeats(s, n, id, size))
                fail_msg("round %u: id %d after %lld tokens, size %lld", round, id, (long long)n,
                         (long long)size);
        t5_constraints_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_by_default),
        cmocka_unit_test(penalty_takes_every_id_once_and_the_start),
        cmocka_unit_test(bigrams_by_hand),
        cmocka_unit_test(unigrams_ban_all_that_was_said),
        cmocka_unit_test(eos_waits_and_is_banned_once),
        cmocka_unit_test(banned_lists_by_hand),
        cmocka_unit_test(ban_equals_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
