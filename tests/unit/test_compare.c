/* test_compare.c - --compare on models whose difference is known. */
/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <math.h>

#include "compare.h"
#include "t5/compare_files.h"
#include "tiny_model.h"

static struct tiny m;
static char warned[256];

static void warn(const char *text)
{
    snprintf(warned, sizeof warned, "%s", text);
}

static const char tokens[] = "{\"input_ids\":[3,4,1],\"labels\":[2,5,1]}\n"
                             "{\"input_ids\":[4,1],\"labels\":[3,1]}\n"
                             "{\"input_ids\":[2,2,3,1],\"labels\":[1]}\n";

/* The lines that comparing "a" with `model` prints on the first `records`. */
static int lines_of(json_t *lines[8], const char *model, const char *text, int64_t records,
                    struct t5_err *err)
{
    const char *path = files_write("tokens", text, strlen(text));
    char a[256], b[256], line[512];
    snprintf(a, sizeof a, "%s", files_path("a"));
    snprintf(b, sizeof b, "%s", files_path(model));
    const struct t5_compare_files files = {.original = a,
                                           .model = b,
                                           .tokens = &path,
                                           .n_tokens = 1,
                                           .records = records,
                                           .device = "ref",
                                           .warn = warn};
    FILE *out = tmpfile();
    int n = 0, rc = t5_compare_print(out, &files, err);
    rewind(out);
    while (fgets(line, sizeof line, out))
        assert_non_null(lines[n++] = json_loads(line, 0, NULL));
    fclose(out);
    return rc ? -1 : n;
}

static double number(const json_t *line, const char *key)
{
    return json_number_value(json_object_get(line, key));
}

/* All logits times 1.5: they are half of themselves away, and agree on the likeliest. */
static void scaled_head(void **state)
{
    (void)state;
    json_t *lines[8];
    struct t5_err err;
    double sums[2] = {0};
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "a", TINY_CONFIG);
    int head = tiny_find(&m, "lm_head.weight");
    for (int64_t i = 0; i < m.tensors[head].elements; i++)
        m.data[head][i] *= 1.5f;
    tiny_save_dir(&m, "b", TINY_CONFIG);
    assert_int_equal(lines_of(lines, "b", tokens, 0, &err), 4);
    for (int i = 0; i < 4; i++) {
        double n = i == 3 ? 6 : 3 - i;
        assert_true(number(lines[i], i == 3 ? "records" : "record") == (i == 3 ? 3 : i + 1));
        assert_true(number(lines[i], "tokens") == n);
        assert_true(t5_close(number(lines[i], "logits_relative_error"), 0.5, 0, 1e-5));
        assert_true(number(lines[i], "top1_agreement") == 1);
        sums[0] += i == 3 ? -6 * number(lines[3], "loss") : n * number(lines[i], "loss");
        sums[1] +=
            i == 3 ? -6 * number(lines[3], "original_loss") : n * number(lines[i], "original_loss");
        assert_true(number(lines[i], "loss") != number(lines[i], "original_loss"));
        json_decref(lines[i]);
    }
    assert_true(fabs(sums[0]) < 1e-4 && fabs(sums[1]) < 1e-4);
    assert_int_equal(lines_of(lines, "b", tokens, 2, &err), 3);
    assert_true(number(lines[2], "records") == 2 && number(lines[2], "tokens") == 5);
    for (int i = 0; i < 3; i++)
        json_decref(lines[i]);
}

/* Logits all negated: nothing agrees, and they are twice themselves away. A NaN is null. */
static void other_heads(void **state)
{
    (void)state;
    json_t *lines[8];
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "a", TINY_CONFIG);
    int head = tiny_find(&m, "lm_head.weight");
    for (int64_t i = 0; i < m.tensors[head].elements; i++)
        m.data[head][i] *= -1;
    tiny_save_dir(&m, "b", TINY_CONFIG);
    assert_int_equal(lines_of(lines, "b", tokens, 1, &err), 2);
    assert_true(t5_close(number(lines[1], "logits_relative_error"), 2, 0, 1e-5));
    assert_true(number(lines[1], "top1_agreement") == 0);
    json_decref(lines[0]);
    json_decref(lines[1]);
    m.data[head][0] = NAN;
    tiny_save_dir(&m, "b", TINY_CONFIG);
    assert_int_equal(lines_of(lines, "b", tokens, 1, &err), 2);
    assert_true(json_is_null(json_object_get(lines[1], "logits_relative_error")));
    assert_true(json_is_number(json_object_get(lines[1], "original_loss")));
    json_decref(lines[0]);
    json_decref(lines[1]);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *model, *text, *want;
    } rows[] = {
        {"b", "", "no records"},
        {"b", "{\"input_ids\":[1]}\n", "tokens:1:1: no \"labels\""},
        {"b", "{\"input_ids\":[1],\"labels\":[9999]}\n", "tokens:1:"},
        {"none", tokens, "none: No such file"},
    };
    json_t *lines[8];
    struct t5_err err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(lines_of(lines, rows[i].model, rows[i].text, 0, &err), -1);
        if (!strstr(err.text, rows[i].want))
            fail_msg("expected '%s', found '%s'", rows[i].want, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scaled_head),
        cmocka_unit_test(other_heads),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
