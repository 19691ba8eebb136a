/* segment.c - the unigram model's best segmentation of a word (Kudo, "Subword Regularization", ACL
 * 2018, section 3.2), with the tie-breaking of transformers' fast tokenizer: scores summed in
 * double, candidates by increasing length, replaced only by a strictly better one. */
/* SPDX-License-Identifier: MIT */
#include "text/segment.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define UNKNOWN INT32_MAX /* a step over one character that no piece is; "<unk>" in text is a piece */

int t5_segmenter_init(struct t5_segmenter *out, const struct t5_spiece *model, int special,
                      struct t5_err *err)
{
    *out = (struct t5_segmenter){.pieces = model->pieces,
                                 .unknown = (double)model->min_score - 10,
                                 .special = special};
    return t5_trie_build(&out->trie, model->pieces, model->n, err);
}

void t5_segmenter_free(struct t5_segmenter *segmenter)
{
    if (segmenter)
        t5_trie_free(&segmenter->trie);
}

void t5_lattice_free(struct t5_lattice *lattice)
{
    free(lattice->score);
    lattice->score = NULL;
    t5_buf_free(&lattice->ends);
}

static int prepare(struct t5_lattice *lattice, const struct t5_segmenter *s, size_t n,
                   size_t *mask, struct t5_err *err)
{
    size_t ring = 8; /* a piece or one character of 4 bytes reaches from i to below i + ring */
    while (ring <= s->trie.longest)
        ring *= 2;
    *mask = ring - 1;
    if (!lattice->score) {
        lattice->score = t5_alloc(ring, sizeof *lattice->score, "scores", err);
        if (!lattice->score)
            return -1;
    }
    lattice->ends.n = 0;
    if (t5_buf_reserve(&lattice->ends, (n + 1) * sizeof(int32_t), err))
        return -1;
    memset(lattice->ends.data, 0xff, (n + 1) * sizeof(int32_t)); /* all -1 */
    return 0;
}

static inline void offer(int32_t *ends, double *score, size_t at, size_t mask, double candidate,
                         int32_t id)
{
    if (ends[at] < 0 || candidate > score[at & mask]) {
        ends[at] = id;
        score[at & mask] = candidate;
    }
}

static void forward(const struct t5_segmenter *s, int32_t *ends, double *score, size_t mask,
                    const char *word, size_t n)
{
    const struct t5_trie *trie = &s->trie;
    score[0] = 0;
    for (size_t i = 0, len; i < n; i += len) {
        double here = score[i & mask];
        uint32_t node = 0;
        int alone = 0; /* some piece is just this character */
        len = t5_utf8_length(word + i, n - i);
        if (len == 0)
            len = 1;
        for (size_t j = i; j < n; j++) {
            node = t5_trie_child(trie, node, (unsigned char)word[j]);
            if (!node)
                break;
            int32_t id = trie->nodes[node].id;
            if (id < 0 || (!s->special && s->pieces[id].type != T5_PIECE_NORMAL &&
                           s->pieces[id].type != T5_PIECE_USER))
                continue;
            offer(ends, score, j + 1, mask, (double)s->pieces[id].score + here, id);
            alone |= j + 1 == i + len;
        }
        if (!alone)
            offer(ends, score, i + len, mask, s->unknown + here, UNKNOWN);
    }
}

/* Bytes of the step that ends at `at`; an UNKNOWN step is one character. */
static size_t step_length(const struct t5_segmenter *s, const char *word, size_t at, int32_t id)
{
    if (id != UNKNOWN)
        return s->pieces[id].n;
    size_t len = 1;
    while (len < 4 && len < at && ((unsigned char)word[at - len] & 0xc0) == 0x80)
        len++;
    return len;
}

static int is_unknown(int32_t id) { return id == UNKNOWN || id == T5_UNK; }

static uint32_t character(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3f);
    return c;
}

/* Appends what is unknown on the best path, in the order of the text. */
static int collect(struct t5_buf *out, const struct t5_segmenter *s, const int32_t *ends,
                   const char *word, size_t n, struct t5_err *err)
{
    size_t before = out->n, len;
    int32_t last = -1;
    for (size_t at = n; at > 0; at -= len) {
        len = step_length(s, word, at, ends[at]);
        struct t5_unknown u = {ends[at] == UNKNOWN ? character(word + at - len, len)
                                                   : T5_NO_CHARACTER,
                               !is_unknown(last)};
        if (is_unknown(ends[at]) && t5_buf_append(out, &u, sizeof u, err))
            return -1;
        last = ends[at];
    }
    size_t count = (out->n - before) / sizeof(struct t5_unknown);
    struct t5_unknown *u = (struct t5_unknown *)(out->data + before);
    for (size_t i = 0; i < count / 2; i++) {
        struct t5_unknown other = u[i];
        u[i] = u[count - 1 - i];
        u[count - 1 - i] = other;
    }
    return 0;
}

int t5_segment(struct t5_buf *out, const struct t5_segmenter *s, struct t5_lattice *lattice,
               const char *word, size_t n, struct t5_err *err)
{
    size_t mask, count = 0;
    if (prepare(lattice, s, n, &mask, err))
        return -1;
    int32_t *ends = (int32_t *)lattice->ends.data;
    forward(s, ends, lattice->score, mask, word, n);
    /* Back along the best path: once to count, neighbouring unknowns as one, once to write. */
    int32_t last = -1;
    for (size_t at = n; at > 0; at -= step_length(s, word, at, last)) {
        count += !(is_unknown(ends[at]) && is_unknown(last));
        last = ends[at];
    }
    if (t5_buf_reserve(out, count * sizeof(int32_t), err))
        return -1;
    int32_t *ids = (int32_t *)(out->data + out->n) + count;
    last = -1;
    for (size_t at = n; at > 0; at -= step_length(s, word, at, last)) {
        if (!(is_unknown(ends[at]) && is_unknown(last)))
            *--ids = is_unknown(ends[at]) ? T5_UNK : ends[at];
        last = ends[at];
    }
    out->n += count * sizeof(int32_t);
    return lattice->unknown ? collect(lattice->unknown, s, ends, word, n, err) : 0;
}
