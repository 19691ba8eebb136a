/* test_spiece.c - damaged SentencePiece models are refused before the library sees them: every row
 * of the table, every cut, and flipped bits. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/rng.h"
#include "text/normalize.h"
#include "text/segment.h"
#include "text/spiece.h"

static struct t5_err err;

/* ---- a writer of small models ------------------------------------------------------------- */

static void put(struct t5_buf *b, const void *bytes, size_t n)
{
    assert_int_equal(t5_buf_append(b, bytes, n, &err), 0);
}

static void put_varint(struct t5_buf *b, uint64_t v)
{
    do {
        unsigned char c = (unsigned char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        put(b, &c, 1);
        v >>= 7;
    } while (v);
}

static void put_bytes(struct t5_buf *b, unsigned number, const void *bytes, size_t n)
{
    put_varint(b, number << 3 | 2);
    put_varint(b, n);
    put(b, bytes, n);
}

static void put_number(struct t5_buf *b, unsigned number, uint64_t v)
{
    put_varint(b, number << 3);
    put_varint(b, v);
}

static void put_piece(struct t5_buf *b, const char *text, size_t n, float score, unsigned type)
{
    struct t5_buf piece = {0};
    put_bytes(&piece, 1, text, n);
    put_varint(&piece, 2 << 3 | 5);
    put(&piece, &score, 4);
    put_number(&piece, 3, type);
    put_bytes(b, 1, piece.data, piece.n);
    t5_buf_free(&piece);
}

static void put_specials(struct t5_buf *b)
{
    put_piece(b, "<pad>", 5, 0, T5_PIECE_CONTROL);
    put_piece(b, "</s>", 4, 0, T5_PIECE_CONTROL);
    put_piece(b, "<unk>", 5, 0, T5_PIECE_UNKNOWN);
}

/* trainer_spec (unigram, `vocab` pieces) and normalizer_spec with a character map. */
static void put_specs(struct t5_buf *b, uint64_t vocab, const void *map, size_t n)
{
    struct t5_buf spec = {0};
    put_number(&spec, 3, 1);
    put_number(&spec, 4, vocab);
    put_bytes(b, 2, spec.data, spec.n);
    spec.n = 0;
    put_bytes(&spec, 1, "test", 4);
    if (n)
        put_bytes(&spec, 2, map, n);
    put_bytes(b, 3, spec.data, spec.n);
    t5_buf_free(&spec);
}

/* "" when the model is taken, else the error without its file name. */
static const char *verdict(struct t5_buf *b)
{
    static char shown[401];
    struct t5_spiece m;
    struct t5_segmenter s;
    shown[0] = 0;
    int rc = t5_spiece_parse(&m, b->data, b->n, "m", &err);
    if (rc == 0) {
        rc = t5_segmenter_init(&s, &m, 0, &err);
        if (rc == 0)
            t5_segmenter_free(&s);
        t5_spiece_free(&m);
    } else {
        assert_memory_equal(err.text, "m: ", 3);
        memmove(err.text, err.text + 3, sizeof err.text - 3);
    }
    if (rc) {
        assert_int_equal(err.status, T5_BAD_INPUT);
        strcpy(shown, err.text);
    }
    b->n = 0;
    return shown;
}

/* ---- rows --------------------------------------------------------------------------------- */

static void good_model(void **state)
{
    (void)state;
    struct t5_buf b = {0};
    put_specials(&b);
    put_piece(&b, "a\0b", 3, -1.5f, T5_PIECE_NORMAL); /* a NUL is a byte like others */
    put_specs(&b, 4, NULL, 0);
    struct t5_spiece m;
    assert_int_equal(t5_spiece_parse(&m, b.data, b.n, "m", &err), 0);
    assert_int_equal(m.n, 4);
    assert_int_equal(m.pieces[3].n, 3);
    assert_memory_equal(m.pieces[3].text, "a\0b", 3);
    assert_true(m.min_score == -1.5f);
    t5_spiece_free(&m);
    t5_buf_free(&b);
}

static void bad_pieces(void **state)
{
    (void)state;
    struct t5_buf b = {0};
    static const char long_piece[T5_MAX_PIECE + 1];
    put_specials(&b), put_piece(&b, "", 0, 0, 1), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "empty piece"));
    put_specials(&b), put_piece(&b, "x", 1, 0, 1), put_piece(&b, "x", 1, 0, 1), put_specs(&b, 5, NULL, 0);
    assert_string_equal(verdict(&b), "piece \"x\" comes twice");
    put_specials(&b), put_piece(&b, "x", 1, NAN, 1), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "score is not finite"));
    put_specials(&b), put_piece(&b, "x", 1, -INFINITY, 1), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "score is not finite"));
    put_specials(&b), put_piece(&b, "x", 1, 0, 7), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "piece type 7"));
    put_specials(&b), put_piece(&b, "x", 1, 0, 0), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "piece type 0"));
    put_specials(&b), put_piece(&b, "x\xff", 2, 0, 1), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "not valid UTF-8"));
    put_specials(&b), put_piece(&b, long_piece, T5_MAX_PIECE, 0, 1), put_specs(&b, 4, NULL, 0);
    assert_string_equal(verdict(&b), "");
    put_specials(&b), put_piece(&b, long_piece, T5_MAX_PIECE + 1, 0, 1), put_specs(&b, 4, NULL, 0);
    assert_non_null(strstr(verdict(&b), "piece of 1025 bytes, at most 1024"));
    put_specials(&b), put_piece(&b, "u", 1, 0, T5_PIECE_UNKNOWN), put_specs(&b, 4, NULL, 0);
    assert_string_equal(verdict(&b), "2 unknown pieces, 1 expected");
    put_piece(&b, "x", 1, 0, 1), put_specs(&b, 1, NULL, 0);
    assert_string_equal(verdict(&b), "0 unknown pieces, 1 expected");
    put_piece(&b, "<unk>", 5, 0, 2), put_specs(&b, 1, NULL, 0); /* the order of most other models */
    assert_string_equal(verdict(&b), "piece 0 is \"<unk>\", T5 has <pad> there");
    t5_buf_free(&b);
}

static void bad_structure(void **state)
{
    (void)state;
    struct t5_buf b = {0}, trainer = {0};
    put_specials(&b);
    assert_string_equal(verdict(&b), "no trainer_spec: the file is cut or no SentencePiece model");
    put_specials(&b), put_number(&trainer, 3, 1), put_bytes(&b, 2, trainer.data, trainer.n);
    assert_string_equal(verdict(&b), "no normalizer_spec: the file is cut or no SentencePiece model");
    put_specials(&b), put_specs(&b, 4, NULL, 0);
    assert_string_equal(verdict(&b), "3 pieces, 4 described");
    put_specials(&b), put_specs(&b, 3, NULL, 0), put_specs(&b, 3, NULL, 0);
    assert_string_equal(verdict(&b), "byte 63: trainer_spec comes twice");
    trainer.n = 0, put_number(&trainer, 3, 2);
    put_bytes(&b, 2, trainer.data, trainer.n);
    assert_string_equal(verdict(&b), "model type 2: T5 has a unigram model (1)");
    put(&b, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11);
    assert_string_equal(verdict(&b), "byte 0: number longer than 10 bytes");
    put(&b, "\x80\x80", 2);
    assert_string_equal(verdict(&b), "byte 0: cut inside a number");
    put(&b, "\x0a\x7f\x01", 3);
    assert_string_equal(verdict(&b), "byte 0: 127 bytes described, 1 left");
    put(&b, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    assert_string_equal(verdict(&b), "byte 0: 18446744073709551615 bytes described, 0 left");
    put(&b, "\x0b", 1); /* a group */
    assert_string_equal(verdict(&b), "byte 0: wire type 3");
    put(&b, "\x0e", 1);
    assert_string_equal(verdict(&b), "byte 0: wire type 6");
    put(&b, "\x02\x00", 2);
    assert_string_equal(verdict(&b), "byte 0: field number 0");
    put(&b, "\x08\x00", 2); /* a piece that is a number */
    assert_string_equal(verdict(&b), "byte 2: a part of the model has wire type 0, not 2");
    put(&b, "\x0a\x02\x08\x00", 4); /* a piece's text that is a number */
    assert_string_equal(verdict(&b), "byte 4: a piece has wire type 0, not 2");
    put(&b, "\x55\x01\x02", 3);
    assert_string_equal(verdict(&b), "byte 1: cut inside a number");
    t5_buf_free(&b);
    t5_buf_free(&trainer);
}

/* ---- segmentation by small models --------------------------------------------------------- */

/* Segments word with the pieces a, aa (twice a's score), b, bb (less than twice b's). */
static void segments_to(const char *word, const int32_t *want, size_t n)
{
    struct t5_buf b = {0}, out = {0};
    struct t5_spiece m;
    struct t5_segmenter s;
    struct t5_lattice lattice = {0};
    put_specials(&b);
    put_piece(&b, "a", 1, -1, 1), put_piece(&b, "aa", 2, -2, 1);
    put_piece(&b, "b", 1, -1, 1), put_piece(&b, "bb", 2, -2.5f, 1);
    put_specs(&b, 7, NULL, 0);
    assert_int_equal(t5_spiece_parse(&m, b.data, b.n, "m", &err), 0);
    assert_int_equal(t5_segmenter_init(&s, &m, 0, &err), 0);
    assert_int_equal(t5_segment(&out, &s, &lattice, word, strlen(word), &err), 0);
    assert_int_equal(out.n, n * sizeof *want);
    assert_memory_equal(out.data, want, out.n);
    t5_lattice_free(&lattice);
    t5_segmenter_free(&s);
    t5_spiece_free(&m);
    t5_buf_free(&b);
    t5_buf_free(&out);
}

/* Where paths score alike, the one that reached a place first stays: shorter pieces are offered first. */
static void ties(void **state)
{
    (void)state;
    segments_to("a", (int32_t[]){3}, 1);
    segments_to("aa", (int32_t[]){4}, 1);       /* aa reaches the end from 0, before a from 1 */
    segments_to("aaa", (int32_t[]){3, 4}, 2);   /* aa from 1 comes before a from 2 */
    segments_to("aaaa", (int32_t[]){4, 4}, 2);
    segments_to("bb", (int32_t[]){5, 5}, 2);    /* no tie */
}

/* What no piece covers is unknown, and neighbours are one. */
static void unknowns(void **state)
{
    (void)state;
    segments_to("x", (int32_t[]){2}, 1);
    segments_to("xyz", (int32_t[]){2}, 1);
    segments_to("axyb", (int32_t[]){3, 2, 5}, 3);
    segments_to("\xe6\x97\xa5\xe6\x9c\xac" "a\xc3\xa9", (int32_t[]){2, 3, 2}, 3);
    segments_to("<unk>", (int32_t[]){2}, 1);    /* the piece's own name is text */
}

/* ---- the character map -------------------------------------------------------------------- */

/* 512 units that map "a" to "bc": unit 0 leads to 256 ^ byte, where 256 ^ 'a' is a node whose value
 * is at 256 + 0 ... */
static size_t make_map(unsigned char out[], uint32_t units[512])
{
    static const char strings[] = "xx\0bc"; /* "bc" at 3; its own NUL ends it */
    uint32_t size = 512 * 4;
    memset(units, 0, 512 * 4);
    units[0] = 256u << 10;                                 /* children at 0 ^ 256 ^ byte */
    units[256 ^ 'a'] = (uint32_t)('a' | 1 << 8 | 'a' << 10); /* a value at (256 ^ 'a') ^ 'a' */
    units[256] = 1u << 31 | 3;
    memcpy(out, &size, 4);
    memcpy(out + 4, units, 512 * 4);
    memcpy(out + 4 + 512 * 4, strings, sizeof strings);
    return 4 + 512 * 4 + sizeof strings;
}

static const char *map_verdict(const unsigned char *blob, size_t n)
{
    struct t5_charsmap map;
    err.text[0] = 0;
    int rc = t5_charsmap_init(&map, blob, n, &err);
    assert_int_equal(rc != 0, err.text[0] != 0);
    return err.text;
}

static void character_map(void **state)
{
    (void)state;
    static unsigned char blob[4 + 512 * 4 + 16];
    static uint32_t units[512];
    struct t5_charsmap map;
    size_t n = make_map(blob, units);
    uint32_t size;
    assert_int_equal(t5_charsmap_init(&map, blob, n, &err), 0);
    assert_string_equal(t5_charsmap_find(&map, "a", 1), "bc");
    assert_string_equal(t5_charsmap_find(&map, "ab", 2), "bc");
    assert_null(t5_charsmap_find(&map, "b", 1));
    assert_null(t5_charsmap_find(&map, "", 0));
    assert_true(t5_charsmap_starts(&map, 'a') && !t5_charsmap_starts(&map, 'b'));

    assert_string_equal(map_verdict(blob, 3), "precompiled_charsmap: 0 bytes of units in 3 bytes");
    size = (uint32_t)n, memcpy(blob, &size, 4);
    assert_non_null(strstr(map_verdict(blob, n), "bytes of units"));
    size = 512 * 4 - 2, memcpy(blob, &size, 4);
    assert_non_null(strstr(map_verdict(blob, n), "bytes of units"));
    size = UINT32_MAX, memcpy(blob, &size, 4);
    assert_non_null(strstr(map_verdict(blob, n), "bytes of units"));

    n = make_map(blob, units);
    assert_string_equal(map_verdict(blob, n - 1), "precompiled_charsmap: the last string does not end");
    uint32_t bad = 512u << 10; /* the root leads outside */
    memcpy(blob + 4, &bad, 4);
    assert_string_equal(map_verdict(blob, n), "precompiled_charsmap: unit 0 points outside the array");
    make_map(blob, units);
    bad = 1u << 30 | 1u << 9; /* another unit, with the long form of the offset */
    memcpy(blob + 4 + 4 * 77, &bad, 4);
    assert_string_equal(map_verdict(blob, n), "precompiled_charsmap: unit 77 points outside the array");
    make_map(blob, units);
    bad = 1u << 31 | 6; /* strings have 6 bytes */
    memcpy(blob + 4 + 4 * 256, &bad, 4);
    assert_string_equal(map_verdict(blob, n), "precompiled_charsmap: unit 256 points behind the strings");
    make_map(blob, units);
    bad = 0; /* the value is no value */
    memcpy(blob + 4 + 4 * 256, &bad, 4);
    assert_string_equal(map_verdict(blob, n), "precompiled_charsmap: unit 353 has no value");
    make_map(blob, units);
    bad = 1u << 31; /* the root is a value */
    memcpy(blob + 4, &bad, 4);
    assert_string_equal(map_verdict(blob, n), "precompiled_charsmap: no root");
}

/* A map under which ASCII letters change: no word is taken for its own normal form. */
static void mapped_ascii(void **state)
{
    (void)state;
    static unsigned char blob[4 + 512 * 4 + 16];
    static uint32_t units[512];
    struct t5_charsmap map;
    struct t5_normalizer z;
    struct t5_buf out = {0};
    size_t n = make_map(blob, units);
    assert_int_equal(t5_charsmap_init(&map, blob, n, &err), 0);
    t5_normalizer_init(&z, &map);
    assert_int_equal(t5_normalize_word(&out, &z, "banana", 6, 0, &err), 0);
    assert_int_equal(out.n, 9);
    assert_memory_equal(out.data, "bbcnbcnbc", 9);
    t5_buf_free(&out);
}

/* ---- a real model, damaged ---------------------------------------------------------------- */

static struct t5_buf real;

static int load_real(void **state)
{
    (void)state;
    FILE *f = fopen("testdata/golden/tokenizer/spiece.model", "rb");
    char block[4096];
    size_t n;
    if (!f)
        return -1;
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        if (t5_buf_append(&real, block, n, &err))
            return -1;
    fclose(f);
    return real.n == 0;
}

static int free_real(void **state)
{
    (void)state;
    t5_buf_free(&real);
    return 0;
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    struct t5_spiece m;
    for (size_t n = 0; n < real.n; n += n < 8192 || n + 4096 > real.n ? 1 : 997)
        if (t5_spiece_parse(&m, real.data, n, "m", &err) == 0)
            fail_msg("cut at %zu of %zu is accepted", n, real.n);
    assert_int_equal(t5_spiece_parse(&m, real.data, real.n, "m", &err), 0);
    t5_spiece_free(&m);
}

/* Either verdict is right, as long as nothing is read out of bounds: the sanitizers look on. */
static void flipped_bits(void **state)
{
    (void)state;
    static const char text[] = "Hello\xcc\x81 \xef\xac\x81nal \xef\xbc\xa1\xe2\x80\xa6 \xe6\x97\xa5";
    uint32_t key[2], counter[4] = {0};
    t5_rng_key(key, 7, T5_RNG_SAMPLE, 0);
    int accepted = 0;
    for (uint32_t i = 0; i < 400; i++) {
        struct t5_spiece m;
        counter[0] = i;
        struct t5_philox r = t5_philox(counter, key);
        /* half of them in the pieces, half in the map */
        size_t at = r.v[0] % (i % 2 ? real.n : 6000);
        real.data[at] ^= (char)(1 << (r.v[1] & 7));
        if (t5_spiece_parse(&m, real.data, real.n, "m", &err) == 0) {
            struct t5_normalizer z;
            struct t5_buf out = {0};
            t5_normalizer_init(&z, &m.charsmap);
            assert_int_equal(t5_normalize_word(&out, &z, text, sizeof text - 1, 0, &err), 0);
            t5_buf_free(&out);
            t5_spiece_free(&m);
            accepted++;
        }
        real.data[at] ^= (char)(1 << (r.v[1] & 7));
    }
    assert_true(accepted > 0 && accepted < 400);
}

static void too_large(void **state)
{
    (void)state;
    char path[] = "/tmp/t5-test-spiece-XXXXXX";
    struct t5_spiece m;
    int fd = mkstemp(path);
    for (int over = 0; over <= 1; over++) { /* at the limit it is read, and refused for what it is */
        assert_int_equal(ftruncate(fd, (off_t)T5_MAX_SPIECE + over), 0);
        assert_int_equal(t5_spiece_load(&m, path, &err), -1);
        assert_int_equal(err.status, T5_BAD_INPUT);
        assert_int_equal(strstr(err.text, "larger than 67108864 bytes") != NULL, over);
    }
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_model),
        cmocka_unit_test(bad_pieces),
        cmocka_unit_test(bad_structure),
        cmocka_unit_test(ties),
        cmocka_unit_test(unknowns),
        cmocka_unit_test(character_map),
        cmocka_unit_test(mapped_ascii),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(flipped_bits),
        cmocka_unit_test(too_large),
    };
    return cmocka_run_group_tests(tests, load_real, free_real);
}
