/* spiece.h - a spiece.model read and checked without the SentencePiece library, which trusts its
 * input: pieces, scores, types, and the normaliser's character map. What fails here the library
 * never sees. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_SPIECE_H
#define T5_TEXT_SPIECE_H

#include <stdint.h>

#include "base/err.h"

#define T5_MAX_SPIECE ((size_t)64 << 20) /* bytes of a model file */
#define T5_MAX_PIECES 1048576
#define T5_MAX_PIECE 1024 /* bytes */

#define T5_PAD 0
#define T5_EOS 1
#define T5_UNK 2

enum t5_piece_type { /* numbers of sentencepiece_model.proto */
    T5_PIECE_NORMAL = 1,
    T5_PIECE_UNKNOWN = 2,
    T5_PIECE_CONTROL = 3,
    T5_PIECE_USER = 4,
    T5_PIECE_UNUSED = 5,
    T5_PIECE_BYTE = 6,
};

struct t5_piece {
    const char *text; /* UTF-8, may hold NUL bytes; borrowed from the model */
    uint32_t n;
    float score;
    enum t5_piece_type type;
};

/* What maps characters to their normal form: a double array (Darts-clone: Yata et al., "A compact
 * static double-array keeping character codes", 2007) from UTF-8 to offsets of NUL-terminated
 * strings. */
struct t5_charsmap {
    const unsigned char *units; /* n_units little-endian uint32; NULL where the model has none */
    uint32_t n_units;
    const char *strings;
    uint32_t n_strings; /* bytes */
};

struct t5_spiece {
    char *bytes; /* the whole file; owned */
    size_t n_bytes;
    struct t5_piece *pieces; /* owned */
    int32_t n;
    struct t5_charsmap charsmap;
    float min_score; /* over all pieces */
};

/* Reads and checks path, or spiece.model in path where that is a directory. err names the file, and
 * the byte where that helps. */
int t5_spiece_load(struct t5_spiece *out, const char *path, struct t5_err *err) T5_MUST_CHECK;
/* The same from memory, which is copied; name is for messages. */
int t5_spiece_parse(struct t5_spiece *out, const void *bytes, size_t n, const char *name,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_spiece_free(struct t5_spiece *model);

/* Every unit of the map points inside it and every value at a string that ends: after this, lookups
 * need no checks. */
int t5_charsmap_init(struct t5_charsmap *out, const void *blob, size_t n, struct t5_err *err)
    T5_MUST_CHECK;
/* The shortest key that key[0..n) starts with: its string, or NULL. */
const char *t5_charsmap_find(const struct t5_charsmap *map, const char *key, size_t n);
/* Whether any key starts with this byte. */
int t5_charsmap_starts(const struct t5_charsmap *map, unsigned char byte);

#endif
