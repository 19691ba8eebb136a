/* test_peft.c - adapters: PEFT's are read, ours come back as they were, what does not fit or is not
 * supported is refused by name. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "base/buf.h"
#include "compare.h"
#include "io/peft.h"
#include "io/peft_config.h"
#include "tiny_model.h"

static struct tiny m;              /* the adapter's tensors */
static struct t5_checkpoint *base; /* TINY_CONFIG */
static const char *const stems[] = {
    "encoder.block.0.layer.0.SelfAttention.q", "encoder.block.1.layer.0.SelfAttention.q",
    "decoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.q"};
#define Q1_A "base_model.model.encoder.block.1.layer.0.SelfAttention.q.lora_A.weight"
#define GOOD "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\"]"

/* LoRA of rank 2 on every q of the tiny model: in 8, out 6. */
static void make_adapter(void)
{
    char name[160];
    m.n = 0;
    for (int i = 0; i < 4; i++)
        for (int b = 0; b < 2; b++) {
            snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", stems[i],
                     b ? 'B' : 'A');
            struct t5_tensor *t = tiny_add(&m, name, b ? 6 : 2, b ? 2 : 8);
            for (int64_t e = 0; e < t->elements; e++)
                m.data[m.n - 1][e] = (float)(e + 10 * i + b) * 0.25f - 2;
        }
}

static int load(struct t5_adapter *a, const char *config, struct t5_err *err)
{
    tiny_dir("a");
    files_write("a/adapter_config.json", config, strlen(config));
    tiny_save(&m, "a/adapter_model.safetensors", 0, m.n, NULL, 0);
    *err = (struct t5_err){0};
    return t5_adapter_load(a, files_path("a"), base, err);
}

static void refuse(const char *config, const char *want)
{
    struct t5_adapter a;
    struct t5_err err;
    if (load(&a, config, &err) == 0)
        fail_msg("accepted; expected '%s'", want);
    if (!strstr(err.text, want) || err.status != T5_BAD_INPUT)
        fail_msg("expected '%s', found '%s'", want, err.text);
    assert_null(a.modules);
}

static void accept(struct t5_adapter *a, const char *config)
{
    struct t5_err err;
    if (load(a, config, &err))
        fail_msg("%s: %s", config, err.text);
}

static void reads(void **state)
{
    (void)state;
    struct t5_adapter a;
    make_adapter();
    accept(&a, GOOD "}");
    assert_int_equal(a.n_modules, 4);
    assert_int_equal(a.rank, 2);
    assert_true(t5_adapter_scale(&a) == 2);
    assert_string_equal(a.targets, "q");
    for (int i = 0; i < 4; i++) { /* in the model's order */
        assert_string_equal(a.modules[i].module, stems[i]);
        assert_int_equal(a.modules[i].in * 10 + a.modules[i].out, 86);
        assert_memory_equal(a.modules[i].a, m.data[2 * i], 16 * 4);
        assert_memory_equal(a.modules[i].b, m.data[2 * i + 1], 12 * 4);
    }
    t5_adapter_free(&a);
    t5_adapter_free(&a);
    accept(&a, GOOD ",\"use_rslora\":true}");
    assert_true(t5_close(t5_adapter_scale(&a), 4 / sqrt(2), 0, 1e-15));
    t5_adapter_free(&a);
}

/* Keys that PEFT of any age writes and that change nothing. */
static void accepts(void **state)
{
    (void)state;
    static const char *const more[] = {
        "}",
        ",\"bias\":\"none\",\"enable_lora\":null,\"merge_weights\":false,\"modules_to_save\":null}",
        ",\"use_dora\":false,\"rank_pattern\":{},\"alpha_pattern\":{},\"layer_replication\":null,"
        "\"loftq_config\":{}}",
        ",\"init_lora_weights\":true,\"lora_bias\":false,\"eva_config\":null,\"megatron_core\":"
        "\"megatron.core\"}",
        ",\"init_lora_weights\":\"gaussian\",\"qalora_group_size\":16,\"inference_mode\":true,"
        "\"revision\":null}",
        ",\"task_type\":\"SEQ_2_SEQ_LM\",\"peft_version\":\"0.99.0\",\"auto_mapping\":null,\"lora_"
        "dropout\":0.05}",
    };
    struct t5_adapter a;
    make_adapter();
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char config[600];
        snprintf(config, sizeof config, "%s%s", GOOD, more[i]);
        accept(&a, config);
        t5_adapter_free(&a);
    }
}

static void refuses_features(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } rows[] = {
        {"use_dora", "true"},
        {"rank_pattern", "{\"q\":4}"},
        {"alpha_pattern", "{\"q\":4}"},
        {"bias", "\"all\""},
        {"bias", "\"lora_only\""},
        {"modules_to_save", "[\"lm_head\"]"},
        {"fan_in_fan_out", "true"},
        {"lora_bias", "true"},
        {"layer_replication", "[[0,1]]"},
        {"trainable_token_indices", "[1]"},
        {"megatron_config", "{\"a\":1}"},
        {"loftq_config", "{\"loftq_bits\":4}"},
        {"init_lora_weights", "\"pissa\""},
        {"init_lora_weights", "\"pissa_niter_4\""},
        {"init_lora_weights", "\"olora\""},
        {"enable_lora", "[true,false]"},
        {"a_feature_of_tomorrow", "1"},
        {"use_qalora", "true"},
        {"target_parameters", "[\"x\"]"},
    };
    make_adapter();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char config[300], want[80];
        snprintf(config, sizeof config, "%s,\"%s\":%s}", GOOD, rows[i].key, rows[i].value);
        snprintf(want, sizeof want, "adapter_config.json: \"%s\"", rows[i].key);
        refuse(config, want);
    }
}

static void refuses_config(void **state)
{
    (void)state;
    make_adapter();
    static const struct {
        const char *config, *want;
    } rows[] = {
        {"{\"peft_type\":\"IA3\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"peft_type\": expected \"LORA\", found \"IA3\""},
        {"{\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"peft_type\": expected \"LORA\", found none"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"r\": expected a whole number from 1 to 4096, found none"},
        {"{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"r\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":-1,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"r\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":4097,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"r\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":2.0,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"r\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":\"2\",\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
         "\"r\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"target_modules\":[\"q\"]}",
         "\"lora_alpha\": expected a number, found none"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":\"4\",\"target_modules\":[\"q\"]}",
         "\"lora_alpha\""},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":NaN,\"target_modules\":[\"q\"]}", "byte"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1e999,\"target_modules\":[\"q\"]}",
         "byte"},
        {GOOD ",\"lora_dropout\":1}", "\"lora_dropout\""},
        {GOOD ",\"lora_dropout\":-0.1}", "\"lora_dropout\""},
        {GOOD ",\"use_rslora\":1}", "\"use_rslora\""},
        {GOOD ",\"r\":2}", "duplicate"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}", "\"target_modules\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[]}",
         "\"target_modules\": expected"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\",5]}",
         "\"target_modules\""},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\",\"query\"]}",
         "target module 'query': the base model has no"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\",\"lm_head\"]}",
         "target module 'lm_head'"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q\",\"wi\"]}",
         "target module 'wi'"},
        {"[]", "expected a JSON object"},
        {"{", "adapter_config.json: byte"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refuse(rows[i].config, rows[i].want);
}

static void refuses_tensors(void **state)
{
    (void)state;
    struct t5_tensor *t;
    make_adapter();
    tiny_remove(&m, Q1_A);
    refuse(GOOD "}", "SelfAttention.q.lora_A.weight' is missing");
    tiny_remove(&m, "base_model.model.encoder.block.1.layer.0.SelfAttention.q.lora_B.weight");
    refuse(GOOD "}", "encoder.block.1.layer.0.SelfAttention.q.lora_A.weight' is missing");
    make_adapter();
    refuse("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"v\",\"encoder."
           "block.0.layer.0.SelfAttention.q\"]}",
           "is missing");
    refuse("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"encoder.block.0."
           "layer.0.SelfAttention.q\"]}",
           "not among the target modules");
    refuse("{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":4,\"target_modules\":[\"q\"]}",
           "shape (3, 8) expected from r and the base, found (2, 8)");
    t = &m.tensors[tiny_find(&m, Q1_A)];
    t->shape[1] = 9, t->bytes = 72;
    refuse(GOOD "}", "shape (2, 8) expected from r and the base, found (2, 9)");
    t->rank = 1, t->shape[0] = 16, t->bytes = 64;
    refuse(GOOD "}", "shape (2, 8) expected from r and the base, found 1 dimension");
    make_adapter();
    t->type = T5_I32;
    refuse(GOOD "}", "type I32, expected F32");
    make_adapter();
    m.data[tiny_find(&m, Q1_A)][5] = NAN;
    refuse(GOOD "}", "SelfAttention.q.lora_A....': element 5 is not finite");
    m.data[tiny_find(&m, Q1_A)][5] = -INFINITY;
    refuse(GOOD "}", "element 5 is not finite");
}

static void refuses_keys(void **state)
{
    (void)state;
    static const struct {
        const char *name, *want;
    } rows[] = {
        {"base_model.model.encoder.block.7.layer.0.SelfAttention.q.lora_A.weight",
         "the base model has no such projection"},
        {"base_model.model.lm_head.lora_A.weight", "the base model has no such projection"},
        {"base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.default.weight",
         "an adapter name in the key"},
        {"base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_magnitude_vector",
         "DoRA is not supported"},
        {"base_model.model.shared.lora_embedding_A", "LoRA on an embedding is not supported"},
        {"base_model.model.lm_head.modules_to_save.weight", "modules_to_save is not supported"},
        {"base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_B.bias",
         "a bias is not supported"},
        {"base_model.model..lora_A.weight", "not a key of a LoRA adapter"},
        {"base_model.model.lora_A.weight", "not a key of a LoRA adapter"},
        {"encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", "not a key of a LoRA adapter"},
        {"x", "not a key of a LoRA adapter"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_adapter();
        tiny_add(&m, rows[i].name, 2, 8);
        refuse(GOOD "}", rows[i].want);
    }
    m.n = 0;
    refuse("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":\"all-linear\"}",
           "holds no LoRA tensors");
}

/* What PEFT does not list one by one: patterns, ranges of layers. The keys of the file decide. */
static void patterns(void **state)
{
    (void)state;
    struct t5_adapter a;
    make_adapter();
    accept(&a, "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":\".*\\\\.q\"}");
    assert_string_equal(a.targets, ".*\\.q");
    t5_adapter_free(&a);
    tiny_remove(&m, Q1_A);
    tiny_remove(&m, "base_model.model.encoder.block.1.layer.0.SelfAttention.q.lora_B.weight");
    accept(&a, GOOD ",\"layers_to_transform\":[0],\"layers_pattern\":\"block\"}");
    assert_int_equal(a.n_modules, 3);
    t5_adapter_free(&a);
}

static void missing_files(void **state)
{
    (void)state;
    struct t5_adapter a;
    struct t5_err err;
    make_adapter();
    accept(&a, GOOD "}");
    t5_adapter_free(&a);
    assert_int_equal(
        rename(files_path("a/adapter_model.safetensors"), files_path("a/adapter_model.bin")), 0);
    assert_int_equal(t5_adapter_load(&a, files_path("a"), base, &err), -1);
    assert_non_null(strstr(err.text, "adapter_model.bin: a safetensors file under the name"));
    unlink(files_path("a/adapter_model.bin"));
    assert_int_equal(t5_adapter_load(&a, files_path("a"), base, &err), -1);
    assert_non_null(strstr(err.text, "adapter_model.safetensors: no such file"));
    unlink(files_path("a/adapter_config.json"));
    assert_int_equal(t5_adapter_load(&a, files_path("a"), base, &err), -1);
    assert_non_null(strstr(err.text, "adapter_config.json: no such file"));
    assert_int_equal(t5_adapter_load(&a, files_path("nowhere"), base, &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
}

static void compare(const struct t5_adapter *a, const struct t5_adapter *b)
{
    assert_int_equal(a->n_modules, b->n_modules);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->rslora, b->rslora);
    assert_true(a->alpha == b->alpha && a->dropout == b->dropout);
    assert_string_equal(a->base, b->base);
    assert_string_equal(a->targets, b->targets);
    for (int i = 0; i < a->n_modules; i++) {
        const struct t5_lora_module *x = &a->modules[i], *y = &b->modules[i];
        assert_string_equal(x->module, y->module);
        assert_memory_equal(x->a, y->a, (size_t)(a->rank * x->in) * 4);
        assert_memory_equal(x->b, y->b, (size_t)(a->rank * x->out) * 4);
    }
}

/* PEFT's own adapters come back from our files as they were. */
static void golden(void **state)
{
    (void)state;
    static const char *const geometries[] = {"gated", "relu", "shallow"}, *const adapters[] = {
                                                                              "qv", "all"};
    for (int i = 0; i < 6; i++) {
        struct t5_checkpoint *model;
        struct t5_adapter a, b;
        struct t5_err err;
        char path[128], adapter[128];
        snprintf(path, sizeof path, "testdata/golden/%s/model", geometries[i / 2]);
        snprintf(adapter, sizeof adapter, "testdata/golden/%s/adapter-%s", geometries[i / 2],
                 adapters[i % 2]);
        if (t5_checkpoint_open(&model, path, &err) || t5_adapter_load(&a, adapter, model, &err))
            fail_msg("%s", err.text);
        assert_int_equal(a.rslora, i % 2);
        strcpy(a.base_fingerprint, "f00d");
        if (t5_adapter_save(&a, files_path("saved"), &err) ||
            t5_adapter_load(&b, files_path("saved"), model, &err))
            fail_msg("%s", err.text);
        compare(&a, &b);
        assert_string_equal(b.base_fingerprint, "f00d");
        t5_adapter_free(&a);
        t5_adapter_free(&b);
        t5_checkpoint_close(model);
    }
}

static void init(void **state)
{
    (void)state;
    struct t5_adapter a;
    struct t5_err err = {0};
    const struct t5_config *c = t5_checkpoint_config(base);
    assert_int_equal(t5_adapter_init(&a, "v,q", 3, 6, 0.05, 0, c, &err), 0);
    assert_int_equal(a.n_modules, 8);
    assert_string_equal(a.targets, "q,v");
    assert_string_equal(a.modules[1].module, "encoder.block.0.layer.0.SelfAttention.v");
    assert_true(a.modules[7].a[3 * 8 - 1] == 0 && a.modules[7].b[3 * 6 - 1] == 0);
    t5_adapter_free(&a);
    assert_int_equal(t5_adapter_init(&a, "all", 1, 1, 0, 1, c, &err), 0);
    assert_int_equal(a.n_modules, 2 * 7 + 11);
    assert_string_equal(a.targets, "q,k,v,o,wi_0,wi_1,wo");
    t5_adapter_free(&a);
    static const char *const bad[] = {"", "q,", "q,lm_head", "query", "wi", "q q"};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(t5_adapter_init(&a, bad[i], 1, 1, 0, 0, c, &err), -1);
        assert_int_equal(err.status, T5_USAGE);
        assert_null(a.modules);
    }
}

/* The file has the keys that every version knows and no other. */
static void config_text(void **state)
{
    (void)state;
    struct t5_adapter a;
    struct t5_err err;
    struct t5_buf text = {0};
    assert_int_equal(t5_adapter_init(&a, "q,v", 16, 32, 0.05, 0, t5_checkpoint_config(base), &err),
                     0);
    strcpy(a.base, "google/flan-t5-\"xxl\"");
    assert_int_equal(t5_peft_config_print(&text, &a, &err), 0);
    assert_string_equal(
        text.data,
        "{\n  \"base_model_name_or_path\": \"google/flan-t5-\\\"xxl\\\"\",\n  \"bias\": \"none\",\n"
        "  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n  \"init_lora_weights\": "
        "true,\n"
        "  \"lora_alpha\": 32,\n  \"lora_dropout\": 0.05,\n  \"modules_to_save\": null,\n"
        "  \"peft_type\": \"LORA\",\n  \"r\": 16,\n  \"target_modules\": [\"q\", \"v\"],\n"
        "  \"task_type\": \"SEQ_2_SEQ_LM\"\n}\n");
    t5_buf_free(&text);
    t5_adapter_free(&a);
}

static void not_finite_is_not_written(void **state)
{
    (void)state;
    struct t5_adapter a;
    struct t5_err err;
    assert_int_equal(t5_adapter_init(&a, "q", 2, 4, 0, 0, t5_checkpoint_config(base), &err), 0);
    assert_int_equal(t5_adapter_save(&a, files_path("kept"), &err), 0);
    a.modules[2].b[3] = NAN;
    assert_int_equal(t5_adapter_save(&a, files_path("kept"), &err), -1);
    assert_int_equal(err.status, T5_NOT_FINITE);
    t5_adapter_free(&a);
    assert_int_equal(t5_adapter_load(&a, files_path("kept"), base, &err), 0);
    t5_adapter_free(&a);
}

static int set_up(void **state)
{
    struct t5_err err;
    if (files_make(state))
        return -1;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    return t5_checkpoint_open(&base, files_path("m"), &err);
}

static int tear_down(void **state)
{
    t5_checkpoint_close(base);
    return files_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses_features),
        cmocka_unit_test(refuses_config),
        cmocka_unit_test(refuses_tensors),
        cmocka_unit_test(refuses_keys),
        cmocka_unit_test(patterns),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(golden),
        cmocka_unit_test(init),
        cmocka_unit_test(config_text),
        cmocka_unit_test(not_finite_is_not_written),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
