/* constraints.c - n-gram ban, banned sequences, repetition penalty, least length. */
/* SPDX-License-Identifier: MIT */
#include "t5/constraints.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

int t5_constraints_init(struct t5_constraints *c, int64_t vocab, int64_t longest,
                        struct t5_err *err)
{
    c->n_penalised = c->n_banned = 0;
    c->round = 0;
    c->penalised = t5_alloc((size_t)longest, sizeof *c->penalised, "constraints", err);
    size_t bans = c->bans ? (size_t)c->bans->n : 0;
    c->banned = t5_alloc((size_t)longest + 1 + bans, sizeof *c->banned, "constraints", err);
    c->penalised_in = t5_alloc_zeroed((size_t)vocab, sizeof *c->penalised_in, "constraints", err);
    c->banned_in = t5_alloc_zeroed((size_t)vocab, sizeof *c->banned_in, "constraints", err);
    return c->penalised && c->banned && c->penalised_in && c->banned_in ? 0 : -1;
}

void t5_constraints_free(struct t5_constraints *c)
{
    free(c->penalised);
    free(c->banned);
    free(c->penalised_in);
    free(c->banned_in);
    c->penalised = c->banned = NULL;
    c->penalised_in = c->banned_in = NULL;
}

int t5_constraints_any(const struct t5_constraints *c)
{
    return c->penalty != 1 || c->no_repeat > 0 || c->min_new > 0 || (c->bans && c->bans->n > 0);
}

/* Adds id once: `in` remembers the round that an id was last added in, so that nothing is ever
 * cleared. */
static void add(int32_t *list, int64_t *n, uint32_t *in, uint32_t round, int32_t id)
{
    if (in[id] == round)
        return;
    in[id] = round;
    list[(*n)++] = id;
}

/* Every place where the sequence's last size - 1 tokens stood before bans the token that followed
 * there. Size 1 bans all that was said. */
static void ban_ngrams(struct t5_constraints *c, const int32_t *sequence, int64_t n)
{
    int64_t head = c->no_repeat - 1;
    const int32_t *last = sequence + n - head;
    for (int64_t i = 0; i + head < n; i++)
        if (head == 0 || memcmp(sequence + i, last, (size_t)head * sizeof *last) == 0)
            add(c->banned, &c->n_banned, c->banned_in, c->round, sequence[i + head]);
}

/* The last token of every list whose others the sequence ends in. */
static void ban_lists(struct t5_constraints *c, const int32_t *sequence, int64_t n)
{
    for (int64_t i = 0; i < c->bans->n; i++) {
        int64_t k;
        const int32_t *ids = t5_id_lists_at(c->bans, i, &k);
        size_t head = (size_t)(k - 1);
        if (k - 1 <= n && memcmp(sequence + n - (k - 1), ids, head * sizeof *ids) == 0)
            add(c->banned, &c->n_banned, c->banned_in, c->round, ids[k - 1]);
    }
}

void t5_constraints_set(struct t5_constraints *c, const int32_t *sequence, int64_t n)
{
    c->n_penalised = c->n_banned = 0;
    c->round++;
    if (c->penalty != 1)
        for (int64_t i = 0; i < n; i++)
            add(c->penalised, &c->n_penalised, c->penalised_in, c->round, sequence[i]);
    if (c->no_repeat > 0 && n >= c->no_repeat)
        ban_ngrams(c, sequence, n);
    if (c->bans)
        ban_lists(c, sequence, n);
    if (n - 1 < c->min_new)
        add(c->banned, &c->n_banned, c->banned_in, c->round, c->eos);
}

float t5_constraints_score(const struct t5_constraints *c, int32_t id, float score)
{
    if (c->banned_in[id] == c->round)
        return -INFINITY;
    if (c->penalty != 1 && c->penalised_in[id] == c->round)
        return score < 0 ? score * c->penalty : score / c->penalty;
    return score;
}
