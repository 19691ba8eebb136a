/* test_keep.c - lists of projections that stay wide: names, and which products they keep. */
/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include "t5/keep.h"
#include "t5/layers.h"

static int check_with(const char *list, const char *compute, const char *device)
{
    struct t5_err err = {0};
    int rc = t5_keep_check(list, compute, device, &err);
    assert_int_equal(rc, err.text[0] ? -1 : 0);
    return rc;
}
static int check(const char *list)
{
    int rc = check_with(list, "fp8", "cuda");
    assert_int_equal(check_with(list, "int8", "cuda:1"), rc);
    return rc;
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(check(NULL), 0);
    assert_int_equal(check("wo"), 0);
    assert_int_equal(check("q,k,v,o,wi,wi_0,wi_1,wo"), 0);
    assert_int_equal(check(""), -1);
    assert_int_equal(check("w"), -1);
    assert_int_equal(check("wo,"), -1);
    assert_int_equal(check("q wo"), -1);
    assert_int_equal(check_with("wo", "int8", "cpu"), -1);
    assert_int_equal(check_with("wo", "bf16", "cuda"), -1);
    assert_int_equal(check_with("wo", NULL, "cuda"), -1);
    assert_int_equal(check_with(NULL, NULL, "cpu"), 0);
    assert_true(t5_keep_names("o,wi_1", "encoder.block.0.layer.1.DenseReluDense.wi_1"));
    assert_true(t5_keep_names("o", "encoder.block.0.layer.0.SelfAttention.o"));
    assert_false(t5_keep_names("o,wi_1", "encoder.block.0.layer.1.DenseReluDense.wo"));
    assert_true(t5_keep_names("wi", "encoder.block.0.layer.1.DenseReluDense.wi_0"));
    assert_true(t5_keep_names("wi", "encoder.block.0.layer.1.DenseReluDense.wi"));
    assert_false(t5_keep_names("wi_1", "encoder.block.0.layer.1.DenseReluDense.wi_0"));
    assert_false(t5_keep_names(NULL, "lm_head"));
}

/* A product stays wide as a whole where one of its parts is named; the logits' always does. Decode
 * steps read all of the decoder's but the keys and values of the source. */
static void test_use(void **state)
{
    struct t5_backend_handle backend = {.keep_wide = "v,wo"};
    struct t5_config config = {.vocab = 32,
                               .d_model = 8,
                               .d_kv = 4,
                               .d_ff = 16,
                               .n_heads = 2,
                               .n_encoder = 1,
                               .n_decoder = 1,
                               .gated = 1,
                               .buckets = 8};
    struct t5_model m;
    struct t5_err err = {0};
    (void)state;
    assert_int_equal(t5_model_describe(&m, &config, 1, NULL, T5_INFER, &err), 0);
    m.backend = &backend;
    const struct t5_block *b = &m.decoder.blocks[0];
    const struct t5_block *e = &m.encoder.blocks[0];
    const struct t5_linear *const kept[] = {&b->qkv, &b->wo, &m.lm_head};
    const struct t5_linear *const narrow[] = {&b->self_o, &b->cross_q, &b->cross_o, &b->wi};
    const unsigned step = T5_USE_FORWARD | T5_USE_STEP;
    for (int i = 0; i < 3; i++)
        assert_int_equal(t5_weight_use(&m, kept[i]), step | T5_USE_WIDE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(t5_weight_use(&m, narrow[i]), step);
    assert_int_equal(t5_weight_use(&m, &b->cross_kv), T5_USE_FORWARD | T5_USE_WIDE);
    assert_int_equal(t5_weight_use(&m, &e->qkv), T5_USE_FORWARD | T5_USE_WIDE);
    assert_int_equal(t5_weight_use(&m, &e->wi), T5_USE_FORWARD);
    t5_model_undescribe(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_use)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
