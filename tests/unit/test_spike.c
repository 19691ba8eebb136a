/* test_spike.c - which losses stand out, against the definition; the window as text; sets of
 * numbers as --skip-batches takes them. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "t5/ranges.h"
#include "t5/spike.h"

static struct t5_err err;

static void scores(void **state)
{
    (void)state;
    struct t5_spike s;
    assert_int_equal(t5_spike_init(&s, 2, 4, &err), 0);
    for (int i = 0; i < 4; i++) {
        assert_true(isinf(t5_spike_limit(&s))); /* not full */
        t5_spike_add(&s, 1 + i);
    }
    /* 1 2 3 4: mean 2.5, deviation sqrt(5 / 3) */
    assert_true(fabs(t5_spike_limit(&s) - (2.5 + 2 * sqrt(5.0 / 3))) < 1e-15);
    assert_true(fabs(t5_spike_score(&s, 7.5) - 5 / sqrt(5.0 / 3)) < 1e-15);
    double limit = t5_spike_limit(&s);
    t5_spike_add(&s, NAN);
    t5_spike_add(&s, INFINITY);
    assert_true(t5_spike_limit(&s) == limit); /* only finite ones enter */
    t5_spike_add(&s, 9);                      /* 2 3 4 9: mean 4.5, squares 29 */
    assert_true(fabs(t5_spike_limit(&s) - (4.5 + 2 * sqrt(29.0 / 3))) < 1e-14);
    for (int i = 0; i < 4; i++)
        t5_spike_add(&s, 5); /* all alike: rounding is no spike, a step of 1 % is */
    assert_true(t5_spike_limit(&s) > 5 * (1 + 1e-9) && t5_spike_limit(&s) < 5.05);
    t5_spike_free(&s);
}

static void off(void **state)
{
    (void)state;
    struct t5_spike s;
    assert_int_equal(t5_spike_init(&s, 0, 50, &err), 0);
    for (int i = 0; i < 100; i++)
        t5_spike_add(&s, i);
    assert_true(s.n == 0 && isinf(t5_spike_limit(&s)));
    t5_spike_free(&s);
}

static void as_text(void **state)
{
    (void)state;
    static const double losses[] = {0.1, 1 / 3.0, 12345.678901234567, 5e-324,
                                    1.7976931348623157e308};
    struct t5_spike a, b;
    struct t5_buf text = {0};
    assert_int_equal(t5_spike_init(&a, 3, 5, &err), 0);
    assert_int_equal(t5_spike_init(&b, 3, 5, &err), 0);
    assert_int_equal(t5_spike_print(&text, &a, &err), 0);
    assert_string_equal(text.data, "");
    assert_int_equal(t5_spike_parse(&b, text.data, &err), 0);
    for (int i = 0; i < 5; i++)
        t5_spike_add(&a, losses[i]);
    assert_int_equal(t5_spike_print(&text, &a, &err), 0);
    assert_int_equal(t5_spike_parse(&b, text.data, &err), 0);
    assert_int_equal(b.n, 5);
    assert_memory_equal(b.losses, losses, sizeof losses);
    static const char *const bad[] = {"1 x", "nan", "1 2 3 4 5 6", "1,2", "inf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(t5_spike_parse(&b, bad[i], &err), -1);
    t5_buf_free(&text);
    t5_spike_free(&a);
    t5_spike_free(&b);
}

static void ranges(void **state)
{
    (void)state;
    static const char *const good[][2] = {{"7", "7"},
                                          {"3-5", "3-5"},
                                          {"3-5,6", "3-6"},
                                          {"9,1-2", "1-2,9"},
                                          {"4-4", "4"},
                                          {"5-9,1-20,7", "1-20"},
                                          {"1,3,5,2", "1-3,5"},
                                          {"10-20,15-30", "10-30"},
                                          {"2,2,2", "2"},
                                          {"8-9,1-2,4-5,3", "1-5,8-9"},
                                          {"999999999", "999999999"}};
    static const char *const bad[] = {
        "",           "0",    "x",    "5-3",   "1-",
        "-3",         "1,,2", "1, 2", "1-2-3", "+1",
        "1000000000", "0x10", "1.5",  "3,",    "1,3,5,7,9,11,13,15,17,19,21,23,25"};
    char text[T5_RANGES_TEXT];
    struct t5_ranges r;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(t5_ranges_parse(&r, good[i][0], "--x", &err), 0);
        assert_string_equal(t5_ranges_print(text, &r, INT64_MAX), good[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (t5_ranges_parse(&r, bad[i], "--x", &err) == 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(err.status, T5_USAGE);
        assert_memory_equal(err.text, "--x: ", 5);
    }
    assert_int_equal(t5_ranges_parse(&r, "3-5,8,20-30", "--x", &err), 0);
    int found = 0;
    for (int64_t i = 0; i < 40; i++)
        found += t5_ranges_have(&r, i) << (i == 5 || i == 8 || i == 20 || i == 30);
    assert_int_equal(found, 3 + 1 + 11 + 4);
    assert_string_equal(t5_ranges_print(text, &r, 2), "");
    assert_string_equal(t5_ranges_print(text, &r, 3), "3");
    assert_string_equal(t5_ranges_print(text, &r, 25), "3-5,8,20-25");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores),
        cmocka_unit_test(off),
        cmocka_unit_test(as_text),
        cmocka_unit_test(ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
