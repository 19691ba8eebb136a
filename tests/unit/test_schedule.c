/* test_schedule.c - learning rates against transformers 5.23's schedulers (lr 0.002, steps 0 to 11,
 * printed with 17 digits). */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include "t5/schedule.h"

#define N 12

static void same(const struct t5_schedule *s, const double *want)
{
    for (int64_t i = 0; i < N; i++)
        if (!t5_close(t5_schedule_lr(s, i), want[i], 1e-18, 1e-14))
            fail_msg("step %lld: %.17g, wanted %.17g", (long long)i, t5_schedule_lr(s, i), want[i]);
}

static void test_linear(void **state)
{
    static const double plain[N] = {0.002,  0.0018, 0.0016, 0.0014, 0.0012, 0.001,
                                    0.0008, 0.0006, 0.0004, 0.0002, 0,      0};
    static const double warm[N] = {0,
                                   0.00066666666666666664,
                                   0.0013333333333333333,
                                   0.002,
                                   0.0017142857142857142,
                                   0.0014285714285714286,
                                   0.0011428571428571427,
                                   0.0008571428571428571,
                                   0.00057142857142857136,
                                   0.00028571428571428568,
                                   0,
                                   0};
    struct t5_schedule s = {.kind = T5_SCHEDULE_LINEAR, .lr = 0.002, .total = 10};
    (void)state;
    same(&s, plain);
    s.warmup = 3;
    same(&s, warm);
}

static void test_cosine(void **state)
{
    static const double plain[10] = {0.002,
                                     0.0019510565162951536,
                                     0.0018090169943749475,
                                     0.0015877852522924731,
                                     0.0013090169943749475,
                                     0.001,
                                     0.00069098300562505266,
                                     0.00041221474770752696,
                                     0.00019098300562505265,
                                     4.894348370484647e-05};
    static const double warm[N] = {0,
                                   0.00066666666666666664,
                                   0.0013333333333333333,
                                   0.002,
                                   0.001900968867902419,
                                   0.0016234898018587336,
                                   0.0012225209339563144,
                                   0.00077747906604368569,
                                   0.00037651019814126651,
                                   9.9031132097580969e-05,
                                   0,
                                   9.9031132097580861e-05};
    struct t5_schedule s = {.kind = T5_SCHEDULE_COSINE, .lr = 0.002, .total = 10};
    (void)state;
    for (int64_t i = 0; i < 10; i++)
        assert_true(t5_close(t5_schedule_lr(&s, i), plain[i], 1e-18, 1e-14));
    s.warmup = 3;
    same(&s, warm);
}

static void test_constant(void **state)
{
    static const double warm[N] = {0,
                                   0.00066666666666666664,
                                   0.0013333333333333333,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002};
    struct t5_schedule s = {.kind = T5_SCHEDULE_CONSTANT, .lr = 0.002, .warmup = 3, .total = 10};
    (void)state;
    same(&s, warm);
}

static void test_inverse_sqrt(void **state)
{
    static const double plain[N] = {0.002,
                                    0.0019999000074993755,
                                    0.0019998000299950012,
                                    0.0019997000674831294,
                                    0.0019996001199600144,
                                    0.0019995001874219091,
                                    0.001999400269865071,
                                    0.0019993003672857564,
                                    0.0019992004796802239,
                                    0.0019991006070447337,
                                    0.0019990007493755463,
                                    0.0019989009066689249};
    static const double warm[N] = {0,
                                   0.00066666666666666664,
                                   0.0013333333333333333,
                                   0.002,
                                   0.0017320508075688774,
                                   0.0015491933384829668,
                                   0.001414213562373095,
                                   0.0013093073414159541,
                                   0.0012247448713915889,
                                   0.0011547005383792518,
                                   0.0010954451150103322,
                                   0.001044465935734187};
    struct t5_schedule s = {.kind = T5_SCHEDULE_INVERSE_SQRT, .lr = 0.002, .total = 10};
    (void)state;
    same(&s, plain);
    s.warmup = 3;
    same(&s, warm);
}

static void test_wsd(void **state)
{
    static const double plain[N] = {0.002, 0.002,
                                    0.002, 0.002,
                                    0.002, 0.002,
                                    0.002, 0.0017071067811865474,
                                    0.001, 0.00029289321881345256,
                                    0,     0};
    static const double warm[N] = {0,
                                   0.00066666666666666664,
                                   0.0013333333333333333,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.002,
                                   0.0017071067811865474,
                                   0.001,
                                   0.00029289321881345256,
                                   0,
                                   0};
    struct t5_schedule s = {.kind = T5_SCHEDULE_WSD, .lr = 0.002, .decay = 4, .total = 10};
    (void)state;
    same(&s, plain);
    s.warmup = 3;
    same(&s, warm);
}

static void test_warmup_longer_than_the_run(void **state)
{
    struct t5_schedule s = {.kind = T5_SCHEDULE_LINEAR, .lr = 0.002, .warmup = 12, .total = 10};
    (void)state;
    assert_true(t5_close(t5_schedule_lr(&s, 11), 0.0018333333333333333, 0, 1e-14));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),   cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_constant), cmocka_unit_test(test_inverse_sqrt),
        cmocka_unit_test(test_wsd),      cmocka_unit_test(test_warmup_longer_than_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
