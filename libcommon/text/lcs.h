/* lcs.h - longest common subsequence of two token sequences, 64 table cells at a time.
 *
 * The table of the textbook, t[i][j] = LCS of a[0..i) and b[0..j), is never stored. Its column j is
 * a bit per row: bit i - 1 of V_j is 0 where t[i][j] = t[i-1][j] + 1 and 1 where they are equal.
 * One addition with carry gives the next column (Hyyro, "Bit-parallel LCS-length computation
 * revisited", 2004). Tokens are small numbers below n_types. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_LCS_H
#define T5_TEXT_LCS_H

#include <stdint.h>

#include "base/err.h"

/* Where each type of token stands in a. The caller's struct, zero-initialised; memory is linear in
 * len(a), len(b) and n_types, plus the columns kept. */
struct t5_lcs {
    const int32_t *a; /* (n) borrowed until the next t5_lcs_set */
    size_t n;
    struct t5_lcs_place *places; /* (n_places) one per (type, 64 rows) that meet */
    size_t n_places, places_capacity;
    int32_t *first; /* (n_types) index into places, -1: none */
    size_t n_types;
    uint64_t *columns; /* scratch */
    size_t columns_capacity;
    size_t columns_kept; /* words of columns that t5_lcs_mark keeps at a time; 0: 2^21, 16 MiB */
};

void t5_lcs_free(struct t5_lcs *lcs);

/* Takes a as the rows: n below 2^31, types below n_types. Costs O(n), and O(n_types) when it grew.
 */
int t5_lcs_set(struct t5_lcs *lcs, const int32_t *a, size_t n, size_t n_types,
               struct t5_err *err) T5_MUST_CHECK;
/* The length of the LCS of a and b (m tokens). */
int t5_lcs_length(size_t *length, struct t5_lcs *lcs, const int32_t *b, size_t m,
                  struct t5_err *err) T5_MUST_CHECK;
/* Sets marked[i] = 1 for each a[i] of one LCS of a and b, leaves the others alone, and adds the
 * number of new marks to *n_marked. Which LCS: walking back from both ends, equal tokens are taken;
 * else the walk moves in b where t[i][j-1] > t[i-1][j], and in a otherwise (a tie moves in a). */
int t5_lcs_mark(uint8_t *marked, size_t *n_marked, struct t5_lcs *lcs, const int32_t *b, size_t m,
                struct t5_err *err) T5_MUST_CHECK;

#endif
