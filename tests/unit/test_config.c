/* test_config.c - config.json: what is read, what is filled in, what is refused
 * and by which name. */
/* SPDX-License-Identifier: MIT */
#include "files.h"

#include "t5/config.h"

static const char good[] =
    "{\"model_type\":\"t5\",\"d_model\":16,\"d_kv\":4,\"d_ff\":24,\"num_heads\":3,\"num_layers\":2,"
    "\"vocab_size\":64,"
    "\"relative_attention_num_buckets\":8,\"relative_attention_max_distance\":20";

/* good with more members before the brace; a repeated key would be refused, so
 * replace where needed */
static int parse(struct t5_config *c, const char *more, struct t5_err *err)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "%s%s%s}", good, more[0] ? "," : "", more);
    *err = (struct t5_err){0};
    return t5_config_parse(c, text, n, err);
}

/* good with the value of one key replaced; value NULL removes the key */
static int replace(struct t5_config *c, const char *key, const char *value, struct t5_err *err)
{
    char text[1024], quoted[80];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(good, quoted);
    assert_non_null(at);
    const char *after = at + strcspn(at, ",");
    int n = value ? snprintf(text, sizeof text, "%.*s%s%s%s}", (int)(at - good), good, quoted,
                             value, after)
                  : snprintf(text, sizeof text, "%.*s%s}", (int)(at - good), good,
                             *after ? after + 1 : "\"x\":0");
    *err = (struct t5_err){0};
    return t5_config_parse(c, text, n, err);
}

static void refuse(const char *key, const char *value)
{
    struct t5_config c;
    struct t5_err err;
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    if (replace(&c, key, value, &err) == 0)
        fail_msg("%s %s: accepted", key, value ? value : "missing");
    assert_int_equal(err.status, T5_BAD_INPUT);
    if (!strstr(err.text, quoted))
        fail_msg("%s %s: the message does not name the key: %s", key, value ? value : "missing",
                 err.text);
}

static void refuse_more(const char *more, const char *want)
{
    struct t5_config c;
    struct t5_err err;
    if (parse(&c, more, &err) == 0)
        fail_msg("%s: accepted", more);
    if (!strstr(err.text, want))
        fail_msg("%s: expected '%s', found '%s'", more, want, err.text);
}

static void defaults(void **state)
{
    (void)state;
    struct t5_config c;
    struct t5_err err;
    if (parse(&c, "", &err))
        fail_msg("%s", err.text);
    assert_int_equal(c.d_model, 16);
    assert_int_equal(c.n_decoder, 2);
    assert_int_equal(c.max_distance, 20);
    assert_int_equal(c.activation, T5_RELU);
    assert_int_equal(c.gated, 0);
    assert_int_equal(c.tied, 1);
    assert_int_equal(c.scale_output, 1);
    assert_true(c.eps == 1e-6f && c.dropout == 0.1f);
    assert_int_equal(c.pad, 0);
    assert_int_equal(c.eos, 1);
    assert_int_equal(c.decoder_start, 0);
    assert_int_equal(replace(&c, "relative_attention_max_distance", NULL, &err), 0);
    assert_int_equal(c.max_distance, 128);
}

static void variants(void **state)
{
    (void)state;
    struct t5_config c;
    struct t5_err err;
    assert_int_equal(parse(&c,
                           "\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu_new\","
                           "\"num_decoder_layers\":1,"
                           "\"tie_word_embeddings\":false",
                           &err),
                     0);
    assert_int_equal(c.activation, T5_GELU_NEW);
    assert_int_equal(c.gated, 1);
    assert_int_equal(c.n_decoder, 1);
    assert_int_equal(c.tied, 0);
    assert_int_equal(c.scale_output, 0);
    assert_int_equal(
        parse(&c, "\"feed_forward_proj\":\"gated-silu\",\"num_decoder_layers\":null", &err), 0);
    assert_int_equal(c.activation, T5_SILU);
    assert_int_equal(c.n_decoder, 2);
    /* scale_decoder_outputs, where it is, rules over the tie */
    assert_int_equal(
        parse(&c, "\"tie_word_embeddings\":true,\"scale_decoder_outputs\":false", &err), 0);
    assert_int_equal(c.tied, 1);
    assert_int_equal(c.scale_output, 0);
    assert_int_equal(
        parse(&c, "\"pad_token_id\":5,\"eos_token_id\":6,\"decoder_start_token_id\":7", &err), 0);
    assert_int_equal(c.pad * 100 + c.eos * 10 + c.decoder_start, 567);
}

static void bad_sizes(void **state)
{
    (void)state;
    static const char *const keys[] = {"d_model",
                                       "d_kv",
                                       "d_ff",
                                       "num_heads",
                                       "num_layers",
                                       "vocab_size",
                                       "relative_attention_num_buckets",
                                       "relative_attention_max_distance"};
    static const char *const values[] = {"\"16\"",  "16.0",        "1.5",  "-1",   "0",
                                         "1048577", "99999999999", "true", "[16]", "{}"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            refuse(keys[k], values[v]);
        if (k < 7)
            refuse(keys[k], NULL);
    }
    refuse("num_layers", "513");
    refuse("relative_attention_num_buckets", "7");
    refuse("relative_attention_max_distance", "4");
}

static void limits(void **state)
{
    (void)state;
    struct t5_config c;
    struct t5_err err;
    assert_int_equal(replace(&c, "d_model", "1048576", &err), 0);
    assert_int_equal(replace(&c, "num_layers", "512", &err), 0);
    assert_int_equal(replace(&c, "num_heads", "262144", &err), 0); /* x d_kv 4 */
    refuse("num_heads", "262145");
    char *text = malloc(1 << 21);
    int n = sprintf(text, "%s}", good);
    memset(text + n, ' ', (1 << 21) - (size_t)n);
    assert_int_equal(t5_config_parse(&c, text, 1 << 20, &err), 0);
    assert_int_equal(t5_config_parse(&c, text, (1 << 20) + 1, &err), -1);
    free(text);
}

static void bad_others(void **state)
{
    (void)state;
    refuse("model_type", "\"bert\"");
    refuse("model_type", "5");
    refuse("model_type", NULL);
    refuse_more("\"feed_forward_proj\":\"swish\"", "\"swish\" not known");
    refuse_more("\"feed_forward_proj\":3", "\"feed_forward_proj\"");
    refuse_more("\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\"",
                "\"dense_act_fn\"");
    refuse_more("\"layer_norm_epsilon\":0", "\"layer_norm_epsilon\"");
    refuse_more("\"layer_norm_epsilon\":\"x\"", "\"layer_norm_epsilon\"");
    refuse_more("\"layer_norm_epsilon\":NaN", "byte");
    refuse_more("\"layer_norm_epsilon\":1e400", "");
    refuse_more("\"dropout_rate\":1", "\"dropout_rate\"");
    refuse_more("\"dropout_rate\":-0.1", "\"dropout_rate\"");
    refuse_more("\"tie_word_embeddings\":1", "\"tie_word_embeddings\"");
    refuse_more("\"decoder_start_token_id\":64", "\"decoder_start_token_id\"");
    refuse_more("\"eos_token_id\":[1,2]", "\"eos_token_id\"");
    refuse_more("\"d_model\":16", "duplicate");
}

static void not_a_config(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "[]", "null", "{", "{}", "{\"model_type\":\"t5\"}", "\xff", "{} {}", "{\"a\":1,}"};
    struct t5_config c;
    struct t5_err err;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(t5_config_parse(&c, texts[i], (int64_t)strlen(texts[i]), &err), -1);
        assert_int_equal(err.status, T5_BAD_INPUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(variants),   cmocka_unit_test(bad_sizes),
        cmocka_unit_test(limits),   cmocka_unit_test(bad_others), cmocka_unit_test(not_a_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
