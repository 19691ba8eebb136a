/* trie.c - building the piece trie: pieces sorted, then one level after the other, so that the
 * children of a node lie side by side. */
/* SPDX-License-Identifier: MIT */
#include "text/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct sorted {
    const char *text;
    uint32_t n;
    int32_t id;
};

struct span { /* the sorted pieces below a node, all alike in their first `depth` bytes */
    int32_t lo, hi;
    uint32_t depth;
};

struct build {
    struct t5_trie *trie;
    struct sorted *pieces;
    struct span *spans; /* one a node */
    uint32_t capacity;
    struct t5_err *err;
};

static int by_text(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static int add_node(struct build *b, unsigned char label, struct span span)
{
    struct t5_trie *t = b->trie;
    if (t->n_nodes == b->capacity) {
        size_t more = b->capacity ? 2 * (size_t)b->capacity : 4096;
        void *nodes = realloc(t->nodes, more * sizeof *t->nodes);
        if (nodes)
            t->nodes = nodes;
        void *labels = realloc(t->labels, more);
        if (labels)
            t->labels = labels;
        void *spans = realloc(b->spans, more * sizeof *b->spans);
        if (spans)
            b->spans = spans;
        if (!nodes || !labels || !spans)
            return t5_fail_memory(b->err, more * sizeof *t->nodes, "the piece trie");
        b->capacity = (uint32_t)more;
    }
    t->nodes[t->n_nodes] = (struct t5_trie_node){.id = -1};
    t->labels[t->n_nodes] = label;
    b->spans[t->n_nodes++] = span;
    return 0;
}

/* Gives node its id and appends its children. */
static int expand(struct build *b, uint32_t node)
{
    struct span s = b->spans[node];
    if (b->pieces[s.lo].n == s.depth)
        b->trie->nodes[node].id = b->pieces[s.lo++].id;
    b->trie->nodes[node].first = b->trie->n_nodes;
    while (s.lo < s.hi) {
        unsigned char c = (unsigned char)b->pieces[s.lo].text[s.depth];
        int32_t end = s.lo + 1;
        while (end < s.hi && (unsigned char)b->pieces[end].text[s.depth] == c)
            end++;
        if (add_node(b, c, (struct span){s.lo, end, s.depth + 1}))
            return -1;
        b->trie->nodes[node].n++;
        s.lo = end;
    }
    return 0;
}

static int check_twice(const struct sorted *pieces, int32_t n, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    for (int32_t i = 1; i < n; i++)
        if (by_text(&pieces[i - 1], &pieces[i]) == 0)
            return t5_fail(err, "piece \"%s\" comes twice",
                           t5_escape(shown, pieces[i].text, pieces[i].n));
    return 0;
}

int t5_trie_build(struct t5_trie *out, const struct t5_piece *pieces, int32_t n, struct t5_err *err)
{
    struct build b = {.trie = out, .err = err};
    int rc = -1;
    *out = (struct t5_trie){0};
    b.pieces = t5_alloc((size_t)n, sizeof *b.pieces, "pieces", err);
    if (!b.pieces || n < 1)
        goto out;
    for (int32_t i = 0; i < n; i++) {
        b.pieces[i] = (struct sorted){pieces[i].text, pieces[i].n, i};
        if (pieces[i].n > out->longest)
            out->longest = pieces[i].n;
    }
    qsort(b.pieces, (size_t)n, sizeof *b.pieces, by_text);
    if (check_twice(b.pieces, n, err) || add_node(&b, 0, (struct span){0, n, 0}))
        goto out;
    for (uint32_t i = 0; i < out->n_nodes; i++)
        if (expand(&b, i))
            goto out;
    rc = 0;
out:
    free(b.pieces);
    free(b.spans);
    if (rc)
        t5_trie_free(out);
    return rc;
}

void t5_trie_free(struct t5_trie *trie)
{
    if (!trie)
        return;
    free(trie->nodes);
    free(trie->labels);
    *trie = (struct t5_trie){0};
}
