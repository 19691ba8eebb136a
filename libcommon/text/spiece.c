/* spiece.c - a protobuf walker for sentencepiece_model.proto that reads what T5 needs and refuses
 * what is damaged. The character map is checked in charsmap.c. */
/* SPDX-License-Identifier: MIT */
#include "text/spiece.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"

struct slice { /* bytes [at, end) of the file; errors name file offsets */
    const unsigned char *bytes;
    size_t at, end;
    struct t5_err *err;
};

struct tag {
    uint32_t number, wire;
    uint64_t value;     /* wire 0; the bits of wire 1 and 5 */
    struct slice inner; /* wire 2 */
};

static int varint(struct slice *s, uint64_t *out)
{
    size_t start = s->at;
    *out = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (s->at >= s->end)
            return t5_fail(s->err, "byte %zu: cut inside a number", start);
        unsigned char c = s->bytes[s->at++];
        *out |= (uint64_t)(c & 0x7f) << (shift < 64 ? shift : 63);
        if (c < 0x80)
            return 0;
    }
    return t5_fail(s->err, "byte %zu: number longer than 10 bytes", start);
}

static int fixed(struct slice *s, int n, uint64_t *out)
{
    if (s->end - s->at < (size_t)n)
        return t5_fail(s->err, "byte %zu: cut inside a number", s->at);
    *out = 0;
    for (int i = 0; i < n; i++)
        *out |= (uint64_t)s->bytes[s->at++] << (8 * i);
    return 0;
}

/* The next field: 1, 0 at the end, -1. */
static int next(struct slice *s, struct tag *out)
{
    if (s->at == s->end)
        return 0;
    size_t start = s->at;
    uint64_t key, length;
    if (varint(s, &key))
        return -1;
    *out = (struct tag){.number = (uint32_t)(key >> 3), .wire = key & 7};
    if (key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return t5_fail(s->err, "byte %zu: field number %llu", start, (unsigned long long)key >> 3);
    switch (out->wire) {
    case 0:
        return varint(s, &out->value) ? -1 : 1;
    case 1:
        return fixed(s, 8, &out->value) ? -1 : 1;
    case 5:
        return fixed(s, 4, &out->value) ? -1 : 1;
    case 2:
        if (varint(s, &length))
            return -1;
        if (length > s->end - s->at)
            return t5_fail(s->err, "byte %zu: %llu bytes described, %zu left", start,
                           (unsigned long long)length, s->end - s->at);
        out->inner = (struct slice){s->bytes, s->at, s->at + (size_t)length, s->err};
        s->at += (size_t)length;
        return 1;
    default:
        return t5_fail(s->err, "byte %zu: wire type %u", start, out->wire);
    }
}

static int want_wire(const struct slice *s, const struct tag *t, uint32_t wire, const char *name)
{
    if (t->wire == wire)
        return 0;
    return t5_fail(s->err, "byte %zu: %s has wire type %u, not %u", s->at, name, t->wire, wire);
}

static int valid_utf8(const char *p, size_t n)
{
    for (size_t len; n; p += len, n -= len)
        if (!(len = t5_utf8_length(p, n)))
            return 0;
    return 1;
}

static int read_piece(struct slice s, struct t5_piece *out)
{
    size_t start = s.at;
    struct tag t;
    int rc;
    *out = (struct t5_piece){.type = T5_PIECE_NORMAL};
    while ((rc = next(&s, &t)) == 1) {
        if (t.number == 1) {
            if (want_wire(&s, &t, 2, "a piece"))
                return -1;
            out->text = (const char *)t.inner.bytes + t.inner.at;
            size_t n = t.inner.end - t.inner.at;
            if (n > T5_MAX_PIECE)
                return t5_fail(s.err, "byte %zu: piece of %zu bytes, at most %d are taken", start, n,
                               T5_MAX_PIECE);
            out->n = (uint32_t)n;
        } else if (t.number == 2) {
            uint32_t bits = (uint32_t)t.value;
            if (want_wire(&s, &t, 5, "a score"))
                return -1;
            memcpy(&out->score, &bits, 4);
        } else if (t.number == 3) {
            if (want_wire(&s, &t, 0, "a type"))
                return -1;
            if (t.value < T5_PIECE_NORMAL || t.value > T5_PIECE_BYTE)
                return t5_fail(s.err, "byte %zu: piece type %llu", start,
                               (unsigned long long)t.value);
            out->type = (enum t5_piece_type)t.value;
        }
    }
    if (rc < 0)
        return -1;
    if (out->n == 0)
        return t5_fail(s.err, "byte %zu: empty piece", start);
    if (!valid_utf8(out->text, out->n))
        return t5_fail(s.err, "byte %zu: piece is not valid UTF-8", start);
    if (!isfinite(out->score))
        return t5_fail(s.err, "byte %zu: score is not finite", start);
    return 0;
}

static int add_piece(struct t5_spiece *m, struct slice s, size_t *capacity)
{
    if (m->n == T5_MAX_PIECES)
        return t5_fail(s.err, "more than %d pieces", T5_MAX_PIECES);
    if ((size_t)m->n == *capacity) {
        size_t more = *capacity ? 2 * *capacity : 4096;
        void *p = realloc(m->pieces, more * sizeof *m->pieces);
        if (!p)
            return t5_fail_memory(s.err, more * sizeof *m->pieces, "pieces");
        m->pieces = p;
        *capacity = more;
    }
    if (read_piece(s, &m->pieces[m->n]))
        return -1;
    if (m->n == 0 || m->pieces[m->n].score < m->min_score)
        m->min_score = m->pieces[m->n].score;
    m->n++;
    return 0;
}

/* trainer_spec: model_type 3 (1: unigram), vocab_size 4, byte_fallback 35. */
static int read_trainer(struct slice s, int64_t *vocab)
{
    struct tag t;
    int rc;
    while ((rc = next(&s, &t)) == 1) {
        if ((t.number == 3 || t.number == 4 || t.number == 35) &&
            want_wire(&s, &t, 0, "trainer_spec"))
            return -1;
        if (t.number == 3 && t.value != 1)
            return t5_fail(s.err, "model type %llu: T5 has a unigram model (1)",
                           (unsigned long long)t.value);
        if (t.number == 4)
            *vocab = (int64_t)t.value;
        if (t.number == 35 && t.value)
            return t5_fail(s.err, "byte_fallback is set: not a T5 model");
    }
    return rc;
}

/* normalizer_spec: precompiled_charsmap 2. */
static int read_normalizer(struct slice s, struct t5_charsmap *map)
{
    struct tag t;
    int rc;
    while ((rc = next(&s, &t)) == 1)
        if (t.number == 2 &&
            (want_wire(&s, &t, 2, "precompiled_charsmap") ||
             t5_charsmap_init(map, t.inner.bytes + t.inner.at, t.inner.end - t.inner.at, s.err)))
            return -1;
    return rc;
}

/* T5's first three ids are fixed, and just one piece stands for the unknown. */
static int check_specials(const struct t5_spiece *m, struct t5_err *err)
{
    static const struct {
        const char *text;
        enum t5_piece_type type;
    } want[] = {{"<pad>", T5_PIECE_CONTROL}, {"</s>", T5_PIECE_CONTROL}, {"<unk>", T5_PIECE_UNKNOWN}};
    int unknown = 0;
    for (int32_t i = 0; i < m->n; i++)
        unknown += m->pieces[i].type == T5_PIECE_UNKNOWN;
    if (unknown != 1)
        return t5_fail(err, "%d unknown pieces, 1 expected", unknown);
    for (int32_t i = 0; i < 3; i++) {
        char shown[T5_ESCAPED];
        const struct t5_piece *p = &m->pieces[i];
        if (i >= m->n || p->type != want[i].type || p->n != strlen(want[i].text) ||
            memcmp(p->text, want[i].text, p->n) != 0)
            return t5_fail(err, "piece %d is \"%s\", T5 has %s there", i,
                           i < m->n ? t5_escape(shown, p->text, p->n) : "", want[i].text);
    }
    return 0;
}

static int parse(struct t5_spiece *m, struct t5_err *err)
{
    struct slice s = {(const unsigned char *)m->bytes, 0, m->n_bytes, err};
    struct tag t;
    size_t capacity = 0;
    int64_t vocab = 0;
    int rc, trainer = 0, normalizer = 0;
    while ((rc = next(&s, &t)) == 1) {
        if (t.number > 3)
            continue;
        if (want_wire(&s, &t, 2, "a part of the model"))
            return -1;
        if ((t.number == 2 && trainer) || (t.number == 3 && normalizer))
            return t5_fail(err, "byte %zu: %s comes twice", t.inner.at,
                           t.number == 2 ? "trainer_spec" : "normalizer_spec");
        if (t.number == 1)
            rc = add_piece(m, t.inner, &capacity);
        else if (t.number == 2)
            rc = read_trainer(t.inner, &vocab), trainer = 1;
        else
            rc = read_normalizer(t.inner, &m->charsmap), normalizer = 1;
        if (rc)
            return -1;
    }
    if (rc < 0)
        return -1;
    if (!trainer || !normalizer)
        return t5_fail(err, "no %s: the file is cut or no SentencePiece model",
                       trainer ? "normalizer_spec" : "trainer_spec");
    if (m->n < vocab)
        return t5_fail(err, "%d pieces, %lld described", m->n, (long long)vocab);
    return check_specials(m, err);
}

static int parse_named(struct t5_spiece *m, const char *name, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    if (parse(m, err) == 0)
        return 0;
    if (err->status == T5_BAD_INPUT)
        t5_err_at(err, "%s", t5_escape(shown, name, strlen(name)));
    t5_spiece_free(m);
    return -1;
}

int t5_spiece_parse(struct t5_spiece *out, const void *bytes, size_t n, const char *name,
                    struct t5_err *err)
{
    *out = (struct t5_spiece){.n_bytes = n};
    out->bytes = t5_alloc(n, 1, "a tokenizer", err);
    if (!out->bytes)
        return -1;
    memcpy(out->bytes, bytes, n);
    return parse_named(out, name, err);
}

static int read_file(struct t5_buf *out, const char *path, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    t5_escape(shown, path, strlen(path));
    if (fd < 0)
        return t5_fail_errno(err, "%s", shown);
    for (;;) {
        if (t5_buf_reserve(out, 1 << 20, err)) {
            close(fd);
            return -1;
        }
        got = read(fd, out->data + out->n, out->capacity - out->n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || (out->n += (size_t)got) > T5_MAX_SPIECE)
            break;
    }
    if (got < 0)
        t5_fail_errno(err, "%s", shown);
    close(fd);
    if (out->n > T5_MAX_SPIECE)
        return t5_fail(err, "%s: larger than %zu bytes", shown, T5_MAX_SPIECE);
    return got < 0 ? -1 : 0;
}

/* Sets *out (caller frees) to the file that path means, which need not be there. A directory
 * of Hugging Face's form may have tokenizer.json alone, which holds no spiece.model. */
static int find_file(char **out, const char *path, struct t5_err *err)
{
    struct stat st;
    char shown[T5_ESCAPED], *json = NULL;
    int is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    *out = NULL;
    if (asprintf(out, is_dir ? "%s/spiece.model" : "%s", path) < 0) {
        *out = NULL;
        return t5_fail_memory(err, strlen(path), "a path");
    }
    if (!is_dir || access(*out, F_OK) == 0)
        return 0;
    if (asprintf(&json, "%s/tokenizer.json", path) < 0)
        return t5_fail_memory(err, strlen(path), "a path");
    int only_json = access(json, F_OK) == 0;
    free(json);
    if (!only_json)
        return 0;
    return t5_fail_as(err, T5_ENVIRONMENT,
                      "%s: has tokenizer.json but no spiece.model, which is what is read (it lies "
                      "beside the weights that the model came from)",
                      t5_escape(shown, path, strlen(path)));
}

static int load_file(struct t5_spiece *out, const char *path, struct t5_err *err)
{
    struct t5_buf file = {0};
    if (read_file(&file, path, err)) {
        t5_buf_free(&file);
        return -1;
    }
    out->bytes = file.data;
    out->n_bytes = file.n;
    return parse_named(out, path, err);
}

int t5_spiece_load(struct t5_spiece *out, const char *path, struct t5_err *err)
{
    char *file;
    *out = (struct t5_spiece){0};
    int rc = find_file(&file, path, err) || load_file(out, file, err) ? -1 : 0;
    free(file);
    return rc;
}

void t5_spiece_free(struct t5_spiece *model)
{
    if (!model)
        return;
    free(model->bytes);
    free(model->pieces);
    *model = (struct t5_spiece){0};
}
