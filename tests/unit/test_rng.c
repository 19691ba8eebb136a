/* test_rng.c - the generator against the known answers that come with Random123 (kat_vectors). */
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/dropout.h"
#include "base/rng.h"

static const struct answer {
    uint32_t counter[4], key[2], seven[4], ten[4];
} answers[] = {
    {{0},
     {0},
     {0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48},
     {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x5207ddc2, 0x45165e59, 0x4d8ee751, 0x8c52f662},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct answer *a = &answers[i];
        struct t5_philox seven = t5_philox_rounds(a->counter, a->key, 7);
        struct t5_philox ten = t5_philox(a->counter, a->key);
        assert_memory_equal(seven.v, a->seven, sizeof a->seven);
        assert_memory_equal(ten.v, a->ten, sizeof a->ten);
    }
}

/* Sites are the last counter; a draw of dropout is {record, position, octet, site}. */
static void test_dropout_draw(void **state)
{
    (void)state;
    const struct answer *a = &answers[2];
    struct t5_dropout d = {.p = 0.1f, .key = {a->key[0], a->key[1]}, .site = a->counter[3]};
    struct t5_philox draw = t5_dropout_draw(&d, a->counter[0], a->counter[1], a->counter[2]);
    assert_memory_equal(draw.v, a->seven, sizeof a->seven);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_answers),
                                       cmocka_unit_test(test_dropout_draw)};
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
