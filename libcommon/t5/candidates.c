/* candidates.c - the ids that may come next: each row's best logits, from the device or, where
 * there are too many, sorted here, with the search's rules applied. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>

#include "t5/search_inside.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A penalty below 1 raises scores, so any id may come out on top. */
static int raises(const struct t5_search *s)
{
    return s->o.repetition_penalty < 1;
}

int64_t t5_search_n_bans(const struct t5_search *s)
{
    return s->o.bans ? s->o.bans->n : 0;
}

/* The most candidates that a row's choice may need. Beam search scores candidates after its rules,
 * which act on log-probabilities: it asks for as many more as the rules can push down. */
int64_t t5_search_most_candidates(const struct t5_search *s)
{
    int64_t vocab = s->config->vocab, words = s->o.max_new + 1;
    if (s->o.kind == T5_GREEDY)
        return 1;
    if (s->o.kind == T5_SAMPLE)
        return s->o.sampling.top_k ? least(s->o.sampling.top_k + T5_SAMPLING_EQUALS, vocab) : vocab;
    if (raises(s))
        return vocab;
    return least(2 * s->o.beams + (s->o.repetition_penalty != 1 ? words : 0) +
                     (s->o.no_repeat ? words : 0) + (s->o.min_new ? 1 : 0) + t5_search_n_bans(s),
                 vocab);
}

static void add_edits(struct t5_search *s, int64_t row, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++, s->n_edits++) {
        s->edit_row[s->n_edits] = (int32_t)row;
        s->edit_id[s->n_edits] = ids[i];
    }
}

/* Greedy search and sampling: the rules act on logits, on the device, as transformers' processors
 * do there. */
static void edit_logits(struct t5_search *s, int64_t t)
{
    struct t5_constraints *c = &s->constraints;
    int64_t length = s->o.max_new + 1;
    for (int ban = 0; ban <= 1; ban++) {
        s->n_edits = 0;
        for (int64_t i = 0; i < s->now.n; i++) {
            t5_constraints_set(c, s->now.sequence + i * length, t + 1);
            if (ban)
                add_edits(s, i, c->banned, c->n_banned);
            else
                add_edits(s, i, c->penalised, c->n_penalised);
        }
        if (s->n_edits)
            t5_decoder_edit(s->decoder, s->edit_row, s->edit_id, s->n_edits, ban ? 0 : c->penalty);
    }
}

/* How many candidates this step's rows need of beam search: see t5_search_most_candidates. */
static int64_t beam_candidates(struct t5_search *s, int64_t t)
{
    struct t5_constraints *c = &s->constraints;
    int64_t pushed = 0;
    if (raises(s))
        return s->most;
    for (int64_t i = 0; i < s->now.n && t5_constraints_any(c); i++) {
        t5_constraints_set(c, s->now.sequence + i * (s->o.max_new + 1), t + 1);
        if (c->n_penalised + c->n_banned > pushed)
            pushed = c->n_penalised + c->n_banned;
    }
    return least(2 * s->o.beams + pushed, s->config->vocab);
}

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static float log_sum_exp(const float *x, int64_t n)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = (double)x[i] > top ? (double)x[i] : top;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    return (float)(top + log(sum));
}

/* What t5_decoder_topk gives, from all logits. */
static int rank_on_host(struct t5_search *s, int64_t k, struct t5_err *err)
{
    int64_t vocab = s->config->vocab;
    if (t5_decoder_logits(s->decoder, s->logits, err))
        return -1;
    for (int64_t row = 0; row < s->now.n; row++) {
        const float *logits = s->logits + row * vocab;
        s->lse[row] = log_sum_exp(logits, vocab);
        for (int64_t i = 0; i < vocab; i++)
            s->ranked[i] = (struct ranked){logits[i], (int32_t)i};
        if (isfinite(s->lse[row]))
            qsort(s->ranked, (size_t)vocab, sizeof *s->ranked, by_value);
        for (int64_t i = 0; i < k; i++) {
            s->value[row * k + i] = s->ranked[i].value;
            s->id[row * k + i] = s->ranked[i].id;
        }
    }
    return 0;
}

/* A best candidate of minus infinity: all are banned. A sum that is not finite: the weights are
 * not, or the compute type overflowed. */
static int check_logits(struct t5_search *s, int64_t k, int64_t t, struct t5_err *err)
{
    for (int64_t i = 0; i < s->now.n; i++) {
        s->failed = s->now.source[i];
        if (s->value[i * k] == -INFINITY && t5_constraints_any(&s->constraints))
            return t5_fail(err, "new token %lld: every token is banned by the rules",
                           (long long)t + 1);
        if (!isfinite(s->lse[i]))
            return t5_fail(err, "new token %lld: the model's logits are not finite",
                           (long long)t + 1);
    }
    s->failed = -1;
    return 0;
}

/* The k best of each row into value, id (rows, k), lse (rows). */
static int rank(struct t5_search *s, int64_t k, int64_t t, struct t5_err *err)
{
    int rc = k <= DEVICE_CANDIDATES ? t5_decoder_topk(s->decoder, s->value, s->id, s->lse, k, err)
                                    : rank_on_host(s, k, err);
    return rc ? -1 : check_logits(s, k, t, err);
}

int32_t t5_search_forced(const struct t5_search *s, int64_t t)
{
    if (t < s->o.n_prefix)
        return s->o.prefix[t];
    return s->o.force_eos && t + 1 == s->o.max_new ? s->config->eos : -1;
}

/* What rank() gives where there is nothing to choose: one candidate a row. */
static void force(struct t5_search *s, int32_t token)
{
    for (int64_t row = 0; row < s->now.n; row++) {
        s->id[row] = token;
        s->value[row] = s->lse[row] = 0;
    }
}

int t5_search_candidates(struct t5_search *s, int64_t *k, int64_t t, struct t5_err *err)
{
    int32_t forced = t5_search_forced(s, t);
    if (forced >= 0) {
        *k = 1;
        force(s, forced);
        return 0;
    }
    *k = s->most;
    if (s->o.kind == T5_BEAM)
        *k = beam_candidates(s, t);
    else if (t5_constraints_any(&s->constraints))
        edit_logits(s, t);
    return rank(s, *k, t, err);
}
