/* test_small_types.c - E4M3 and NF4: what a code means, and which code a number gets. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/matrix.h"
#include "base/nf4.h"
#include "compare.h"

/* From the definition: bias 7, 3 bits of fraction, no infinities. */
static double f8_value(int code)
{
    int exponent = code >> 3 & 15, fraction = code & 7;
    double v = exponent ? ldexp(1 + fraction / 8.0, exponent - 7) : ldexp(fraction / 8.0, -6);
    return code & 0x80 ? -v : v;
}

static void test_f8_codes(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        float v = t5_f8_to_f32((uint8_t)code);
        if ((code & 0x7f) == 0x7f) {
            assert_true(isnan(v));
            continue;
        }
        assert_true((double)v == f8_value(code) && !signbit(v) == !(code & 0x80));
        assert_int_equal(t5_f32_to_f8(v), code);
    }
    assert_true(t5_f8_to_f32(0x7e) == 448);
}

/* Between two neighbours: the nearer, in the middle the even one. */
static void test_f8_rounding(void **state)
{
    (void)state;
    for (int code = 0; code < 0x7e; code++) {
        float low = t5_f8_to_f32((uint8_t)code), high = t5_f8_to_f32((uint8_t)(code + 1)),
              middle = (low + high) / 2;
        int even = code % 2 ? code + 1 : code;
        assert_int_equal(t5_f32_to_f8(middle), even);
        assert_int_equal(t5_f32_to_f8(-middle), even | 0x80);
        assert_int_equal(t5_f32_to_f8(nextafterf(middle, 0)), code);
        assert_int_equal(t5_f32_to_f8(nextafterf(middle, 1000)), code + 1);
    }
    const float above[] = {449, 480, 1e6f, INFINITY};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(t5_f32_to_f8(above[i]), 0x7e);
        assert_int_equal(t5_f32_to_f8(-above[i]), 0xfe);
    }
    assert_true(isnan(t5_f8_to_f32(t5_f32_to_f8(NAN))));
    assert_int_equal(t5_f32_to_f8(-0.0f), 0x80);
}

/* The map's values by the definition in double: the table differs by its float rounding alone. */
static void test_nf4_map(void **state)
{
    (void)state;
    int code = 128;
    for (int e = 0; e < 7; e++)
        for (int i = 0; i < 1 << e; i++, code++) {
            double want = pow(10, e - 6) * (0.1 + 0.9 * (i + 0.5) / (1 << e));
            float got = t5_nf4_map((uint8_t)code);
            assert_true(t5_close((double)got, want, 0, 2e-7));
            assert_true(t5_nf4_map((uint8_t)(254 - code)) == -got);
        }
    assert_int_equal(code, 255);
    assert_true(t5_nf4_map(127) == 0 && t5_nf4_map(255) == 1);
}

enum { ROWS = 7, COLS = 37, N = ROWS * COLS };

/* Values of a matrix whose rows are no whole blocks, from their definition. */
static void test_matrix_nf4(void **state)
{
    (void)state;
    uint8_t codes[(N + 1) / 2], block[(N + 63) / 64] = {0, 127, 200, 255, 31};
    float scale[2] = {0.25f, 1.5f}, got[N], piece[5];
    struct t5_matrix m = {codes, T5_NF4, scale, ROWS, COLS, block};
    assert_int_equal(t5_nf4_bytes(N), sizeof codes);
    assert_int_equal(t5_nf4_blocks(N), sizeof block);
    assert_int_equal(t5_nf4_scales(N), 2);
    assert_int_equal(t5_nf4_scales(64 * 256), 2);
    assert_int_equal(t5_nf4_scales(64 * 256 + 1), 3);
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)(i * 37);
    t5_matrix_read_rows(got, &m, 0, ROWS);
    for (int i = 0; i < N; i++) {
        int code = i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
        assert_true(got[i] == t5_nf4_code[code] * (t5_nf4_map(block[i / 64]) * 1.5f + 0.25f));
    }
    t5_matrix_read(piece, &m, 3, 15, 5); /* over the border of a block, at an odd element */
    assert_memory_equal(piece, got + 3 * COLS + 15, sizeof piece);
}

static void test_matrix_f8(void **state)
{
    (void)state;
    uint8_t codes[N];
    char scale[4 * ROWS + 1]; /* a file aligns nothing */
    float got[N];
    struct t5_matrix m = {codes, T5_F8, scale + 1, ROWS, COLS, NULL};
    for (int i = 0; i < N; i++)
        codes[i] = (uint8_t)(i % 0x7f);
    for (int r = 0; r < ROWS; r++) {
        float s = 0.5f * (float)(r + 1);
        memcpy(scale + 1 + 4 * r, &s, 4);
    }
    t5_matrix_read_rows(got, &m, 0, ROWS);
    for (int i = 0; i < N; i++)
        assert_true((double)got[i] == f8_value(codes[i]) * 0.5 * (i / COLS + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f8_codes),  cmocka_unit_test(test_f8_rounding),
        cmocka_unit_test(test_nf4_map),   cmocka_unit_test(test_matrix_nf4),
        cmocka_unit_test(test_matrix_f8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
