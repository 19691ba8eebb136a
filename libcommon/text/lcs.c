/* lcs.c - bit-parallel longest common subsequence. See lcs.h for what a column is. */
/* SPDX-License-Identifier: MIT */
#include "text/lcs.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define NONE (-1)
#define COLUMNS_KEPT ((size_t)1 << 21)

/* The rows 64 * word .. 64 * word + 63 of a that hold one type of token. Places of a type form a
 * list by ascending word. */
struct t5_lcs_place {
    uint64_t rows;
    uint32_t word;
    int32_t type, next;
};

void t5_lcs_free(struct t5_lcs *lcs)
{
    if (!lcs)
        return;
    free(lcs->places);
    free(lcs->first);
    free(lcs->columns);
    *lcs = (struct t5_lcs){0};
}

static int grow_types(struct t5_lcs *lcs, size_t n_types, struct t5_err *err)
{
    if (n_types <= lcs->n_types)
        return 0;
    size_t n = n_types > 2 * lcs->n_types ? n_types : 2 * lcs->n_types;
    int32_t *first = realloc(lcs->first, n * sizeof *first);
    if (!first)
        return t5_fail_memory(err, n * sizeof *first, "token types");
    for (size_t i = lcs->n_types; i < n; i++)
        first[i] = NONE;
    lcs->first = first;
    lcs->n_types = n;
    return 0;
}

int t5_lcs_set(struct t5_lcs *lcs, const int32_t *a, size_t n, size_t n_types, struct t5_err *err)
{
    for (size_t p = 0; p < lcs->n_places; p++)
        lcs->first[lcs->places[p].type] = NONE;
    lcs->n_places = lcs->n = 0;
    if (grow_types(lcs, n_types, err))
        return -1;
    if (n > lcs->places_capacity) {
        free(lcs->places);
        lcs->places_capacity = 0;
        if (!(lcs->places = t5_alloc(n, sizeof *lcs->places, "token places", err)))
            return -1;
        lcs->places_capacity = n;
    }
    for (size_t i = n; i-- > 0;) { /* backwards, so that lists ascend */
        int32_t *first = &lcs->first[a[i]];
        uint32_t word = (uint32_t)(i / 64);
        if (*first == NONE || lcs->places[*first].word != word) {
            lcs->places[lcs->n_places] =
                (struct t5_lcs_place){.word = word, .type = a[i], .next = *first};
            *first = (int32_t)lcs->n_places++;
        }
        lcs->places[*first].rows |= (uint64_t)1 << (i % 64);
    }
    lcs->a = a;
    lcs->n = n;
    return 0;
}

/* V + carry over words [from, to) that hold no row of this token. Stops where the carry ends, which
 * is why a token costs little more than the places it has. */
static int carry_on(uint64_t *v, size_t from, size_t to)
{
    for (size_t k = from; k < to; k++)
        if (v[k] != UINT64_MAX) {
            v[k] |= v[k] + 1;
            return 0;
        }
    return 1;
}

/* From column V_{j-1} to V_j in place, where b's token j - 1 is `token`; only the first `words`
 * words of rows. With M the rows that hold the token and U = V & M: V' = (V + U) | (V & ~M). */
static void advance(uint64_t *v, const struct t5_lcs *lcs, int32_t token, size_t words)
{
    size_t done = 0;
    int carry = 0;
    if ((size_t)token >= lcs->n_types)
        return;
    for (int32_t p = lcs->first[token]; p != NONE; p = lcs->places[p].next) {
        size_t k = lcs->places[p].word;
        uint64_t rows = lcs->places[p].rows, sum;
        if (k >= words)
            break;
        if (carry)
            carry = carry_on(v, done, k);
        int over = __builtin_add_overflow(v[k], v[k] & rows, &sum);
        over |= __builtin_add_overflow(sum, (uint64_t)carry, &sum);
        v[k] = sum | (v[k] & ~rows);
        carry = over;
        done = k + 1;
    }
    if (carry)
        carry_on(v, done, words);
}

static int reserve_columns(struct t5_lcs *lcs, size_t words, struct t5_err *err)
{
    if (words <= lcs->columns_capacity)
        return 0;
    free(lcs->columns);
    lcs->columns_capacity = 0;
    if (!(lcs->columns = t5_alloc(words, sizeof(uint64_t), "columns of a text comparison", err)))
        return -1;
    lcs->columns_capacity = words;
    return 0;
}

int t5_lcs_length(size_t *length, struct t5_lcs *lcs, const int32_t *b, size_t m,
                  struct t5_err *err)
{
    size_t words = (lcs->n + 63) / 64;
    *length = 0;
    if (words == 0)
        return 0;
    if (reserve_columns(lcs, words, err))
        return -1;
    memset(lcs->columns, 0xff, words * sizeof(uint64_t)); /* V_0: column 0 is all 0 */
    for (size_t j = 0; j < m; j++)
        advance(lcs->columns, lcs, b[j], words);
    for (size_t k = 0; k < words; k++)
        *length += 64 - (size_t)__builtin_popcountll(lcs->columns[k]);
    return 0;
}

struct walk {
    struct t5_lcs *lcs;
    const int32_t *b;
    uint8_t *marked;
    size_t n_marked, i; /* i: rows still ahead of the walk */
};

/* Walks from (i, hi) back to column lo with every column of the block at hand. Where tokens differ
 * t[i][j] = max(t[i-1][j], t[i][j-1]), so t[i][j-1] > t[i-1][j] exactly where bit i - 1 of V_j is
 * 0. */
static int walk_block(struct walk *w, const uint64_t *v_lo, size_t lo, size_t hi,
                      struct t5_err *err)
{
    size_t words = (w->i + 63) / 64;
    if (reserve_columns(w->lcs, (hi - lo) * words, err))
        return -1;
    uint64_t *columns = w->lcs->columns;
    for (size_t j = lo; j < hi; j++) {
        uint64_t *v = columns + (j - lo) * words;
        memcpy(v, j == lo ? v_lo : v - words, words * sizeof *v);
        advance(v, w->lcs, w->b[j], words);
    }
    for (size_t j = hi; j > lo && w->i > 0;) {
        size_t i = w->i - 1;
        if (w->lcs->a[i] == w->b[j - 1]) {
            w->n_marked += !w->marked[i];
            w->marked[i] = 1;
            w->i--;
            j--;
        } else if (columns[(j - 1 - lo) * words + i / 64] >> (i % 64) & 1) {
            w->i--;
        } else {
            j--;
        }
    }
    return 0;
}

/* The same for any width: the right half first, from a column computed for it, then the left half,
 * whose columns are then computed again, for the rows that are left only. */
static int walk_back(struct walk *w, const uint64_t *v_lo, size_t lo, size_t hi, struct t5_err *err)
{
    size_t words = (w->i + 63) / 64;
    size_t kept = w->lcs->columns_kept ? w->lcs->columns_kept : COLUMNS_KEPT;
    if (w->i == 0 || lo == hi)
        return 0;
    if (hi - lo == 1 || hi - lo <= kept / words)
        return walk_block(w, v_lo, lo, hi, err);
    size_t mid = lo + (hi - lo) / 2;
    uint64_t *v = t5_alloc(words, sizeof *v, "a column of a text comparison", err);
    if (!v)
        return -1;
    memcpy(v, v_lo, words * sizeof *v);
    for (size_t j = lo; j < mid; j++)
        advance(v, w->lcs, w->b[j], words);
    int rc = walk_back(w, v, mid, hi, err);
    free(v);
    return rc ? rc : walk_back(w, v_lo, lo, mid, err);
}

static int in_common(const struct t5_lcs *lcs, const int32_t *b, size_t m)
{
    for (size_t j = 0; j < m; j++)
        if ((size_t)b[j] < lcs->n_types && lcs->first[b[j]] != NONE)
            return 1;
    return 0;
}

int t5_lcs_mark(uint8_t *marked, size_t *n_marked, struct t5_lcs *lcs, const int32_t *b, size_t m,
                struct t5_err *err)
{
    struct walk w = {.lcs = lcs, .b = b, .marked = marked, .i = lcs->n};
    uint64_t few[16], *v = few;
    size_t words = (lcs->n + 63) / 64;
    if (!in_common(lcs, b, m)) /* most pairs of sentences */
        return 0;
    if (words > sizeof few / sizeof few[0] &&
        !(v = t5_alloc(words, sizeof *v, "a column of a text comparison", err)))
        return -1;
    memset(v, 0xff, words * sizeof *v);
    int rc = walk_back(&w, v, 0, m, err);
    *n_marked += w.n_marked;
    if (v != few)
        free(v);
    return rc;
}
