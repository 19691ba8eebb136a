/* constraints.h - what a sequence may not or should not say next: the ban on repeated n-grams,
 * banned sequences (bad_words_ids), the repetition penalty, the least length. As transformers'
 * processors of those names; the start token counts as part of the sequence, as it does there. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_CONSTRAINTS_H
#define T5_T5_CONSTRAINTS_H

#include <stdint.h>

#include "t5/id_lists.h"

struct t5_constraints {
    /* set by the caller before init */
    float penalty;     /* repetition penalty; 1: none */
    int64_t no_repeat; /* n-gram size; 0: no ban */
    int64_t min_new;   /* no eos before so many new tokens */
    const struct t5_id_lists *bans; /* sequences never completed, none empty; NULL: none */
    int32_t eos;
    /* of the sequence given last; owned */
    int32_t *penalised, *banned; /* distinct ids */
    int64_t n_penalised, n_banned;
    /* private: which ids those are, by vocabulary */
    uint32_t *penalised_in, *banned_in, round;
};

/* vocab: ids lie below; longest: most tokens of a sequence. */
int t5_constraints_init(struct t5_constraints *c, int64_t vocab, int64_t longest,
                        struct t5_err *err) T5_MUST_CHECK;
void t5_constraints_free(struct t5_constraints *c);
/* Whether any rule is on. */
int t5_constraints_any(const struct t5_constraints *c);
/* Works out the lists for what may follow sequence (n), its first token being the start token. */
void t5_constraints_set(struct t5_constraints *c, const int32_t *sequence, int64_t n);
/* The score of id after the rules set last: logit or log-probability. Banned: -infinity. */
float t5_constraints_score(const struct t5_constraints *c, int32_t id, float score);

#endif
