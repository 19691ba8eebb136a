/* test_lcs.c - the bit-parallel LCS against the textbook's table: lengths, and which LCS is marked.
 */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "text/lcs.h"

#define MOST 400

static int table[MOST + 1][MOST + 1];

/* The definition: the table, and the walk back from its corner. */
static size_t reference(uint8_t *marked, const int32_t *a, size_t n, const int32_t *b, size_t m)
{
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0)
                table[i][j] = 0;
            else if (a[i - 1] == b[j - 1])
                table[i][j] = table[i - 1][j - 1] + 1;
            else if (table[i - 1][j] > table[i][j - 1])
                table[i][j] = table[i - 1][j];
            else
                table[i][j] = table[i][j - 1];
        }
    for (size_t i = n, j = m; i > 0 && j > 0;) {
        if (a[i - 1] == b[j - 1])
            marked[--i] = 1, j--;
        else if (table[i][j - 1] > table[i - 1][j])
            j--;
        else
            i--;
    }
    return (size_t)table[n][m];
}

static uint64_t random_state;

static size_t below(size_t n)
{
    random_state = t5_mix(random_state, 1);
    return (size_t)(random_state >> 33) % n;
}

/* Random sequences of few types, so that ties abound; sizes around 64, 128 and up to MOST. */
static void compare(struct t5_lcs *lcs, size_t rounds, size_t most)
{
    struct t5_err err;
    for (size_t round = 0; round < rounds; round++) {
        int32_t a[MOST], b[MOST];
        uint8_t want[MOST] = {0}, got[MOST] = {0};
        size_t n = below(most + 1), m = below(most + 1), types = 1 + below(12);
        size_t length, n_marked = 0, n_want = 0;
        for (size_t i = 0; i < n; i++)
            a[i] = (int32_t)below(types);
        for (size_t j = 0; j < m; j++)
            b[j] = (int32_t)(below(types) + below(2) * types); /* half of the types only here */
        size_t want_length = reference(want, a, n, b, m);
        assert_int_equal(t5_lcs_set(lcs, a, n, types, &err), 0);
        assert_int_equal(t5_lcs_length(&length, lcs, b, m, &err), 0);
        assert_int_equal(length, want_length);
        assert_int_equal(t5_lcs_mark(got, &n_marked, lcs, b, m, &err), 0);
        assert_memory_equal(got, want, sizeof got);
        for (size_t i = 0; i < n; i++)
            n_want += want[i];
        assert_int_equal(n_marked, n_want);
        assert_int_equal(n_marked, want_length);
    }
}

static void test_small(void **state)
{
    struct t5_lcs lcs = {0};
    (void)state;
    compare(&lcs, 20000, 12);
    t5_lcs_free(&lcs);
}

static void test_large(void **state)
{
    struct t5_lcs lcs = {0};
    (void)state;
    compare(&lcs, 600, 140);
    compare(&lcs, 100, MOST);
    t5_lcs_free(&lcs);
}

/* A few words of columns at a time: the walk in halves finds the same LCS. */
static void test_halves(void **state)
{
    (void)state;
    for (size_t kept = 1; kept < 40; kept += 7) {
        struct t5_lcs lcs = {.columns_kept = kept};
        compare(&lcs, 100, 140);
        compare(&lcs, 20, MOST);
        assert_true(lcs.columns_capacity <= (kept > 7 ? kept : 7)); /* 7 words are one column */
        t5_lcs_free(&lcs);
    }
}

/* Marks add up over calls: only new ones are counted. */
static void test_union(void **state)
{
    static const int32_t a[] = {0, 1, 2, 3, 4}, b[] = {0, 2}, c[] = {2, 4};
    static const uint8_t want[] = {1, 0, 1, 0, 1};
    uint8_t marked[5] = {0};
    size_t n_marked = 0;
    struct t5_lcs lcs = {0};
    struct t5_err err;
    (void)state;
    assert_int_equal(t5_lcs_set(&lcs, a, 5, 5, &err), 0);
    assert_int_equal(t5_lcs_mark(marked, &n_marked, &lcs, b, 2, &err), 0);
    assert_int_equal(n_marked, 2);
    assert_int_equal(t5_lcs_mark(marked, &n_marked, &lcs, c, 2, &err), 0);
    assert_int_equal(n_marked, 3);
    assert_memory_equal(marked, want, sizeof want);
    t5_lcs_free(&lcs);
}

/* 100,000 tokens against 100,000 in linear memory: the table would take 40 GB. */
static void test_long(void **state)
{
    size_t n = 100000, length, n_marked = 0;
    int32_t *a = malloc(n * sizeof *a);
    uint8_t *marked = calloc(n, 1);
    struct t5_lcs lcs = {0};
    struct t5_err err;
    (void)state;
    assert_true(a && marked);
    for (size_t i = 0; i < n; i++)
        a[i] = (int32_t)below(1000);
    assert_int_equal(t5_lcs_set(&lcs, a, n, 1000, &err), 0);
    assert_int_equal(t5_lcs_length(&length, &lcs, a, n, &err), 0);
    assert_int_equal(length, n);
    assert_int_equal(t5_lcs_mark(marked, &n_marked, &lcs, a + 5, n - 5, &err), 0);
    assert_int_equal(n_marked, n - 5);
    assert_true(lcs.columns_capacity <= (size_t)1 << 21);
    t5_lcs_free(&lcs);
    free(a);
    free(marked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small), cmocka_unit_test(test_large), cmocka_unit_test(test_halves),
        cmocka_unit_test(test_union), cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
