/* test_quant.c - int8 rows, the plan of t5-quantize and its pass. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "base/buf.h"
#include "compare.h"
#include "io/quant_int8.h"
#include "io/quant_row.h"
#include "io/quantize.h"
#include "tiny_model.h"

/* ---- rows ---- */

/* The definition, in double. */
static void reference_row(int8_t *q, float *scale, const float *w, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    *scale = most / 127.0f;
    for (int64_t i = 0; i < n; i++)
        q[i] = most > 0 ? (int8_t)nearbyintf(w[i] * (127.0f / most)) : 0;
}

static float draw(uint32_t i)
{
    const uint32_t counter[4] = {i, 0, 0, 0}, key[2] = {7, 8};
    struct t5_philox p = t5_philox(counter, key);
    return (t5_uniform(p.v[0]) + t5_uniform(p.v[1]) - 1) * ldexpf(1, (int)(p.v[2] % 24) - 12);
}

/* Odd lengths, poisoned outputs, a guard behind. */
static void rows(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 2, 7, 8, 15, 16, 17, 63, 64, 65, 333, 1000};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        int64_t n = lengths[k];
        float w[1000], back[1001], scale = NAN, want_scale;
        int8_t q[1001], want[1000];
        for (int64_t i = 0; i < n; i++)
            w[i] = draw((uint32_t)(1000 * k + (size_t)i));
        memset(q, 0x55, sizeof q);
        back[n] = 5;
        reference_row(want, &want_scale, w, n);
        assert_int_equal(t5_int8_row(q, &scale, w, n), -1);
        assert_true(scale == want_scale);
        assert_memory_equal(q, want, (size_t)n);
        assert_int_equal(q[n], 0x55);
        const struct t5_matrix m8 = {q, T5_I8, &scale, 1, n, NULL};
        t5_matrix_read_rows(back, &m8, 0, 1);
        assert_true(back[n] == 5);
        for (int64_t i = 0; i < n; i++)
            assert_true(fabsf(w[i] - back[i]) <= 0.50001f * scale && q[i] > -128);
    }
}

static void ties_and_edges(void **state)
{
    (void)state;
    /* absmax 127: the scale is 1, and halves show the rule: to even */
    const float w[8] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -127}, zeros[3] = {0, -0.0f, 0},
                tiny[2] = {1e-38f, -1e-40f}, huge[2] = {3e38f, -1.5e38f};
    const int8_t want[8] = {127, 0, 2, 2, 0, -2, -2, -127};
    int8_t q[8];
    float scale = NAN;
    assert_int_equal(t5_int8_row(q, &scale, w, 8), -1);
    assert_true(scale == 1);
    assert_memory_equal(q, want, 8);
    assert_int_equal(t5_int8_row(q, &scale, zeros, 3), -1);
    assert_true(scale == 0 && q[0] == 0 && q[2] == 0);
    assert_int_equal(t5_int8_row(q, &scale, tiny, 2), -1);
    assert_true(scale == 0 && q[0] == 0 && q[1] == 0);
    assert_int_equal(t5_int8_row(q, &scale, huge, 2), -1);
    assert_true(q[0] == 127 && (q[1] == -63 || q[1] == -64));
}

static void not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float w[100], scales[10];
    int8_t q[100];
    for (int b = 0; b < 3; b++)
        for (int at = 0; at < 100; at += 11) {
            for (int i = 0; i < 100; i++)
                w[i] = (float)i;
            w[at] = bad[b];
            w[99] = bad[b];
            assert_int_equal(t5_int8_row(q, scales, w, 100), at);
            assert_int_equal(t5_row_not_finite(w, 100), at);
        }
    assert_int_equal(t5_row_not_finite(w, 0), -1);
}

/* ---- the pass ---- */

static struct tiny m;

struct outcome {
    struct t5_safetensors *file;
    char *report;
};

static int quantize(struct outcome *out, const char *from,
                    const struct t5_quantize_options *options, struct t5_err *err)
{
    struct t5_checkpoint *model;
    struct t5_atomic *file, *report;
    size_t n;
    *out = (struct outcome){0};
    if (t5_checkpoint_open(&model, from, err) || t5_atomic_open(&file, files_path("q"), err) ||
        t5_atomic_open(&report, files_path("report"), err))
        fail_msg("%s", err->text);
    int rc = t5_quantize_run(file, report, model, options, err);
    if (rc) {
        t5_atomic_abandon(file);
        t5_atomic_abandon(report);
    } else if (t5_atomic_commit(file, err) || t5_atomic_commit(report, err) ||
               t5_safetensors_open(&out->file, files_path("q"), err) ||
               t5_safetensors_verify(out->file, err))
        fail_msg("%s", err->text);
    else
        out->report = files_read(files_path("report"), &n);
    t5_checkpoint_close(model);
    return rc;
}

static void done(struct outcome *out)
{
    t5_safetensors_close(out->file);
    free(out->report);
}

static int is_projection(const char *name)
{
    return strstr(name, "Attention.") ? !strstr(name, "bias")
                                      : strstr(name, "DenseReluDense") != NULL;
}

static void to_int8(void **state)
{
    (void)state;
    const struct t5_quantize_options options = {.type = "int8", .command = "make 'it'"};
    struct outcome out;
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    if (quantize(&out, files_path("m"), &options, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < m.n; i++) {
        const struct t5_tensor *t = t5_safetensors_find(out.file, m.names[i]);
        char name[170];
        snprintf(name, sizeof name, "%s_scale", m.names[i]);
        const struct t5_tensor *s = t5_safetensors_find(out.file, name);
        if (!is_projection(m.names[i])) {
            assert_int_equal(t->type, T5_F32);
            assert_memory_equal(t->data, m.data[i], t->bytes);
            assert_null(s);
            continue;
        }
        assert_int_equal(t->type, T5_I8);
        for (int64_t r = 0; r < t->shape[0]; r++) {
            int8_t want[256];
            float scale, got;
            reference_row(want, &scale, m.data[i] + r * t->shape[1], t->shape[1]);
            memcpy(&got, (const char *)s->data + 4 * r, 4);
            assert_true(got == scale);
            assert_memory_equal((const char *)t->data + r * t->shape[1], want, (size_t)t->shape[1]);
        }
    }
    assert_string_equal(t5_safetensors_metadata(out.file, "config", NULL), TINY_CONFIG);
    assert_string_equal(t5_safetensors_metadata(out.file, "quantization", NULL), "int8");
    assert_string_equal(t5_safetensors_metadata(out.file, "command", NULL), "make 'it'");
    assert_string_equal(t5_safetensors_metadata(out.file, "format", NULL), "pt");
    int lines = 0;
    for (const char *p = out.report; (p = strchr(p, '\n')); p++)
        lines++;
    assert_int_equal(lines, m.n);
    done(&out);
}

/* int8 and back is what the scales say; int8 again only when asked, and the
 * command lines add up. */
static void from_int8(void **state)
{
    (void)state;
    struct t5_quantize_options options = {.type = "int8", .command = "one"};
    struct outcome out;
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    assert_int_equal(quantize(&out, files_path("m"), &options, &err), 0);
    done(&out);
    assert_int_equal(rename(files_path("q"), files_path("q8")), 0);
    options.command = "two";
    assert_int_equal(quantize(&out, files_path("q8"), &options, &err), -1);
    assert_non_null(strstr(err.text, "is int8 already"));
    assert_int_equal(err.status, T5_BAD_INPUT);
    options.requantize = 1;
    assert_int_equal(quantize(&out, files_path("q8"), &options, &err), 0);
    assert_string_equal(t5_safetensors_metadata(out.file, "command", NULL), "one\ntwo");
    done(&out);
    options = (struct t5_quantize_options){.type = "f32", .command = "three"};
    assert_int_equal(quantize(&out, files_path("q8"), &options, &err), 0);
    assert_string_equal(t5_safetensors_metadata(out.file, "quantization", NULL), "none");
    for (int i = 0; i < m.n; i++) {
        const struct t5_tensor *t = t5_safetensors_find(out.file, m.names[i]);
        int64_t columns = t->rank == 2 ? t->shape[1] : t->elements;
        assert_int_equal(t->type, T5_F32);
        for (int64_t r = 0; r < t->elements / columns; r++) {
            int8_t q[256];
            float want[256], scale;
            const float *w = m.data[i] + r * columns;
            memcpy(want, w, (size_t)columns * 4);
            reference_row(q, &scale, w, columns);
            for (int64_t c = 0; is_projection(m.names[i]) && c < columns; c++)
                want[c] = (float)q[c] * scale;
            assert_memory_equal((const char *)t->data + 4 * r * columns, want, (size_t)columns * 4);
        }
    }
    done(&out);
}

static void to_bf16(void **state)
{
    (void)state;
    const struct t5_quantize_options options = {.type = "bf16", .command = "x"};
    struct outcome out;
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    m.data[0][3] = 3.4e38f; /* finite, but not in bf16 */
    tiny_save_dir(&m, "m", TINY_CONFIG);
    assert_int_equal(quantize(&out, files_path("m"), &options, &err), 0);
    for (int i = 0; i < m.n; i++) {
        const struct t5_tensor *t = t5_safetensors_find(out.file, m.names[i]);
        assert_int_equal(t->type, T5_BF16);
        for (int64_t e = 0; e < t->elements; e++) {
            uint16_t got;
            memcpy(&got, (const char *)t->data + 2 * e, 2);
            assert_int_equal(got, t5_f32_to_bf16(m.data[i][e]));
        }
    }
    assert_non_null(strstr(out.report, "\"non_finite\":1}\n{"));
    done(&out);
}

/* Name and index of a weight that is not finite, in a tensor that is converted and in one that is
 * copied. */
static void refuses_not_finite(void **state)
{
    (void)state;
    static const char *const names[] = {"encoder.block.0.layer.0.SelfAttention.q.weight",
                                        "shared.weight", "decoder.final_layer_norm.weight"};
    const struct t5_quantize_options options = {.type = "int8", .command = "x"};
    for (int i = 0; i < 3; i++) {
        struct outcome out;
        struct t5_err err;
        char want[200];
        tiny_make(&m, TINY_CONFIG);
        m.data[tiny_find(&m, names[i])][5] = i ? INFINITY : NAN;
        tiny_save_dir(&m, "m", TINY_CONFIG);
        assert_int_equal(quantize(&out, files_path("m"), &options, &err), -1);
        snprintf(want, sizeof want, "tensor '%s': element 5 is not finite", names[i]);
        if (!strstr(err.text, want) || err.status != T5_BAD_INPUT)
            fail_msg("expected '%s', found '%s'", want, err.text);
    }
}

/* An adapter of random values, the draws told apart by seed. */
static void make_adapter(struct t5_adapter *a, const char *targets, int64_t rank, double alpha,
                         uint32_t seed)
{
    struct t5_err err;
    struct t5_config c;
    assert_int_equal(t5_config_parse(&c, TINY_CONFIG, (int64_t)strlen(TINY_CONFIG), &err), 0);
    assert_int_equal(t5_adapter_init(a, targets, rank, alpha, 0, 0, &c, &err), 0);
    for (int i = 0; i < a->n_modules; i++) {
        uint32_t at = seed + 1000 * (uint32_t)i;
        for (int64_t e = 0; e < rank * a->modules[i].in; e++)
            a->modules[i].a[e] = draw(at + (uint32_t)e);
        for (int64_t e = 0; e < rank * a->modules[i].out; e++)
            a->modules[i].b[e] = draw(at + (uint32_t)e + 50000) * 0.01f;
    }
}

/* weight x scale x (B A)[e] of the tensor of that name, in double; counts the modules it finds. */
static double added(const struct t5_merge *merge, const char *name, int64_t e, int *found)
{
    const struct t5_adapter *a = &merge->adapter;
    double sum = 0;
    for (int k = 0; k < a->n_modules; k++) {
        const struct t5_lora_module *l = &a->modules[k];
        if (strncmp(name, l->module, strlen(l->module)) != 0)
            continue;
        *found += e == 0;
        for (int64_t r = 0; r < a->rank; r++)
            sum += (double)l->b[e / l->in * a->rank + r] * (double)l->a[r * l->in + e % l->in];
    }
    return merge->weight * a->alpha / (double)a->rank * sum;
}

/* Alone, and three with weights that differ in rank, scale and modules. */
static void merges(void **state)
{
    (void)state;
    struct t5_err err;
    struct t5_merge merge[3] = {{.weight = 1}, {.weight = -0.5}, {.weight = 2.25}};
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    make_adapter(&merge[0].adapter, "q,wo", 2, 3, 0);
    make_adapter(&merge[1].adapter, "q,k", 3, 5, 100000);
    make_adapter(&merge[2].adapter, "all", 1, 2, 200000);
    for (int n = 1; n <= 3; n += 2) {
        const struct t5_quantize_options options = {
            .type = "f32", .command = "x", .merges = merge, .n_merges = n};
        struct outcome out;
        int found = 0, modules = 0;
        assert_int_equal(quantize(&out, files_path("m"), &options, &err), 0);
        for (int i = 0; i < m.n; i++) {
            const struct t5_tensor *t = t5_safetensors_find(out.file, m.names[i]);
            for (int64_t e = 0; e < t->elements; e++) {
                double want = (double)m.data[i][e];
                float got;
                memcpy(&got, (const char *)t->data + 4 * e, 4);
                for (int k = 0; k < n; k++)
                    want += added(&merge[k], m.names[i], e, &found);
                assert_true(t5_close(got, want, 1e-6, 1e-5));
            }
        }
        for (int k = 0; k < n; k++)
            modules += merge[k].adapter.n_modules;
        assert_int_equal(found, modules);
        done(&out);
    }
    for (int k = 0; k < 3; k++)
        t5_adapter_free(&merge[k].adapter);
}

/* ---- the plan ---- */

static enum t5_dtype planned(const char *name, const char *const *keep, int n_keep,
                             struct t5_err *err)
{
    struct t5_checkpoint *model;
    struct t5_quantize_step *steps;
    const struct t5_quantize_options options = {.type = "int8", .keep = keep, .n_keep = n_keep};
    int n, type = -1;
    assert_int_equal(t5_checkpoint_open(&model, files_path("m"), err), 0);
    if (t5_quantize_plan(&steps, &n, model, &options, err) == 0) {
        for (int i = 0; i < n; i++)
            if (strcmp(steps[i].in->name, name) == 0)
                type = (int)steps[i].out;
        free(steps);
    }
    t5_checkpoint_close(model);
    return (enum t5_dtype)type;
}

static void patterns(void **state)
{
    (void)state;
    static const char wo[] = "encoder.block.1.layer.1.DenseReluDense.wo.weight",
                      o[] = "encoder.block.1.layer.0.SelfAttention.o.weight";
    static const struct {
        const char *keep[2], *name;
        enum t5_dtype want;
    } rows[] = {
        {{"wo=bf16"}, wo, T5_BF16},
        {{"wo=bf16"}, o, T5_I8}, /* whole components only */
        {{"o=f32"}, o, T5_F32},
        {{"o=f32"}, wo, T5_I8},
        {{"block.1=same"}, wo, T5_F32},
        {{"block.0=same"}, wo, T5_I8},
        {{"encoder.block.*.layer.1=bf16"}, wo, T5_BF16},
        {{"encoder.*.layer=bf16", "wo=bf16"}, o, T5_I8},
        {{"encoder=f32", "wo=bf16"}, wo, T5_BF16}, /* the last counts */
        {{"wo=bf16", "encoder=f32"}, wo, T5_F32},
        {{"lm_head=int8"}, "lm_head.weight", T5_I8},
        {{"shared.weight=bf16"}, "shared.weight", T5_BF16},
        {{"weight=bf16"}, "encoder.final_layer_norm.weight", T5_BF16},
    };
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int n = rows[i].keep[1] && i != 7 ? 2 : 1;
        if (i == 7) { /* no tensor has just one component between encoder and layer */
            planned(rows[i].name, rows[i].keep, 1, &err);
            assert_non_null(strstr(err.text, "matches no tensor"));
        } else if (planned(rows[i].name, rows[i].keep, n, &err) != rows[i].want)
            fail_msg("row %zu: %s", i, rows[i].keep[0]);
    }
}

static void bad_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *keep, *want;
    } rows[] = {
        {"wo", "expected PATTERN=int8|fp8|nf4|bf16|f32|same"},
        {"=f32", "expected PATTERN"},
        {"wo=f16", "expected PATTERN"},
        {"wo=", "expected PATTERN"},
        {"attention=f32", "matches no tensor"},
        {"Dense=f32", "matches no tensor"},
        {"wo.=f32", "matches no tensor"},
        {".=f32", "matches no tensor"},
        {"final_layer_norm=int8", "cannot be int8"},
        {"relative_attention_bias=int8", "cannot be int8"},
        {"relative_attention_bias=nf4", "cannot be nf4"},
        {"final_layer_norm=fp8", "cannot be fp8"},
    };
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (struct t5_err){0};
        planned("shared.weight", &rows[i].keep, 1, &err);
        if (err.status != T5_USAGE || !strstr(err.text, rows[i].want))
            fail_msg("%s: expected '%s', found '%s'", rows[i].keep, rows[i].want, err.text);
    }
}

static void dtype_of_config(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"{}", "{}"},
        {"{ \"a\": 1e-06, \"dtype\" : \"float32\",\n \"b\": {\"dtype\": \"x\"} }",
         "{ \"a\": 1e-06, \"dtype\" : \"bfloat16\",\n \"b\": {\"dtype\": \"x\"} }"},
        {"{\"torch_dtype\":null}", "{\"torch_dtype\":\"bfloat16\"}"},
        {"{\"x\":[\"}\",{\"y\":\"\\\"]\"}],\"dtype\":\"a\",\"torch_dtype\":\"b\"}",
         "{\"x\":[\"}\",{\"y\":\"\\\"]\"}],\"dtype\":\"bfloat16\",\"torch_dtype\":\"bfloat16\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct t5_buf out = {0};
        struct t5_err err;
        assert_int_equal(
            t5_config_with_dtype(&out, rows[i].in, strlen(rows[i].in), "bfloat16", &err), 0);
        assert_int_equal(t5_buf_append(&out, "", 1, &err), 0);
        assert_string_equal(out.data, rows[i].out);
        t5_buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(ties_and_edges),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(to_int8),
        cmocka_unit_test(from_int8),
        cmocka_unit_test(to_bf16),
        cmocka_unit_test(merges),
        cmocka_unit_test(refuses_not_finite),
        cmocka_unit_test(patterns),
        cmocka_unit_test(bad_patterns),
        cmocka_unit_test(dtype_of_config),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
