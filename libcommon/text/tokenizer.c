/* tokenizer.c - text to ids: raw words, each looked up in the thread's memory or normalised and
 * segmented, and the special tokens in text. Back to text: see decode.c. */
/* SPDX-License-Identifier: MIT */
#include "text/tokenizer_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

/* ---- opening ------------------------------------------------------------------------------ */

/* T5 puts its 100 sentinels behind the pieces, the last number first, unless the model names them.
 * */
static void find_sentinels(struct t5_tokenizer *t)
{
    t->size = t->model.n + T5_SENTINELS;
    for (int32_t i = 0; i < T5_SENTINELS; i++)
        t->sentinel[i] = t->model.n + T5_SENTINELS - 1 - i;
    for (int32_t i = 0; i < t->model.n; i++) {
        const struct t5_piece *p = &t->model.pieces[i];
        int32_t number;
        if (t5_sentinel_number(p->text, p->n, &number) == p->n) {
            t->sentinel[number] = i;
            t->size = t->model.n;
        }
    }
}

int t5_tokenizer_open(struct t5_tokenizer **out, const char *path,
                      const struct t5_segment_library *library, int special, struct t5_err *err)
{
    struct t5_tokenizer *t = t5_alloc_zeroed(1, sizeof *t, "a tokenizer", err);
    char shown[T5_ESCAPED];
    *out = NULL;
    if (!t)
        return -1;
    t->special = special;
    t->library = library;
    if (t5_spiece_load(&t->model, path, err))
        goto fail;
    if (t5_segmenter_init(&t->segmenter, &t->model, special, err) ||
        (library && library->open(&t->spm, t->model.bytes, t->model.n_bytes, err))) {
        t5_err_at(err, "%s", t5_escape(shown, path, strlen(path)));
        goto fail;
    }
    t5_normalizer_init(&t->normalizer, &t->model.charsmap);
    find_sentinels(t);
    *out = t;
    return 0;
fail:
    t5_tokenizer_close(t);
    return -1;
}

void t5_tokenizer_close(struct t5_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    t5_segmenter_free(&tokenizer->segmenter);
    if (tokenizer->library)
        tokenizer->library->close(tokenizer->spm);
    t5_spiece_free(&tokenizer->model);
    free(tokenizer);
}

int32_t t5_tokenizer_size(const struct t5_tokenizer *tokenizer)
{
    return tokenizer->size;
}

int32_t t5_tokenizer_vocab(const struct t5_tokenizer *tokenizer)
{
    return (tokenizer->size + 127) / 128 * 128;
}

int t5_tokenizer_has_library(const struct t5_tokenizer *tokenizer)
{
    return tokenizer->library != NULL;
}

int t5_tokenizer_special(const struct t5_tokenizer *tokenizer)
{
    return tokenizer->special;
}

void t5_tokenizer_digest(char out[65], const struct t5_tokenizer *tokenizer)
{
    t5_sha256(out, tokenizer->model.bytes, tokenizer->model.n_bytes);
}

/* ---- the word memory ---------------------------------------------------------------------- */

/* One cache line a word; a newer word takes the place of an older one, so memory is bounded and a
 * look-up touches one line. Longer words are segmented each time. */
#define SLOTS (1u << 15)
#define SLOT_KEY 22
#define SLOT_IDS 10

struct slot {
    unsigned char n_key, n_ids; /* n_key 0: empty */
    char key[SLOT_KEY];
    int32_t ids[SLOT_IDS];
};

struct t5_encoder {
    const struct t5_tokenizer *tokenizer;
    struct slot *slots;
    struct t5_lattice lattice;
    struct t5_buf normal, piece; /* a normalised word; one word of it behind its U+2581 */
};

int t5_encoder_open(struct t5_encoder **out, const struct t5_tokenizer *tokenizer,
                    struct t5_err *err)
{
    struct t5_encoder *e = t5_alloc_zeroed(1, sizeof *e, "an encoder", err);
    *out = e;
    if (!e)
        return -1;
    e->tokenizer = tokenizer;
    e->slots = t5_alloc_zeroed(SLOTS, sizeof *e->slots, "the word memory", err);
    if (e->slots)
        return 0;
    t5_encoder_close(e);
    *out = NULL;
    return -1;
}

void t5_encoder_close(struct t5_encoder *encoder)
{
    if (!encoder)
        return;
    t5_lattice_free(&encoder->lattice);
    t5_buf_free(&encoder->normal);
    t5_buf_free(&encoder->piece);
    free(encoder->slots);
    free(encoder);
}

static struct slot *slot_of(struct t5_encoder *e, const char *word, size_t n)
{
    uint64_t h = n * 0x9E3779B97F4A7C15u;
    size_t i = 0;
    for (uint64_t v; i + 8 <= n; i += 8) {
        memcpy(&v, word + i, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    for (; i < n; i++)
        rest = rest << 8 | (unsigned char)word[i];
    h = (h ^ rest) * 0xff51afd7ed558ccdu;
    return &e->slots[(h ^ h >> 29) >> 17 & (SLOTS - 1)];
}

static void remember(struct slot *slot, const char *word, size_t n, const int32_t *ids,
                     size_t n_ids)
{
    if (n_ids > SLOT_IDS)
        return;
    slot->n_key = (unsigned char)n;
    slot->n_ids = (unsigned char)n_ids;
    memcpy(slot->key, word, n);
    if (n_ids)
        memcpy(slot->ids, ids, n_ids * sizeof *ids);
}

/* ---- words -------------------------------------------------------------------------------- */

static const char mark[] = "\xe2\x96\x81"; /* U+2581 stands for the space before a word */

static int is_mark(const char *p, size_t n)
{
    return n >= 3 && memcmp(p, mark, 3) == 0;
}

/* A run without white space: U+2581 in front unless it is there, then cut before each. */
static int encode_normal(struct t5_buf *out, struct t5_encoder *e, const char *text, size_t n,
                         struct t5_err *err)
{
    e->piece.n = 0;
    if ((!is_mark(text, n) && t5_buf_append(&e->piece, mark, 3, err)) ||
        t5_buf_append(&e->piece, text, n, err))
        return -1;
    const char *p = e->piece.data, *end = p + e->piece.n;
    while (p < end) {
        const char *cut = p + 3;
        while (cut < end && !is_mark(cut, (size_t)(end - cut)))
            cut++;
        if (t5_segment(out, &e->tokenizer->segmenter, &e->lattice, p, (size_t)(cut - p), err))
            return -1;
        p = cut;
    }
    return 0;
}

static int encode_raw(struct t5_buf *out, struct t5_encoder *e, const char *word, size_t n,
                      int after_space, struct t5_err *err)
{
    e->normal.n = 0;
    if (t5_normalize_word(&e->normal, &e->tokenizer->normalizer, word, n, after_space, err))
        return -1;
    const char *p = e->normal.data, *end = p + e->normal.n;
    while (p < end) {
        size_t space = t5_white_space(p, (size_t)(end - p));
        if (space) {
            p += space;
            continue;
        }
        const char *stop = p + 1;
        while (stop < end && !t5_white_space(stop, (size_t)(end - stop)))
            stop++;
        if (encode_normal(out, e, p, (size_t)(stop - p), err))
            return -1;
        p = stop;
    }
    return 0;
}

static int encode_word(struct t5_buf *out, struct t5_encoder *e, const char *word, size_t n,
                       int after_space, struct t5_err *err)
{
    if (n > SLOT_KEY || e->lattice.unknown || t5_word_starts_with_mark(word, n))
        return encode_raw(out, e, word, n, after_space, err);
    struct slot *slot = slot_of(e, word, n);
    if (slot->n_key == n && memcmp(slot->key, word, n) == 0)
        return t5_buf_append(out, slot->ids, slot->n_ids * sizeof *slot->ids, err);
    size_t before = out->n;
    if (encode_raw(out, e, word, n, after_space, err))
        return -1;
    remember(slot, word, n, (const int32_t *)(out->data + before),
             (out->n - before) / sizeof(int32_t));
    return 0;
}

/* ---- texts -------------------------------------------------------------------------------- */

static int library_encode(struct t5_buf *out, struct t5_encoder *e, const char *text, size_t n,
                          struct t5_err *err)
{
    return e->tokenizer->library->encode(out, e->tokenizer->spm, text, n, err);
}

/* Text without special tokens. Stops when `enough` bytes of ids are there: later words change
 * nothing. */
static int encode_text(struct t5_buf *out, struct t5_encoder *e, const char *text, size_t n,
                       size_t enough, struct t5_err *err)
{
    const unsigned char *delimiter = e->tokenizer->normalizer.delimiter;
    if (e->tokenizer->library)
        return library_encode(out, e, text, n, err);
    for (size_t i = 0; i < n && out->n < enough;) {
        while (i < n && delimiter[(unsigned char)text[i]])
            i++;
        size_t start = i;
        while (i < n && !delimiter[(unsigned char)text[i]])
            i++;
        if (i > start &&
            encode_word(out, e, text + start, i - start, start > 0 && text[start - 1] == ' ', err))
            return -1;
    }
    return 0;
}

/* The special token at text: its bytes, or 0. */
static size_t special_at(const struct t5_tokenizer *t, const char *text, size_t n, int32_t *id)
{
    for (int32_t i = T5_PAD; i <= T5_UNK; i++) {
        const struct t5_piece *p = &t->model.pieces[i];
        if (n >= p->n && memcmp(text, p->text, p->n) == 0) {
            *id = i;
            return p->n;
        }
    }
    int32_t number;
    size_t len = t5_sentinel_number(text, n, &number);
    if (len)
        *id = t->sentinel[number];
    return len;
}

/* A special token's id; <unk> stands for no character. */
static int put_special(struct t5_buf *out, struct t5_encoder *e, int32_t id, struct t5_err *err)
{
    const struct t5_unknown itself = {T5_NO_CHARACTER, 1};
    if (id == T5_UNK && e->lattice.unknown &&
        t5_buf_append(e->lattice.unknown, &itself, sizeof itself, err))
        return -1;
    return t5_buf_append(out, &id, sizeof id, err);
}

static int encode_special(struct t5_buf *out, struct t5_encoder *e, const char *text, size_t n,
                          size_t enough, struct t5_err *err)
{
    size_t start = 0, len;
    int32_t id;
    for (size_t i = 0; i < n && out->n < enough; i += len) {
        const char *hit = memchr(text + i, '<', n - i);
        i = hit ? (size_t)(hit - text) : n;
        len = hit ? special_at(e->tokenizer, hit, n - i, &id) : 0;
        if (len) {
            if (encode_text(out, e, text + start, i - start, enough, err) ||
                put_special(out, e, id, err))
                return -1;
            start = i + len;
        } else {
            len = 1;
        }
    }
    return out->n < enough ? encode_text(out, e, text + start, n - start, enough, err) : 0;
}

int t5_encode(struct t5_buf *out, struct t5_encoder *encoder, const char *text, size_t n,
              size_t max, struct t5_err *err)
{
    const int32_t end = T5_EOS;
    size_t enough = max ? (max - 1) * sizeof(int32_t) : SIZE_MAX;
    out->n = 0;
    if (encoder->tokenizer->special ? encode_special(out, encoder, text, n, enough, err)
                                    : encode_text(out, encoder, text, n, enough, err))
        return -1;
    if (out->n > enough)
        out->n = enough;
    return t5_buf_append(out, &end, sizeof end, err);
}

int t5_encode_unknown(struct t5_buf *unknown, struct t5_buf *out, struct t5_encoder *encoder,
                      const char *text, size_t n, size_t max, struct t5_err *err)
{
    size_t before = unknown->n, ids = 0, kept = 0;
    encoder->lattice.unknown = unknown;
    int rc = t5_encode(out, encoder, text, n, max, err);
    encoder->lattice.unknown = NULL;
    if (rc)
        return -1;
    /* The last word may have been cut: as many stay as the ids left have. */
    for (size_t i = 0; i < out->n / sizeof(int32_t); i++)
        ids += ((int32_t *)out->data)[i] == T5_UNK;
    const struct t5_unknown *u = (struct t5_unknown *)(unknown->data + before);
    for (; ids > 0; kept++)
        ids -= (size_t)u[kept].ends;
    unknown->n = before + kept * sizeof *u;
    return 0;
}
