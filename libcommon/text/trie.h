/* trie.h - the pieces of a tokenizer as a byte trie: which pieces start here? */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TRIE_H
#define T5_TEXT_TRIE_H

#include "text/spiece.h"

struct t5_trie_node {
    uint32_t first;   /* children are nodes first .. first + n - 1, by ascending label */
    uint32_t n;
    int32_t id;       /* the piece that ends here, or -1 */
};

struct t5_trie {
    struct t5_trie_node *nodes; /* owned; the root is node 0 */
    unsigned char *labels;      /* owned; the byte that leads to each node */
    uint32_t n_nodes;
    uint32_t longest; /* bytes of the longest piece */
};

/* Builds it from pieces. A piece that comes twice is an error. */
int t5_trie_build(struct t5_trie *out, const struct t5_piece *pieces, int32_t n, struct t5_err *err)
    T5_MUST_CHECK;
void t5_trie_free(struct t5_trie *trie);

/* The child of node by byte, or 0: the root is nobody's child. */
static inline uint32_t t5_trie_child(const struct t5_trie *trie, uint32_t node, unsigned char byte)
{
    const struct t5_trie_node *p = &trie->nodes[node];
    const unsigned char *labels = trie->labels + p->first;
    uint32_t lo = 0, n = p->n;
    while (n > 8) { /* labels ascend */
        uint32_t half = n / 2;
        if (labels[lo + half] <= byte)
            lo += half, n -= half;
        else
            n = half;
    }
    for (uint32_t i = lo; i < lo + n; i++)
        if (labels[i] == byte)
            return p->first + i;
    return 0;
}

#endif
