/* test_torch.c - PyTorch .bin files: the same tensors as the safetensors file of the same weights,
 * and a long list of pickles and archives that are refused, each with its one line. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>

#include "base/buf.h"
#include "files.h"
#include "golden.h"
#include "io/checkpoint.h"
#include "io/crc32.h"
#include "io/peft.h"
#include "io/torch_archive.h"

#define GOLDEN "testdata/golden/bin/"

/* ---- what torch wrote ---- */

static void open_model(struct t5_checkpoint **out, const char *path)
{
    struct t5_err err = {0};
    OK(t5_checkpoint_open(out, path, &err));
    assert_null(t5_checkpoint_warning(*out));
}

/* Every tensor of `path` is the safetensors file's, rounded to its own type. */
static void same_as_safetensors(const char *path, enum t5_dtype type)
{
    struct t5_checkpoint *want, *got;
    open_model(&want, GOLDEN "safetensors");
    open_model(&got, path);
    assert_int_equal(t5_checkpoint_count(got), t5_checkpoint_count(want));
    assert_true(t5_checkpoint_count(got) > 20);
    for (int i = 0; i < t5_checkpoint_count(want); i++) {
        const struct t5_tensor *w = t5_checkpoint_at(want, i), *g = t5_checkpoint_at(got, i);
        char rounded[4096];
        assert_string_equal(g->name, w->name);
        assert_int_equal(g->type, type);
        assert_int_equal(g->elements, w->elements);
        assert_true(g->bytes <= sizeof rounded);
        t5_from_f32(rounded, w->data, type, (size_t)w->elements);
        assert_memory_equal(g->data, rounded, g->bytes);
    }
    t5_checkpoint_close(want);
    t5_checkpoint_close(got);
}

static void test_models(void **state)
{
    (void)state;
    same_as_safetensors(GOLDEN "f32", T5_F32);
    same_as_safetensors(GOLDEN "f16", T5_F16);
    same_as_safetensors(GOLDEN "bf16", T5_BF16);
    same_as_safetensors(GOLDEN "sharded", T5_F32);
}

static void open_file(struct t5_safetensors **out, const char *path)
{
    struct t5_err err = {0};
    OK(t5_torch_open_fd(out, open(path, O_RDONLY), "x.bin", &err));
}

/* Three names of the embedding share its bytes: nothing was copied. */
static void test_shared_storage(void **state)
{
    (void)state;
    struct t5_safetensors *f;
    open_file(&f, GOLDEN "f32/pytorch_model.bin");
    const struct t5_tensor *a = t5_safetensors_find(f, "shared.weight"),
                           *b = t5_safetensors_find(f, "decoder.embed_tokens.weight");
    assert_ptr_equal(a->data, b->data);
    assert_string_equal(a->file, "x.bin");
    assert_null(t5_safetensors_find(f, "shared"));
    assert_true(t5_safetensors_is(f, GOLDEN "f32/pytorch_model.bin"));
    t5_safetensors_close(f);
}

static void test_adapter(void **state)
{
    (void)state;
    struct t5_err err = {0};
    struct t5_checkpoint *base;
    struct t5_adapter want, got;
    open_model(&base, GOLDEN "f32");
    OK(t5_adapter_load(&want, GOLDEN "adapter-safetensors", base, &err));
    OK(t5_adapter_load(&got, GOLDEN "adapter", base, &err));
    assert_int_equal(got.n_modules, 3);
    assert_int_equal(want.n_modules, 3);
    for (int i = 0; i < got.n_modules; i++) {
        const struct t5_lora_module *g = &got.modules[i], *w = &want.modules[i];
        assert_string_equal(g->module, w->module);
        assert_memory_equal(g->a, w->a, sizeof(float) * (size_t)(got.rank * g->in));
        assert_memory_equal(g->b, w->b, sizeof(float) * (size_t)(got.rank * g->out));
    }
    t5_adapter_free(&want);
    t5_adapter_free(&got);
    t5_checkpoint_close(base);
}

/* ---- archives made here ---- */

static struct t5_err ignored;

static void put(struct t5_buf *out, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        char byte = i < 8 ? (char)(v >> 8 * i) : 0;
        assert_int_equal(t5_buf_append(out, &byte, 1, &ignored), 0);
    }
}

static void put_bytes(struct t5_buf *out, const void *bytes, size_t n)
{
    assert_int_equal(t5_buf_append(out, bytes, n, &ignored), 0);
}

struct member {
    const char *name;
    const void *bytes;
    size_t n;
};

/* The fields that a local header and an entry have in common, from the flags on. */
static void put_fields(struct t5_buf *out, const struct member *m)
{
    put(out, 0x0800, 2);
    put(out, 0, 6);
    put(out, t5_crc32(0, m->bytes, m->n), 4);
    put(out, m->n, 4);
    put(out, m->n, 4);
    put(out, strlen(m->name), 2);
    put(out, 0, 2);
}

/* A plain zip archive. */
static void make_zip(struct t5_buf *out, const struct member *members, int n)
{
    size_t begins[8];
    out->n = 0;
    for (int i = 0; i < n; i++) {
        begins[i] = out->n;
        put(out, 0x04034b50, 4);
        put(out, 0, 2);
        put_fields(out, &members[i]);
        put_bytes(out, members[i].name, strlen(members[i].name));
        put_bytes(out, members[i].bytes, members[i].n);
    }
    size_t directory = out->n;
    for (int i = 0; i < n; i++) {
        put(out, 0x02014b50, 4);
        put(out, 0, 4);
        put_fields(out, &members[i]);
        put(out, 0, 10);
        put(out, begins[i], 4);
        put_bytes(out, members[i].name, strlen(members[i].name));
    }
    size_t size = out->n - directory;
    put(out, 0x06054b50, 4);
    put(out, 0, 4);
    put(out, (uint64_t)n, 2);
    put(out, (uint64_t)n, 2);
    put(out, size, 4);
    put(out, directory, 4);
    put(out, 0, 2);
}

/* Opens the bytes as a file: the message, or NULL where they are accepted. */
static const char *verdict(const struct t5_buf *file)
{
    static struct t5_err err;
    struct t5_safetensors *f;
    const char *path = files_write("x.bin", file->n ? file->data : "", file->n);
    err = (struct t5_err){0};
    if (t5_torch_open_fd(&f, open(path, O_RDONLY), "x.bin", &err) == 0) {
        t5_safetensors_close(f);
        return NULL;
    }
    assert_null(f);
    assert_int_equal(err.status, T5_BAD_INPUT);
    assert_null(strchr(err.text, '\n'));
    assert_int_equal(strncmp(err.text, "x.bin: ", 7), 0);
    return err.text;
}

static void expect(const struct t5_buf *file, const char *want, const char *what)
{
    const char *text = verdict(file);
    if (!text)
        fail_msg("%s: accepted; expected '%s'", what, want);
    if (!strstr(text, want))
        fail_msg("%s: expected '%s', found '%s'", what, want, text);
}

static void with_pickle(struct t5_buf *out, const char *pickle, size_t n)
{
    static const char zeros[16];
    const struct member members[] = {{"m/data.pkl", pickle, n}, {"m/data/0", zeros, 16}};
    make_zip(out, members, 2);
}

/* ---- pickles ---- */

#define TEXT(n, s) "X" n "\0\0\0" s
#define HEAD "\x80\x02}"
#define STORE(type, key, numel)                                                                    \
    "(" TEXT("\x07", "storage") "ctorch\n" type "\n" TEXT("\x01", key) TEXT("\x03", "cpu") numel   \
        "tQ"
#define HOOKS "ccollections\nOrderedDict\n)R"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("
/* {'w': a tensor} with the storage, offset, shape and strides as given */
#define ENTRY(storage, rest) TEXT("\x01", "w") REBUILD storage rest "\x89" HOOKS "tR"
#define FLOATS STORE("FloatStorage", "0", "K\x04")
#define GOOD ENTRY(FLOATS, "K\0K\2K\2\x86K\2K\1\x86")
#define LONG_MIN_1 "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f" /* 2^63 - 1 */

#define P(bytes, want) {bytes, sizeof bytes - 1, want}
static const struct {
    const char *bytes;
    size_t n;
    const char *want;
} pickles[] = {
    /* opcodes */
    P("\x80\x02\x93.", "data.pkl: byte 2: opcode 0x93 not allowed"), /* STACK_GLOBAL */
    P("\x80\x02i", "byte 2: opcode 0x69"),                           /* INST */
    P("\x80\x02o", "byte 2: opcode 0x6f"),                           /* OBJ */
    P("\x80\x02\x81", "byte 2: opcode 0x81"),                        /* NEWOBJ */
    P("\x80\x02\x92", "byte 2: opcode 0x92"),                        /* NEWOBJ_EX */
    P("\x80\x02\x82\x01", "byte 2: opcode 0x82"),                    /* EXT1 */
    P("\x80\x02P0\n", "byte 2: opcode 0x50"),                        /* PERSID */
    P("\x80\x02T\0\0\0\0", "byte 2: opcode 0x54"),                   /* BINSTRING */
    P("\x80\x02\x95\0\0\0\0\0\0\0\0", "byte 2: opcode 0x95"),        /* FRAME */
    P("\x80\x02" "0", "byte 2: opcode 0x30"),                        /* POP */
    P("\x80\x04}.", "pickle protocol 2 expected"),
    P(HEAD "\x80\x02.", "byte 3: pickle protocol 2 expected, once"),
    /* globals */
    P(HEAD "cos\nsystem\n" TEXT("\x02", "ls") "\x85R.", "byte 3: global 'os\\x0asystem' not allowed"),
    P(HEAD "cbuiltins\neval\n.", "global 'builtins\\x0aeval' not allowed"),
    P(HEAD "cposix\nsystem\n.", "global 'posix\\x0asystem' not allowed"),
    P(HEAD "cnumpy\nndarray\n.", "global 'numpy\\x0andarray' not allowed"),
    P(HEAD "ctorch\nFloatStorageX\n.", "global 'torch\\x0aFloatStorageX' not allowed"),
    P(HEAD "ctorch\nFloat", "byte 3: a global without an end"),
    /* operands */
    P(HEAD "K\1K\2s.", "byte 7: a dict's key that is not a string"),
    P("\x80\x02K\1" TEXT("\x01", "w") "K\1s.", "an integer where a dict must be"),
    P("\x80\x02(K\1u.", "a key without a value"),
    P(HEAD "R.", "byte 3: a dict where a tuple must be"),
    P(HEAD "K\1)R.", "an integer where a global must be"),
    P(HEAD "ctorch\nFloatStorage\n)R.", "a storage type is called"),
    P(HEAD "ccollections\nOrderedDict\nK\1\x85R.", "an OrderedDict made of something"),
    P(HEAD ")}b.", "byte 5: a tuple where a dict must be"),
    P(HEAD "K\1a.", "a dict where a list must be"),
    P(HEAD "ctorch._utils\n_rebuild_tensor_v2\n)R.", "not the arguments of _rebuild_tensor_v2"),
    P(HEAD "ctorch._utils\n_rebuild_parameter\n)R.", "not the arguments of _rebuild_parameter"),
    P(HEAD "K\1\x85Q.", "not the description of a storage"),
    P(HEAD ENTRY(STORE("FloatStorage", "/", "K\x04"), "K\0))") "s.", "key that is not a number"),
    P(HEAD ENTRY(STORE("FloatStorage", ".", "K\x04"), "K\0))") "s.", "key that is not a number"),
    /* stack, memo, ends */
    P("\x80\x02.", "byte 2: the stack is empty"),
    P("\x80\x02t.", "byte 2: no mark on the stack"),
    P("\x80\x02(\x85.", "byte 3: the stack is empty"),
    P("\x80\x02h\x05.", "nothing in the memo under this index"),
    P(HEAD "r\0\0\0\x80.", "a memo index of 1048576 or more"),
    P(HEAD "r\xff\xff\0\0.", "a memo index beyond the size"),
    P(HEAD "X\xff\xff\xff\xff.", "byte 3: a string of more than 4096 bytes"),
    P(HEAD "X\x05\0\0\0ab", "the pickle ends inside this opcode"),
    P(HEAD "\x8a\x09\0\0\0\0\0\0\0\0\0.", "an integer of more than 8 bytes"),
    P(HEAD "", "byte 3: the pickle has no end"),
    P(HEAD "..", "byte 3: bytes follow the end"),
    P(HEAD "}.", "more than one value"),
    P("\x80\x02).", "a tuple where a dict must be"),
    P("", "data.pkl: byte 0: the pickle has no end"),
    /* tensors */
    P(HEAD TEXT("\x01", "w") "K\1s.", "'w' is an integer: not the state dict"),
    P(HEAD GOOD "s" GOOD "s.", "duplicate tensor name 'w'"),
    P(HEAD TEXT("\x01", "\0") "h\0s.", "nothing in the memo"),
    P(HEAD ENTRY(STORE("FloatStorage", "7", "K\x04"), "K\0))") "s.", "has no storage '7'"),
    P(HEAD ENTRY(STORE("FloatStorage", "0", "K\x05"), "K\0))") "s.", "tensor 'w': storage '0' has 16"),
    P(HEAD ENTRY(STORE("DoubleStorage", "0", "K\x04"), "K\0))") "s.", "expected 4 elements of F64"),
    P(HEAD ENTRY(STORE("FloatStorage", "0", LONG_MIN_1), "K\0))") "s.", "storage '0' has 16 bytes"),
    P(HEAD ENTRY(STORE("FloatStorage", "0", "J\xff\xff\xff\xff"), "K\0))") "s.", "has 16 bytes"),
    P(HEAD ENTRY(FLOATS, "K\1K\2K\2\x86K\2K\1\x86") "s.", "reaches beyond its storage of 4"),
    P(HEAD ENTRY(FLOATS, "K\4))") "s.", "reaches beyond its storage"),
    P(HEAD ENTRY(FLOATS, "J\xff\xff\xff\xff))") "s.", "tensor 'w': offset -1"),
    P(HEAD ENTRY(FLOATS, "K\0K\4\x85K\2\x85") "s.", "reaches beyond its storage"),
    P(HEAD ENTRY(FLOATS, "K\0K\2K\2\x86K\1K\2\x86") "s.", "strides are not those of its shape"),
    P(HEAD ENTRY(FLOATS, "K\0K\4\x85K\0\x85") "s.", "strides are not those of its shape"),
    P(HEAD ENTRY(FLOATS, "K\0K\4\x85J\xff\xff\xff\xff\x85") "s.", "negative stride"),
    P(HEAD ENTRY(FLOATS, "K\0J\xff\xff\xff\xff\x85K\1\x85") "s.", "negative shape"),
    P(HEAD ENTRY(FLOATS, "K\0" LONG_MIN_1 "\x85" LONG_MIN_1 "\x85") "s.", "strides overflow"),
    P(HEAD ENTRY(FLOATS, "K\0" LONG_MIN_1 "K\4\x86K\0K\0\x86") "s.", "strides overflow"),
    P(HEAD ENTRY(FLOATS, "K\0K\4\x85)") "s.", "shape and strides do not fit together"),
    P(HEAD ENTRY(FLOATS, "K\0N\x85K\1\x85") "s.", "shape and strides do not fit together"),
    P(HEAD ENTRY(FLOATS, "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t") "s.",
      "more than 8 dimensions"),
};

static void test_bad_pickles(void **state)
{
    (void)state;
    struct t5_buf file = {0};
    assert_true(sizeof pickles / sizeof *pickles >= 40);
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        char what[32];
        snprintf(what, sizeof what, "pickle %zu", i);
        with_pickle(&file, pickles[i].bytes, pickles[i].n);
        expect(&file, pickles[i].want, what);
    }
    t5_buf_free(&file);
}

/* What the bad ones differ from is good; and so are an empty tensor, a scalar, a parameter. */
static void test_good_pickles(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *want;
    } good[] = {
        P(HEAD GOOD "s.", NULL),
        P(HEAD "(" GOOD "u}b.", NULL),
        P(HEAD ENTRY(FLOATS, "K\3))") "s.", NULL),
        P(HEAD ENTRY(FLOATS, "K\4K\0\x85K\1\x85") "s.", NULL),
        P(HEAD ENTRY(FLOATS, "K\0K\1K\4\x86K\x63K\1\x86") "s.", NULL),
        P(HEAD TEXT("\x01", "w") "ctorch._utils\n_rebuild_parameter\n" REBUILD FLOATS
                                 "K\0))\x89" HOOKS "tR\x88" HOOKS "\x87Rs.", NULL),
        P("\x80\x02" HOOKS "q\0.", NULL),
    };
    struct t5_buf file = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        with_pickle(&file, good[i].bytes, good[i].n);
        const char *text = verdict(&file);
        if (text)
            fail_msg("good pickle %zu: %s", i, text);
    }
    t5_buf_free(&file);
}

/* The limits themselves, and one more. */
static void test_limits(void **state)
{
    (void)state;
    struct t5_buf file = {0}, pickle = {0};
    for (int more = 0; more < 2; more++) {
        pickle.n = 0;
        put_bytes(&pickle, "\x80\x02", 2);
        for (int i = 0; i < 65536 + more; i++)
            put_bytes(&pickle, "N", 1);
        put_bytes(&pickle, ".", 1);
        with_pickle(&file, pickle.data, pickle.n);
        expect(&file, more ? "byte 65538: more than 65536 values on the stack" : "None where a dict",
               "stack");
        pickle.n = 0;
        put_bytes(&pickle, "\x80\x02X", 3);
        put(&pickle, 4096 + (uint64_t)more, 4);
        for (int i = 0; i < 4096 + more; i++)
            put_bytes(&pickle, "a", 1);
        put_bytes(&pickle, ".", 1);
        with_pickle(&file, pickle.data, pickle.n);
        expect(&file, more ? "more than 4096 bytes" : "a string where a dict", "string");
    }
    t5_buf_free(&pickle);
    t5_buf_free(&file);
}

/* ---- archives ---- */

/* One byte of a good archive, counted from its beginning, its directory or its end record. */
enum from { BEGIN, DIRECTORY, END };
static const struct {
    enum from from;
    size_t at;
    unsigned char byte;
    const char *want;
} mutations[] = {
    {BEGIN, 0, 'Q', "byte 0: not a zip archive"},
    {BEGIN, 6, 1, "the local header has other flags"},
    {BEGIN, 8, 8, "the local header has other flags or another method"},
    {BEGIN, 14, 99, "the local header has another checksum"},
    {BEGIN, 18, 99, "the local header has another size"},
    {BEGIN, 22, 99, "the local header has another size"},
    {BEGIN, 26, 1, "the local header has another name"},
    {BEGIN, 28, 255, "reaches beyond"},
    {BEGIN, 30, 'n', "the local header has another name"},
    {BEGIN, 44, 'Z', "member 'm/data.pkl': damaged (CRC-32"},
    {DIRECTORY, 0, 'Q', "no entry of the directory here"},
    {DIRECTORY, 8, 1, "member 'm/data.pkl': encrypted"},
    {DIRECTORY, 9, 0x20, "flags not known"},
    {DIRECTORY, 10, 8, "compressed; only stored members are read"},
    {DIRECTORY, 16, 99, "the local header has another checksum"},
    {DIRECTORY, 20, 99, "stored, but its two sizes differ"},
    {DIRECTORY, 27, 0x7f, "its two sizes differ"},
    {DIRECTORY, 28, 0, "not 1 to 512 bytes"},
    {DIRECTORY, 29, 0x7f, "an entry longer than the directory"},
    {DIRECTORY, 30, 2, "an extra field longer than its room"},
    {DIRECTORY, 34, 1, "lies in another part"},
    {DIRECTORY, 42, 1, "no local header here"},
    {DIRECTORY, 45, 0x7f, "begins behind the last member"},
    {DIRECTORY, 46, '/', "not a name within the archive"},
    {END, 0, 'Q', "no end of a zip archive"},
    {END, 4, 1, "an archive in several parts"},
    {END, 8, 1, "an archive in several parts"},
    {END, 12, 1, "the directory is not where the end record says"},
    {END, 16, 1, "the directory is not where the end record says"},
    {END, 19, 0x7f, "the directory is not where the end record says"},
    {END, 20, 5, "a comment in the zip's end record"},
};

static void good_archive(struct t5_buf *out)
{
    static const char pickle[] = HEAD GOOD "s.";
    with_pickle(out, pickle, sizeof pickle - 1);
}

static void test_bad_archives(void **state)
{
    (void)state;
    struct t5_buf file = {0};
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        char what[32];
        uint32_t directory;
        snprintf(what, sizeof what, "mutation %zu", i);
        good_archive(&file);
        memcpy(&directory, file.data + file.n - 6, 4);
        size_t from = mutations[i].from == BEGIN       ? 0
                      : mutations[i].from == DIRECTORY ? directory
                                                       : file.n - 22;
        file.data[from + mutations[i].at] = (char)mutations[i].byte;
        expect(&file, mutations[i].want, what);
    }
    t5_buf_free(&file);
}

static void test_bad_members(void **state)
{
    (void)state;
    static const char pickle[] = HEAD GOOD "s.", zeros[16];
    struct t5_buf file = {0};
    struct member m[] = {
        {"m/data.pkl", pickle, sizeof pickle - 1}, {"m/data/0", zeros, 16}, {"m/data/0", zeros, 16}};
    make_zip(&file, m, 3);
    expect(&file, "a second member of this name", "twice");
    m[2].name = "m/../x";
    make_zip(&file, m, 3);
    expect(&file, "member 'm/../x': not a name within the archive", "..");
    m[2].name = "m/1/2/3/4/5/6/7/8/9";
    make_zip(&file, m, 3);
    expect(&file, "more than 8 folders deep", "deep");
    m[2].name = "n/data/1";
    make_zip(&file, m, 3);
    expect(&file, "outside the archive's folder", "folder");
    m[2] = (struct member){"m/byteorder", "big", 3};
    make_zip(&file, m, 3);
    expect(&file, "byteorder is not \"little\"", "byteorder");
    m[0].name = "m/data.pkx";
    make_zip(&file, m, 2);
    expect(&file, "holds no data.pkl", "no pickle");
    m[0].name = "data.pkl";
    make_zip(&file, m, 1);
    expect(&file, "holds no data.pkl", "no folder");
    make_zip(&file, m, 0);
    expect(&file, "not a zip archive", "empty");
    t5_buf_free(&file);
}

/* Two entries for the same bytes: a small file that pretends to hold much. */
static void test_overlap(void **state)
{
    (void)state;
    struct t5_buf file = {0};
    uint32_t directory;
    good_archive(&file);
    memcpy(&directory, file.data + file.n - 6, 4);
    /* the first member's size, in both headers, swallows the second */
    file.data[18]++, file.data[22]++;
    file.data[directory + 20]++, file.data[directory + 24]++;
    expect(&file, "overlaps the member before it", "overlap");
    t5_buf_free(&file);
}

static void test_not_archives(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *want;
    } files[] = {
        P("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        P("<!DOCTYPE html><html>", "an HTML page"),
        P("<html>", "an HTML page"),
        P("\x1f\x8b\x08", "compressed with gzip"),
        P("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "the format before 1.6"),
        P("\x80\x02}.", "a bare pickle"),
        P("\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
        P("", "byte 0: not a zip archive"),
        P("PK\x03\x04", "byte 4: no end of a zip archive"),
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct t5_buf file = {0};
        put_bytes(&file, files[i].bytes, files[i].n);
        expect(&file, files[i].want, files[i].want);
        t5_buf_free(&file);
    }
}

/* A file of torch cut anywhere, or with any one byte changed, is refused or gives what it gave:
 * no byte of it is read that was not checked. Its zip64 records come under this too. */
static void test_torch_file_damaged(void **state)
{
    (void)state;
    struct t5_buf whole = {0};
    size_t n;
    int refused = 0;
    char *bytes = files_read(GOLDEN "adapter/adapter_model.bin", &n);
    put_bytes(&whole, bytes, n);
    assert_null(verdict(&whole));
    for (size_t cut = 0; cut < n; cut += 13) {
        struct t5_buf part = {.data = bytes, .n = cut};
        assert_non_null(verdict(&part));
    }
    for (size_t at = 0; at < n; at += at + 2048 < n ? 17 : 1) {
        memcpy(whole.data, bytes, n);
        whole.data[at] = (char)(whole.data[at] ^ 0x41);
        refused += verdict(&whole) != NULL;
    }
    assert_true(refused > 500);
    free(bytes);
    t5_buf_free(&whole);
}

/* ---- directories ---- */

static void refuse(const char *dir, const char *want)
{
    struct t5_checkpoint *c;
    struct t5_err err = {0};
    assert_int_equal(t5_checkpoint_open(&c, dir, &err), -1);
    if (!strstr(err.text, want) || err.status != T5_BAD_INPUT)
        fail_msg("expected '%s', found '%s'", want, err.text);
}

static void copy(const char *from, const char *to)
{
    size_t n;
    char *bytes = files_read(from, &n);
    files_write(to, bytes, n);
    free(bytes);
}

static void test_directories(void **state)
{
    (void)state;
    char command[160];
    struct t5_checkpoint *c;
    snprintf(command, sizeof command, "mkdir %s/m", files_dir);
    assert_int_equal(system(command), 0);
    copy(GOLDEN "sharded/config.json", "m/config.json");
    copy(GOLDEN "sharded/pytorch_model.bin.index.json", "m/pytorch_model.bin.index.json");
    copy(GOLDEN "sharded/pytorch_model-00001-of-00002.bin", "m/pytorch_model-00001-of-00002.bin");
    refuse(files_path("m"), "pytorch_model-00002-of-00002.bin: no such file (tensor '");
    copy(GOLDEN "sharded/pytorch_model-00001-of-00002.bin", "m/pytorch_model-00002-of-00002.bin");
    refuse(files_path("m"), "the index says pytorch_model-00001-of-00002.bin");
    copy(GOLDEN "safetensors/model.safetensors", "m/model.safetensors"); /* wins over bad .bin files */
    open_model(&c, files_path("m"));
    t5_checkpoint_close(c);
    copy(GOLDEN "f32/pytorch_model.bin", "m/pytorch_model.bin");
    files_write("m/model.safetensors", "bad", 3); /* and is never passed over for a good one */
    refuse(files_path("m"), "model.safetensors: ends at byte 3");
    unlink(files_path("m/model.safetensors"));
    open_model(&c, files_path("m"));
    t5_checkpoint_close(c);
}

static void test_crc32(void **state)
{
    (void)state;
    assert_int_equal(t5_crc32(0, "123456789", 9), 0xcbf43926); /* the standard's check value */
    assert_int_equal(t5_crc32(t5_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),        cmocka_unit_test(test_shared_storage),
        cmocka_unit_test(test_adapter),       cmocka_unit_test(test_good_pickles),
        cmocka_unit_test(test_bad_pickles),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bad_archives),  cmocka_unit_test(test_bad_members),
        cmocka_unit_test(test_overlap),       cmocka_unit_test(test_not_archives),
        cmocka_unit_test(test_torch_file_damaged), cmocka_unit_test(test_directories),
        cmocka_unit_test(test_crc32),
    };
    return cmocka_run_group_tests_name("torch", tests, files_make, files_remove);
}
