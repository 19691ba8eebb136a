/* test_quant_small.c - NF4 as bitsandbytes makes it and E4M3 as torch does, to the bit; the pass of
 * t5-quantize over them. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "base/buf.h"
#include "base/nf4.h"
#include "base/sha256.h"
#include "compare.h"
#include "io/quant_fp8.h"
#include "io/quant_nf4.h"
#include "io/quantize.h"
#include "io/quantize_rows.h"
#include "tiny_model.h"

/* ---- golden ---- */

static struct t5_safetensors *golden;

static const struct t5_tensor *of(const char *name, const char *what)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, what);
    const struct t5_tensor *t = t5_safetensors_find(golden, full);
    assert_non_null(t);
    return t;
}

static void check_bytes(const void *got, const char *name, const char *what)
{
    const struct t5_tensor *t = of(name, what);
    assert_memory_equal(got, t->data, t->bytes);
}

static float *weight(const char *name)
{
    const struct t5_tensor *t = of(name, "");
    float *w = malloc((size_t)t->elements * sizeof *w);
    t5_to_f32(w, t->data, t->type, (size_t)t->elements);
    return w;
}

static void check_nf4(const char *name)
{
    const struct t5_tensor *t = of(name, "");
    int64_t n = t->elements, blocks = t5_nf4_blocks(n);
    float *w = weight(name), *values = malloc((size_t)n * sizeof *values);
    float *absmax = malloc((size_t)blocks * sizeof *absmax);
    float *scale = malloc((size_t)t5_nf4_scales(n) * sizeof *scale);
    uint8_t *codes = malloc((size_t)t5_nf4_bytes(n)), *block = malloc((size_t)blocks);
    char key[64], digest[65];
    memset(codes, 0x55, (size_t)t5_nf4_bytes(n));
    assert_int_equal(t5_nf4_codes(codes, absmax, w, n), -1);
    t5_nf4_scales_pack(block, scale, absmax, blocks);
    check_bytes(codes, name, ".codes");
    check_bytes(block, name, ".block");
    check_bytes(scale, name, ".offset");
    check_bytes(scale + 1, name, ".groups");
    t5_nf4_read(values, codes, block, scale, 0, n);
    t5_sha256(digest, values, (size_t)n * sizeof *values);
    snprintf(key, sizeof key, "%s.values", name);
    assert_string_equal(digest, t5_safetensors_metadata(golden, key, NULL));
    free(w);
    free(values);
    free(absmax);
    free(scale);
    free(codes);
    free(block);
}

static void nf4_golden(void **state)
{
    (void)state;
    check_nf4("wide");
    check_nf4("odd");
}

static void fp8_golden(void **state)
{
    (void)state;
    static const char *const names[] = {"wide", "odd"};
    for (int i = 0; i < 2; i++) {
        const struct t5_tensor *t = of(names[i], "");
        int64_t rows = t->shape[0], cols = t->shape[1];
        float *w = weight(names[i]), scale[64];
        uint8_t *q = malloc((size_t)t->elements);
        for (int64_t r = 0; r < rows; r++)
            assert_int_equal(t5_fp8_row(q + r * cols, &scale[r], w + r * cols, cols), -1);
        check_bytes(q, names[i], ".fp8");
        check_bytes(scale, names[i], ".fp8_scale");
        free(w);
        free(q);
    }
}

/* ---- rows and blocks ---- */

static void edges(void **state)
{
    (void)state;
    float w[200] = {0}, absmax[4], scale[2], back[200];
    uint8_t q[200], codes[100], block[4];
    assert_int_equal(t5_fp8_row(q, scale, w, 200), -1); /* zeros stay zeros */
    assert_true(scale[0] == 0 && q[0] == 0 && q[199] == 0);
    assert_int_equal(t5_nf4_codes(codes, absmax, w, 200), -1);
    t5_nf4_scales_pack(block, scale, absmax, 4);
    t5_nf4_read(back, codes, block, scale, 0, 200);
    for (int i = 0; i < 200; i++)
        assert_true(back[i] == 0);
    for (int i = 0; i < 200; i++) /* below what a reciprocal can be taken of */
        w[i] = i % 2 ? 1e-44f : -1e-44f;
    assert_int_equal(t5_nf4_codes(codes, absmax, w, 200), -1);
    t5_nf4_scales_pack(block, scale, absmax, 4);
    t5_nf4_read(back, codes, block, scale, 0, 200);
    for (int i = 0; i < 200; i++)
        assert_true(fabsf(back[i]) < 1e-37f);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        w[130] = w[131] = bad[i];
        assert_int_equal(t5_nf4_codes(codes, absmax, w, 200), 130);
        assert_int_equal(t5_fp8_row(q, scale, w, 200), 130);
    }
}

static void units(void **state)
{
    (void)state;
    static const int64_t rows[][2] = {{64, 1}, {4096, 1}, {32, 2}, {96, 2}, {18, 32}, {37, 64}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(t5_quantize_unit(T5_NF4, rows[i][0]), rows[i][1]);
        assert_int_equal(t5_quantize_unit(T5_F8, rows[i][0]), 1);
    }
}

/* ---- the pass ---- */

static struct tiny m;

/* Quantises model `from` to `to`. */
static void pass(const char *from, const char *to, const char *report,
                 const struct t5_quantize_options *options)
{
    struct t5_checkpoint *model = NULL;
    struct t5_atomic *file = NULL, *lines = NULL;
    struct t5_err err;
    if (t5_checkpoint_open(&model, files_path(from), &err) ||
        t5_atomic_open(&file, files_path(to), &err) ||
        t5_atomic_open(&lines, files_path(report), &err) ||
        t5_quantize_run(file, lines, model, options, &err) || t5_atomic_commit(file, &err) ||
        t5_atomic_commit(lines, &err))
        fail_msg("%s", err.text);
    t5_checkpoint_close(model);
}

/* Every weight of the quantised file is what the rows' functions make of the original, and the
 * report's error is the distance between them. */
static void check_pass(const char *type, enum t5_dtype want, double most)
{
    const struct t5_quantize_options options = {.type = type, .command = "x"};
    struct t5_checkpoint *c;
    struct t5_err err;
    int seen = 0, projections = 0;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    pass("m", "q", "report", &options);
    if (t5_checkpoint_open(&c, files_path("q"), &err) || t5_checkpoint_verify(c, &err))
        fail_msg("%s", err.text);
    assert_string_equal(t5_checkpoint_quantization(c), type);
    assert_null(t5_checkpoint_warning(c));
    for (int i = 0; i < t5_checkpoint_count(c); i++) {
        const struct t5_tensor *t = t5_checkpoint_at(c, i);
        if (!t5_dtype_quantised(t->type))
            continue;
        float values[4096], *w = m.data[tiny_find(&m, t->name)], error = 0, size = 0;
        struct t5_matrix matrix = t5_checkpoint_matrix(c, i);
        assert_int_equal(t->type, want);
        assert_true(t->elements <= 4096);
        t5_matrix_read_rows(values, &matrix, 0, matrix.rows);
        for (int64_t k = 0; k < t->elements; k++) {
            error += (values[k] - w[k]) * (values[k] - w[k]);
            size += w[k] * w[k];
        }
        assert_true(error > 0 && sqrt((double)(error / size)) < most);
        seen++;
    }
    for (int i = 0; i < m.n; i++)
        projections +=
            m.tensors[i].rank == 2 && strstr(m.names[i], "block.") && !strstr(m.names[i], "bias");
    assert_int_equal(seen, projections);
    t5_checkpoint_close(c);
}

static void passes(void **state)
{
    (void)state;
    check_pass("nf4", T5_NF4, 0.2);
    check_pass("fp8", T5_F8, 0.04);
}

/* ---- XXL ---- */

/* A bf16 FLAN-T5-XXL as NF4 takes between 6.1 and 6.6 GB, counted from the shapes of its tensors.
 */
static void size_of_xxl(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_type\":\"t5\",\"d_model\":4096,\"d_kv\":64,\"d_ff\":10240,\"num_heads\":64,"
        "\"num_layers\":24,\"num_decoder_layers\":24,\"vocab_size\":32128,"
        "\"relative_attention_num_buckets\":32,\"relative_attention_max_distance\":128,\"layer_"
        "norm_"
        "epsilon\":1e-6,\"decoder_start_token_id\":0,\"feed_forward_proj\":\"gated-gelu\","
        "\"tie_word_embeddings\":false}";
    struct t5_config config;
    struct t5_layout_entry *layout;
    struct t5_err err;
    int n;
    int64_t bytes = 0, elements = 0;
    if (t5_config_parse(&config, text, sizeof text - 1, &err) ||
        t5_layout(&layout, &n, &config, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        const struct t5_layout_entry *e = &layout[i];
        struct t5_tensor t = {.elements = e->shape[0] * (e->rank == 2 ? e->shape[1] : 1)};
        int quantised = e->rank == 2 && strstr(e->name, "block.") && !strstr(e->name, "bias");
        struct t5_quantize_step step = {.in = &t, .out = quantised ? T5_NF4 : T5_BF16};
        bytes += t5_quantize_bytes(&step);
        elements += t.elements;
    }
    free(layout);
    assert_int_equal(elements, 11135332352);
    assert_in_range(bytes, 6100000000, 6600000000);
}

static int open_golden(void **state)
{
    (void)state;
    struct t5_err err;
    return files_make(state) ||
           t5_safetensors_open(&golden, "testdata/golden/nf4.safetensors", &err);
}
static int close_golden(void **state)
{
    t5_safetensors_close(golden);
    return files_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nf4_golden), cmocka_unit_test(fp8_golden), cmocka_unit_test(edges),
        cmocka_unit_test(units),      cmocka_unit_test(passes),     cmocka_unit_test(size_of_xxl),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
