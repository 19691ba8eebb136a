/* test_checkpoint.c - model directories, shards with their index, files of ours: what is found in
 * them and what is refused. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <signal.h>
#include <math.h>
#include <sys/wait.h>

#include "base/nf4.h"
#include "t5/finite.h"
#include "tiny_model.h"

static struct tiny m;

static void open_ok(struct t5_checkpoint **out, const char *path)
{
    struct t5_err err;
    if (t5_checkpoint_open(out, path, &err))
        fail_msg("%s", err.text);
}

/* The path is refused as bad input, with these words. */
static void refuse(const char *path, const char *want)
{
    struct t5_checkpoint *c;
    struct t5_err err = {0};
    if (t5_checkpoint_open(&c, path, &err) == 0)
        fail_msg("accepted; expected '%s'", want);
    if (!strstr(err.text, want) || err.status != T5_BAD_INPUT)
        fail_msg("expected '%s', found '%s' (%d)", want, err.text, (int)err.status);
    assert_null(c);
}

static void refuse_model(const char *want)
{
    tiny_save_dir(&m, "m", TINY_CONFIG);
    refuse(files_path("m"), want);
}

/* ---- one file in a directory ---- */

static void directory(void **state)
{
    (void)state;
    struct t5_checkpoint *c;
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    open_ok(&c, files_path("m"));
    assert_int_equal(t5_checkpoint_count(c), m.n);
    assert_int_equal(t5_checkpoint_config(c)->d_ff, 12);
    assert_string_equal(t5_checkpoint_config_text(c, NULL), TINY_CONFIG);
    assert_string_equal(t5_checkpoint_quantization(c), "none");
    assert_null(t5_checkpoint_warning(c));
    for (int i = 0; i < m.n; i++) {
        const struct t5_tensor *t = t5_checkpoint_find(c, m.names[i]);
        assert_ptr_equal(t, t5_checkpoint_at(c, i)); /* in the layout's order */
        assert_memory_equal(t->data, m.data[i], t->bytes);
    }
    assert_null(t5_checkpoint_find(c, "none"));
    assert_true(t5_checkpoint_reads(c, files_path("m/model.safetensors")));
    assert_false(t5_checkpoint_reads(c, files_path("m/config.json")));
    assert_int_equal(t5_checkpoint_verify(c, &(struct t5_err){0}), 0);
    t5_checkpoint_close(c);
    t5_checkpoint_close(NULL);
}

static void golden(void **state)
{
    (void)state;
    static const char *const dirs[] = {"testdata/golden/gated/model", "testdata/golden/relu/model",
                                       "testdata/golden/shallow/model"};
    for (int i = 0; i < 3; i++) {
        struct t5_checkpoint *c;
        open_ok(&c, dirs[i]);
        /* shallow: tied by its config, and yet a head of its own in the file */
        assert_int_equal(t5_checkpoint_find(c, "lm_head.weight") != NULL, i != 1);
        assert_null(t5_checkpoint_warning(c));
        t5_checkpoint_close(c);
    }
}

static void names_of_old(void **state)
{
    (void)state;
    struct t5_checkpoint *c;
    tiny_make(&m, TINY_CONFIG);
    int n = m.n;
    tiny_add(&m, "encoder.embed_tokens.weight", 16, 8);
    tiny_add(&m, "decoder.embed_tokens.weight", 16, 8);
    tiny_add(&m, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", 4, 3);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    open_ok(&c, files_path("m"));
    assert_int_equal(t5_checkpoint_count(c), n);
    assert_null(t5_checkpoint_warning(c));
    t5_checkpoint_close(c);
    tiny_remove(&m, "shared.weight"); /* then its copy serves */
    tiny_save_dir(&m, "m", TINY_CONFIG);
    open_ok(&c, files_path("m"));
    assert_int_equal(t5_checkpoint_find(c, "shared.weight")->shape[0], 16);
    t5_checkpoint_close(c);
    m.tensors[tiny_find(&m, "decoder.embed_tokens.weight")].shape[0] = 15;
    m.tensors[tiny_find(&m, "decoder.embed_tokens.weight")].bytes = 15 * 8 * 4;
    refuse_model(
        "'decoder.embed_tokens.weight': shape (16, 8) expected from its config, found (15, 8)");
}

static void extra_and_missing(void **state)
{
    (void)state;
    struct t5_checkpoint *c;
    tiny_make(&m, TINY_CONFIG);
    tiny_add(&m, "classifier.weight", 2, 2);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    open_ok(&c, files_path("m"));
    assert_non_null(strstr(t5_checkpoint_warning(c), "1 tensor not used ('classifier.weight')"));
    t5_checkpoint_close(c);
    tiny_make(&m, TINY_CONFIG);
    tiny_remove(&m, "decoder.block.0.layer.1.EncDecAttention.k.weight");
    refuse_model("'decoder.block.0.layer.1.EncDecAttention.k.weight' is missing");
    tiny_make(&m, TINY_CONFIG);
    tiny_remove(&m, "lm_head.weight");
    refuse_model("'lm_head.weight' is missing");
    tiny_make(&m, TINY_TIED);
    tiny_save_dir(&m, "m", TINY_TIED);
    open_ok(&c, files_path("m"));
    assert_null(t5_checkpoint_find(c, "lm_head.weight"));
    t5_checkpoint_close(c);
}

static void shapes_and_types(void **state)
{
    (void)state;
    tiny_make(&m, TINY_CONFIG);
    struct t5_tensor *q =
        &m.tensors[tiny_find(&m, "encoder.block.1.layer.0.SelfAttention.q.weight")];
    q->shape[0] = 8, q->shape[1] = 6;
    refuse_model("shape (6, 8) expected from its config, found (8, 6)");
    q->rank = 1, q->shape[0] = 48;
    refuse_model("found (48)");
    tiny_make(&m, TINY_CONFIG);
    q->type = T5_I32;
    refuse_model("type I32 is not one of weights");
    tiny_make(&m, TINY_CONFIG);
    q->type = T5_BF16, q->bytes /= 2;
    struct t5_checkpoint *c;
    tiny_save_dir(&m, "m", TINY_CONFIG);
    open_ok(&c, files_path("m"));
    assert_int_equal(t5_checkpoint_find(c, q->name)->type, T5_BF16);
    t5_checkpoint_close(c);
}

static void files_of_a_directory(void **state)
{
    (void)state;
    struct t5_err err;
    struct t5_checkpoint *c;
    const char lfs[] = "version https://git-lfs.github.com/spec/v1\n";
    tiny_make(&m, TINY_CONFIG);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    files_write("m/pytorch_model.bin", "x", 1);
    open_ok(&c, files_path("m"));
    t5_checkpoint_close(c);
    files_write("m/model.safetensors", lfs, sizeof lfs - 1); /* never the .bin instead */
    refuse(files_path("m"), "Git LFS pointer");
    unlink(files_path("m/model.safetensors"));
    refuse(files_path("m"), "pytorch_model.bin: byte 0: not a zip archive");
    unlink(files_path("m/pytorch_model.bin"));
    refuse(files_path("m"), "neither model.safetensors nor");
    assert_int_equal(mkfifo(files_path("m/model.safetensors"), 0666), 0);
    refuse(files_path("m"), "a FIFO, not a regular file");
    unlink(files_path("m/model.safetensors"));
    assert_int_equal(symlink("nowhere", files_path("m/model.safetensors")), 0);
    refuse(files_path("m"), "model.safetensors: no such file");
    tiny_save_dir(&m, "m", TINY_CONFIG);
    unlink(files_path("m/config.json"));
    refuse(files_path("m"), "config.json: no such file");
    files_write("m/config.json", "{\"d_model\":", 11);
    refuse(files_path("m"), "config.json: ");
    char *large = calloc(1, (1 << 20) + 1);
    memset(large, ' ', (1 << 20) + 1);
    memcpy(large, TINY_CONFIG, strlen(TINY_CONFIG));
    files_write("m/config.json", large, 1 << 20);
    open_ok(&c, files_path("m"));
    t5_checkpoint_close(c);
    files_write("m/config.json", large, (1 << 20) + 1);
    refuse(files_path("m"), "1048577 bytes");
    free(large);
    assert_int_equal(t5_checkpoint_open(&c, files_path("nowhere"), &err), -1);
    assert_int_equal(err.status, T5_ENVIRONMENT);
}

/* ---- shards ---- */

#define FIRST "m-1.safetensors"
#define SECOND "m-2.safetensors"

/* Tensors [0, cut) in one shard and [cut, n) in the other; `weight_map` replaces the true one. */
static void save_shards(int cut, const char *weight_map, const char *total)
{
    static char index[20000];
    int at = sprintf(index, "{\"metadata\":{\"total_size\":%s},\"weight_map\":{", total);
    for (int i = 0; i < m.n; i++)
        at += sprintf(index + at, "%s\"%s\":\"%s\"", i ? "," : "", m.names[i],
                      i < cut ? FIRST : SECOND);
    strcpy(index + at, "}}");
    if (weight_map)
        sprintf(index, "{\"weight_map\":%s}", weight_map);
    tiny_dir("s");
    files_write("s/config.json", TINY_CONFIG, strlen(TINY_CONFIG));
    files_write("s/model.safetensors.index.json", index, strlen(index));
    tiny_save(&m, "s/" FIRST, 0, cut, NULL, 0);
    tiny_save(&m, "s/" SECOND, cut, m.n, NULL, 0);
}

static void shards(void **state)
{
    (void)state;
    struct t5_checkpoint *c, *whole;
    struct t5_err err;
    char total[32], a[65], b[65];
    size_t bytes = 0;
    tiny_make(&m, TINY_CONFIG);
    for (int i = 0; i < m.n; i++)
        bytes += m.tensors[i].bytes;
    snprintf(total, sizeof total, "%zu", bytes);
    save_shards(10, NULL, total);
    tiny_save_dir(&m, "m", TINY_CONFIG);
    open_ok(&c, files_path("s"));
    open_ok(&whole, files_path("m"));
    assert_int_equal(t5_checkpoint_count(c), m.n);
    assert_null(t5_checkpoint_warning(c));
    assert_memory_equal(t5_checkpoint_at(c, 12)->data, m.data[12], m.tensors[12].bytes);
    assert_int_equal(
        t5_checkpoint_fingerprint(a, c, &err) || t5_checkpoint_fingerprint(b, whole, &err), 0);
    assert_string_equal(a, b);
    t5_checkpoint_close(c);
    t5_checkpoint_close(whole);
    save_shards(10, NULL, "5");
    open_ok(&c, files_path("s"));
    assert_non_null(strstr(t5_checkpoint_warning(c), "total_size is 5"));
    t5_checkpoint_close(c);
    /* the cache of HF is made of links */
    assert_int_equal(rename(files_path("s/" FIRST), files_path("blob")), 0);
    assert_int_equal(symlink("../blob", files_path("s/" FIRST)), 0);
    open_ok(&c, files_path("s"));
    t5_checkpoint_close(c);
}

static void shard_names(void **state)
{
    (void)state;
    static const char *const names[] = {"\"../x\"", "\"/etc/passwd\"", "\"a/b\"", "\"..\"",
                                        "\".\""};
    static const char *const others[] = {"\"\"", "\"a\\u0000b\"", "5", "null", "[\"x\"]"};
    char map[700], name[260];
    for (int i = 0; i < 5; i++) {
        snprintf(map, sizeof map, "{\"t\":%s}", names[i]);
        save_shards(10, map, "0");
        refuse(files_path("s"), "leaves the model directory");
        snprintf(map, sizeof map, "{\"t\":%s}", others[i]);
        save_shards(10, map, "0");
        refuse(files_path("s"), "tensor 't': shard name");
    }
    for (int n = 255; n <= 256; n++) {
        memset(name, 'x', sizeof name);
        name[n] = 0;
        snprintf(map, sizeof map, "{\"t\":\"%s\"}", name);
        save_shards(10, map, "0");
        refuse(files_path("s"),
               n == 255 ? "no such file (tensor 't' needs it)" : "is not a file name");
    }
}

static void shard_files(void **state)
{
    (void)state;
    tiny_make(&m, TINY_CONFIG);
    save_shards(10, NULL, "0");
    unlink(files_path("s/" SECOND));
    refuse(files_path("s"), SECOND ": no such file (tensor '");
    assert_int_equal(mkdir(files_path("s/" SECOND), 0777), 0);
    refuse(files_path("s"), SECOND ": a directory, not a regular file (tensor '");
    rmdir(files_path("s/" SECOND));
    assert_int_equal(mkfifo(files_path("s/" SECOND), 0666), 0);
    refuse(files_path("s"), SECOND ": a FIFO, not a regular file (tensor '");
    unlink(files_path("s/" SECOND));
    assert_int_equal(symlink("/dev/null", files_path("s/" SECOND)), 0);
    refuse(files_path("s"), SECOND ": a device or socket, not a regular file (tensor '");
}

static void shard_tensors(void **state)
{
    (void)state;
    char name[160];
    tiny_make(&m, TINY_CONFIG);
    strcpy(name, m.names[3]);
    save_shards(10, NULL, "0");
    tiny_save(&m, "s/" FIRST, 0, 9, NULL, 0);
    refuse(files_path("s"), "is not in m-1.safetensors, where the index says");
    save_shards(10, NULL, "0");
    tiny_save(&m, "s/" FIRST, 0, 11, NULL, 0);
    refuse(files_path("s"), "lies in m-1.safetensors, the index says m-2.safetensors");
    save_shards(10, NULL, "0");
    strcpy(m.names[3], "stray");
    tiny_save(&m, "s/" FIRST, 0, 10, NULL, 0);
    strcpy(m.names[3], name);
    refuse(files_path("s"), "'stray' lies in m-1.safetensors, but the index does not name it");
}

static void bad_index(void **state)
{
    (void)state;
    save_shards(10, "[]", "0");
    refuse(files_path("s"), "\"weight_map\": expected an object");
    save_shards(10, "{}", "0");
    refuse(files_path("s"), "\"weight_map\": expected an object");
    save_shards(10, "{\"a\":\"x\",\"a\":\"x\"}", "0");
    refuse(files_path("s"), "index.json: ");
    save_shards(10, "{\"a\":", "0");
    refuse(files_path("s"), "index.json: ");
    files_write("s/model.safetensors.index.json", "[]", 2);
    refuse(files_path("s"), "expected a JSON object");
}

/* A million entries, all for one shard: an answer in seconds. And one shard more
 * than is allowed. */
static void large_index(void **state)
{
    (void)state;
    const int n = 1000000;
    char *text = malloc((size_t)n * 40);
    int at = sprintf(text, "{\"weight_map\":{");
    for (int i = 0; i < n; i++)
        at += sprintf(text + at, "%s\"tensor.%d\":\"" FIRST "\"", i ? "," : "", i);
    at += sprintf(text + at, "}}");
    tiny_make(&m, TINY_CONFIG);
    save_shards(10, NULL, "0");
    files_write("s/model.safetensors.index.json", text, (size_t)at);
    refuse(files_path("s"), "but the index does not name it");
    at = sprintf(text, "{\"weight_map\":{");
    for (int i = 0; i < 1025; i++)
        at += sprintf(text + at, "%s\"t%d\":\"f%d\"", i ? "," : "", i, i);
    sprintf(text + at, "}}");
    for (int i = 0; i < 1025; i++) {
        char name[32];
        snprintf(name, sizeof name, "s/f%d", i);
        files_write(name, "\2\0\0\0\0\0\0\0{}", 10); /* no tensors */
    }
    files_write("s/model.safetensors.index.json", text, strlen(text));
    refuse(files_path("s"), "more than 1024 shards");
    text[at - (int)strlen(",\"t1024\":\"f1024\"")] = 0;
    strcat(text, "}}");
    files_write("s/model.safetensors.index.json", text, strlen(text));
    refuse(files_path("s"), "'t0' is not in f0");
    free(text);
}

/* ---- files of ours ---- */

static const struct t5_metadata ours[] = {
    {"config", TINY_CONFIG}, {"quantization", "int8"}, {"command", "x y"}};

static void own_file(void **state)
{
    (void)state;
    struct t5_checkpoint *c;
    tiny_make(&m, TINY_CONFIG);
    tiny_save(&m, "own", 0, m.n, ours, 1);
    open_ok(&c, files_path("own"));
    assert_int_equal(t5_checkpoint_count(c), m.n);
    assert_string_equal(t5_checkpoint_config_text(c, NULL), TINY_CONFIG);
    assert_string_equal(t5_checkpoint_quantization(c), "none");
    t5_checkpoint_close(c);
    tiny_save(&m, "own", 0, m.n, NULL, 0);
    refuse(files_path("own"), "hold no \"config\"");
    const struct t5_metadata bad[] = {{"config", "{\"model_type\":\"t5\"}"}};
    tiny_save(&m, "own", 0, m.n, bad, 1);
    refuse(files_path("own"), "config: no \"d_model\"");
    const struct t5_metadata unknown[] = {ours[0], {"quantization", "int4"}};
    tiny_save(&m, "own", 0, m.n, unknown, 2);
    refuse(files_path("own"), "quantization 'int4' not known");
}

/* The same file through a FIFO. */
static void own_stream(void **state)
{
    (void)state;
    struct t5_checkpoint *c;
    char command[600];
    tiny_make(&m, TINY_CONFIG);
    tiny_save(&m, "own", 0, m.n, ours, 1);
    assert_int_equal(mkfifo(files_path("fifo"), 0666), 0);
    snprintf(command, sizeof command, "cat '%s' > '%s' &", files_path("own"), files_path("fifo"));
    assert_int_equal(system(command), 0);
    open_ok(&c, files_path("fifo"));
    assert_int_equal(t5_checkpoint_count(c), m.n);
    assert_memory_equal(t5_checkpoint_at(c, 5)->data, m.data[5], m.tensors[5].bytes);
    assert_int_equal(t5_checkpoint_verify(c, &(struct t5_err){0}), 0);
    t5_checkpoint_close(c);
}

/* Turns a tensor into int8 with a scale behind all others. */
static struct t5_tensor *make_int8(const char *name)
{
    char scale[160];
    int i = tiny_find(&m, name);
    m.tensors[i].type = T5_I8;
    m.tensors[i].bytes /= 4;
    snprintf(scale, sizeof scale, "%s_scale", name);
    struct t5_tensor *s = tiny_add(&m, scale, m.tensors[i].shape[0], 0);
    for (int64_t r = 0; r < s->elements; r++)
        m.data[m.n - 1][r] = 0.5f;
    return s;
}

static void refuse_own(const char *want)
{
    tiny_save(&m, "own", 0, m.n, ours, 3);
    refuse(files_path("own"), want);
}

static void int8_weights(void **state)
{
    (void)state;
    static const char q[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
    struct t5_checkpoint *c;
    tiny_make(&m, TINY_CONFIG);
    int n = m.n;
    make_int8(q);
    tiny_save(&m, "own", 0, m.n, ours, 3);
    open_ok(&c, files_path("own"));
    assert_int_equal(t5_checkpoint_count(c), n + 1);
    assert_string_equal(t5_checkpoint_quantization(c), "int8");
    assert_string_equal(t5_checkpoint_metadata(c, "command"), "x y");
    assert_string_equal(t5_checkpoint_at(c, 1)->name, q);
    assert_string_equal(t5_checkpoint_at(c, 2)->name,
                        "encoder.block.0.layer.0.SelfAttention.q.weight_scale");
    assert_null(t5_checkpoint_warning(c));
    t5_checkpoint_close(c);
    tiny_save(&m, "own", 0, m.n, ours, 1);
    refuse(files_path("own"), "I8, but the metadata name no quantization");
    m.n--;
    refuse_own("I8 without its scale");
    m.n++;
    static const float bad[] = {NAN, INFINITY, -1};
    for (int i = 0; i < 3; i++) {
        m.data[m.n - 1][2] = bad[i];
        refuse_own("_scale': element 2 is");
    }
    m.data[m.n - 1][2] = 1;
    m.tensors[m.n - 1].shape[0] = 5, m.tensors[m.n - 1].bytes = 20;
    refuse_own("shape (6) expected from its config, found (5)");
    m.tensors[m.n - 1].type = T5_BF16, m.tensors[m.n - 1].shape[0] = 6,
                    m.tensors[m.n - 1].bytes = 12;
    refuse_own("F32 expected, found BF16");
    tiny_make(&m, TINY_CONFIG);
    make_int8("encoder.final_layer_norm.weight");
    refuse_own("I8 is for matrices only");
    tiny_make(&m, TINY_CONFIG);
    make_int8("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    refuse_own("I8 is for matrices only");
}

/* Turns a tensor into NF4, its block codes and scales behind all others: their index is returned, the
 * scales' is the next. */
static int make_nf4(const char *name)
{
    char full[160];
    int i = tiny_find(&m, name);
    struct t5_tensor *t = &m.tensors[i];
    int64_t n = t->elements;
    t->type = T5_U8;
    t->rank = 1;
    t->elements = t->shape[0] = t5_nf4_bytes(n);
    t->bytes = (size_t)t->elements;
    snprintf(full, sizeof full, "%s_block", name);
    struct t5_tensor *b = tiny_add(&m, full, t5_nf4_blocks(n), 0);
    b->type = T5_U8;
    b->bytes = (size_t)b->elements;
    snprintf(full, sizeof full, "%s_scale", name);
    struct t5_tensor *s = tiny_add(&m, full, t5_nf4_scales(n), 0);
    for (int64_t k = 0; k < s->elements; k++)
        m.data[m.n - 1][k] = 0.5f;
    return m.n - 2;
}

static const struct t5_metadata ours_nf4[] = {
    {"config", TINY_CONFIG}, {"quantization", "nf4"}, {"command", "x y"}};

static void refuse_nf4(const char *want)
{
    tiny_save(&m, "own", 0, m.n, ours_nf4, 3);
    refuse(files_path("own"), want);
}

static void nf4_weights(void **state)
{
    (void)state;
    static const char q[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
    struct t5_checkpoint *c;
    struct t5_matrix matrix;
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    const struct t5_tensor whole = m.tensors[tiny_find(&m, q)];
    int block = make_nf4(q), scale = block + 1;
    tiny_save(&m, "own", 0, m.n, ours_nf4, 3);
    open_ok(&c, files_path("own"));
    const struct t5_tensor *t = t5_checkpoint_find(c, q);
    assert_int_equal(t->type, T5_NF4);
    assert_true(t->rank == 2 && t->shape[0] == whole.shape[0] && t->shape[1] == whole.shape[1] &&
                t->elements == whole.elements);
    assert_int_equal(t5_checkpoint_find_matrix(&matrix, c, q, t->shape[0], t->shape[1], &err), 0);
    assert_ptr_equal(matrix.block, t[1].data);
    assert_ptr_equal(matrix.scale, t[2].data);
    assert_int_equal(t5_checkpoint_find_matrix(&matrix, c, q, 1, t->shape[1], &err), -1);
    assert_null(t5_checkpoint_warning(c));
    t5_checkpoint_close(c);
    static const float bad[] = {NAN, INFINITY, -1};
    for (int i = 0; i < 6; i++) { /* the offset, a group's scale */
        float good = m.data[scale][i / 3];
        m.data[scale][i / 3] = bad[i % 3];
        refuse_nf4("SelfAttention.q.weight_scale': element");
        m.data[scale][i / 3] = good;
    }
    m.tensors[block].elements = --m.tensors[block].shape[0];
    m.tensors[block].bytes--;
    refuse_nf4("SelfAttention.q.weight_block': shape (");
    m.tensors[block].type = T5_I8;
    refuse_nf4("weight_block': U8 expected, found I8");
    m.n--;
    m.tensors[block].type = T5_U8, m.tensors[block].elements = ++m.tensors[block].shape[0];
    m.tensors[block].bytes++;
    refuse_nf4("NF4 without its scale");
    m.n--;
    refuse_nf4("NF4 without its block");
    m.tensors[tiny_find(&m, q)].shape[0]--, m.tensors[tiny_find(&m, q)].bytes--;
    refuse_nf4("SelfAttention.q.weight': shape (");
    tiny_make(&m, TINY_CONFIG);
    make_nf4("encoder.final_layer_norm.weight");
    refuse_nf4("is for matrices only");
}

static void fp8_weights(void **state)
{
    (void)state;
    static const char q[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
    struct t5_checkpoint *c;
    struct t5_err err;
    tiny_make(&m, TINY_CONFIG);
    make_int8(q);
    struct t5_tensor *t = &m.tensors[tiny_find(&m, q)];
    uint8_t *codes = (uint8_t *)m.data[tiny_find(&m, q)];
    t->type = T5_F8;
    memset(codes, 0x40, t->bytes);
    for (int nan = 0; nan < 2; nan++) {
        codes[7] = nan ? 0xff : 0xfe;
        tiny_save(&m, "own", 0, m.n, ours, 3);
        open_ok(&c, files_path("own"));
        assert_int_equal(t5_checkpoint_find(c, q)->type, T5_F8);
        assert_int_equal(t5_checkpoint_check_finite(c, &err), nan ? -1 : 0);
        t5_checkpoint_close(c);
    }
    assert_non_null(strstr(err.text, "SelfAttention.q.weight': element 7 is not finite"));
    m.tensors[m.n - 1].shape[0] = 5, m.tensors[m.n - 1].bytes = 20;
    refuse_own("shape (6) expected from its config, found (5)");
    m.n--;
    refuse_own("F8_E4M3 without its scale");
}

/* ---- fingerprint ---- */

static void fingerprint_of(char out[65], const char *config)
{
    struct t5_checkpoint *c;
    struct t5_err err;
    tiny_save_dir(&m, "m", config);
    open_ok(&c, files_path("m"));
    assert_int_equal(t5_checkpoint_fingerprint(out, c, &err), 0);
    t5_checkpoint_close(c);
}

static void fingerprint(void **state)
{
    (void)state;
    static char spaced[1024];
    char first[65], other[65];
    tiny_make(&m, TINY_CONFIG);
    fingerprint_of(first, TINY_CONFIG);
    assert_int_equal(strlen(first), 64);
    snprintf(spaced, sizeof spaced, "\n %s", TINY_CONFIG);
    fingerprint_of(other, spaced);
    assert_string_equal(first, other);
    snprintf(spaced, sizeof spaced, "{\"layer_norm_epsilon\":1e-5,%s", TINY_CONFIG + 1);
    fingerprint_of(other, spaced);
    assert_string_not_equal(first, other);
    m.data[tiny_find(&m, "encoder.final_layer_norm.weight")][3] += 1;
    fingerprint_of(other, TINY_CONFIG);
    assert_string_not_equal(first, other);
    tiny_make(&m, TINY_CONFIG);
    m.tensors[1].type = T5_BF16, m.tensors[1].bytes /= 2;
    fingerprint_of(other, TINY_CONFIG);
    assert_string_not_equal(first, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directory),        cmocka_unit_test(golden),
        cmocka_unit_test(names_of_old),     cmocka_unit_test(extra_and_missing),
        cmocka_unit_test(shapes_and_types), cmocka_unit_test(files_of_a_directory),
        cmocka_unit_test(shards),           cmocka_unit_test(shard_names),
        cmocka_unit_test(shard_files),      cmocka_unit_test(shard_tensors),
        cmocka_unit_test(bad_index),        cmocka_unit_test(large_index),
        cmocka_unit_test(own_file),         cmocka_unit_test(own_stream),
        cmocka_unit_test(int8_weights),
        cmocka_unit_test(nf4_weights),
        cmocka_unit_test(fp8_weights),     cmocka_unit_test(fingerprint),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
