/* search.c - steps a decoder over a batch of sources until every sequence is finished.
 *
 * All sources start together, so all rows of a step stand at the same position. Every source starts
 * as one row; its first step branches into its beams or samples. A row is rebuilt for each step
 * from its parent: the tokens so far and, for the caches, which slot holds which position (a slot's
 * positions are never written twice, so that beams share what they have in common). Rows of
 * finished sequences are not rebuilt: the batch shrinks. */
/* SPDX-License-Identifier: MIT */
#include "t5/search_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

int64_t t5_search_rows(const struct t5_search_options *o)
{
    return o->kind == T5_BEAM ? o->beams : o->kind == T5_SAMPLE ? o->returned : 1;
}

static int rows_init(struct rows *r, int64_t n, int64_t length, struct t5_err *err)
{
    size_t rows = (size_t)n, positions = (size_t)length;
    r->token = t5_alloc(rows, sizeof *r->token, "rows", err);
    r->source = t5_alloc(rows, sizeof *r->source, "rows", err);
    r->lane = t5_alloc(rows, sizeof *r->lane, "rows", err);
    r->sequence = t5_alloc(rows, (positions + 1) * sizeof *r->sequence, "rows", err);
    r->logprobs = t5_alloc_zeroed(rows, (positions + 1) * sizeof *r->logprobs, "rows", err);
    r->history = t5_alloc_zeroed(rows, positions * sizeof *r->history, "rows", err);
    return r->token && r->source && r->lane && r->sequence && r->logprobs && r->history ? 0 : -1;
}

static void rows_free(struct rows *r)
{
    free(r->token);
    free(r->source);
    free(r->lane);
    free(r->sequence);
    free(r->logprobs);
    free(r->history);
}

static int alloc_beams(struct t5_search *s, struct t5_err *err)
{
    s->beam_rules = (struct t5_beam_rules){s->o.beams, s->o.max_new, s->o.length_penalty,
                                           s->o.early, s->config->eos};
    s->beams = t5_alloc_zeroed((size_t)s->sources, sizeof *s->beams, "beams", err);
    s->candidates =
        t5_alloc((size_t)(s->lanes * s->most), sizeof *s->candidates, "candidates", err);
    s->on = t5_alloc((size_t)s->lanes, sizeof *s->on, "candidates", err);
    if (!s->beams || !s->candidates || !s->on)
        return -1;
    for (int64_t i = 0; i < s->sources; i++)
        if (t5_beam_init(&s->beams[i], &s->beam_rules, err))
            return -1;
    return 0;
}

static int alloc_arrays(struct t5_search *s, struct t5_err *err)
{
    size_t rows = (size_t)s->max_rows, most = (size_t)s->most, vocab = (size_t)s->config->vocab;
    size_t edits = rows * ((size_t)s->o.max_new + 2 + (size_t)t5_search_n_bans(s));
    if (rows_init(&s->now, s->max_rows, s->o.max_new, err) ||
        rows_init(&s->next, s->max_rows, s->o.max_new, err) ||
        t5_constraints_init(&s->constraints, s->config->vocab, s->o.max_new + 1, err) ||
        !(s->position = t5_alloc(rows, sizeof *s->position, "rows", err)) ||
        !(s->slot = t5_alloc(rows, sizeof *s->slot, "rows", err)) ||
        !(s->edit_row = t5_alloc(edits, sizeof *s->edit_row, "edits", err)) ||
        !(s->edit_id = t5_alloc(edits, sizeof *s->edit_id, "edits", err)) ||
        !(s->value = t5_alloc(rows, most * sizeof *s->value, "candidates", err)) ||
        !(s->id = t5_alloc(rows, most * sizeof *s->id, "candidates", err)) ||
        !(s->lse = t5_alloc(rows, sizeof *s->lse, "candidates", err)) ||
        !(s->p = t5_alloc(most, sizeof *s->p, "candidates", err)) ||
        !(s->hash = t5_alloc((size_t)s->sources, sizeof *s->hash, "rows", err)) ||
        !(s->results = t5_alloc(rows, (size_t)s->o.max_new * sizeof *s->results, "results", err)) ||
        !(s->result_logprobs =
              t5_alloc(rows, (size_t)s->o.max_new * sizeof *s->result_logprobs, "results", err)))
        return -1;
    if (s->most > DEVICE_CANDIDATES &&
        (!(s->logits = t5_alloc(rows, vocab * sizeof *s->logits, "logits", err)) ||
         !(s->ranked = t5_alloc(vocab, sizeof *s->ranked, "logits", err))))
        return -1;
    return s->o.kind == T5_BEAM ? alloc_beams(s, err) : 0;
}

int t5_search_open(struct t5_search **out, struct t5_model *model,
                   const struct t5_search_options *options, int64_t sources, int64_t source_tokens,
                   struct t5_err *err)
{
    struct t5_search *s = t5_alloc_zeroed(1, sizeof *s, "a search", err);
    *out = NULL;
    if (!s)
        return -1;
    s->o = *options;
    s->config = t5_model_config(model);
    s->lanes = t5_search_rows(options);
    s->sources = sources;
    s->max_rows = sources * s->lanes;
    s->most = t5_search_most_candidates(s);
    s->constraints = (struct t5_constraints){.penalty = (float)options->repetition_penalty,
                                             .no_repeat = options->no_repeat,
                                             .min_new = options->min_new,
                                             .bans = options->bans,
                                             .eos = s->config->eos};
    struct t5_decoder_limits limits = {
        .rows = s->max_rows,
        .slots = s->max_rows,
        .length = options->max_new,
        .sources = sources,
        .source_tokens = source_tokens,
        .candidates = s->most < DEVICE_CANDIDATES ? s->most : DEVICE_CANDIDATES};
    if (alloc_arrays(s, err) || t5_decoder_open(&s->decoder, model, &limits, err)) {
        t5_search_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void t5_search_close(struct t5_search *s)
{
    if (!s)
        return;
    t5_decoder_close(s->decoder);
    t5_constraints_free(&s->constraints);
    for (int64_t i = 0; s->beams && i < s->sources; i++)
        t5_beam_free(&s->beams[i]);
    rows_free(&s->now);
    rows_free(&s->next);
    void *const owned[] = {s->beams,   s->position, s->slot,       s->edit_row,
                           s->edit_id, s->value,    s->lse,        s->id,
                           s->logits,  s->ranked,   s->candidates, s->p,
                           s->on,      s->hash,     s->results,    s->result_logprobs};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    free(s);
}

/* One row a source, at the start token. */
static void start(struct t5_search *s, const int32_t *ids, const int32_t *offsets, int64_t n)
{
    struct rows *r = &s->now;
    r->n = n;
    for (int64_t i = 0; i < n; i++) {
        r->token[i] = r->sequence[i * (s->o.max_new + 1)] = s->config->decoder_start;
        r->source[i] = (int32_t)i;
        r->lane[i] = 0;
        if (s->o.kind == T5_BEAM)
            t5_beam_start(&s->beams[i]);
        if (s->o.kind == T5_SAMPLE)
            s->hash[i] = t5_sampling_hash(ids + offsets[i], offsets[i + 1] - offsets[i]);
    }
}

/* Adds to the next step the row that continues row `parent` of this one, which stood at t. */
static void push_row(struct t5_search *s, int64_t parent, int32_t token, float logprob,
                     int64_t lane, int64_t t)
{
    struct rows *to = &s->next;
    const struct rows *from = &s->now;
    int64_t length = s->o.max_new, i = to->n++;
    int32_t *sequence = to->sequence + i * (length + 1), *history = to->history + i * length;
    memcpy(sequence, from->sequence + parent * (length + 1), (size_t)(t + 1) * sizeof *sequence);
    float *logprobs = to->logprobs + i * (length + 1);
    memcpy(logprobs, from->logprobs + parent * (length + 1), (size_t)(t + 1) * sizeof *logprobs);
    memcpy(history, from->history + parent * length, (size_t)t * sizeof *history);
    sequence[t + 1] = token;
    logprobs[t + 1] = logprob;
    history[t] = (int32_t)(from->source[parent] * s->lanes + from->lane[parent]);
    to->token[i] = token;
    to->source[i] = from->source[parent];
    to->lane[i] = (int32_t)lane;
}

static int step(struct t5_search *s, int64_t t, struct t5_err *err)
{
    const struct rows *r = &s->now;
    for (int64_t i = 0; i < r->n; i++) {
        s->position[i] = (int32_t)t;
        s->slot[i] = (int32_t)(r->source[i] * s->lanes + r->lane[i]);
    }
    struct t5_decoder_rows rows = {.n_rows = r->n,
                                   .token = r->token,
                                   .position = s->position,
                                   .slot = s->slot,
                                   .source = r->source,
                                   .history = r->history};
    return t5_decoder_step(s->decoder, &rows, err);
}

/* Ends or continues the sequence of `row` by its candidate `which` of k. */
static void take(struct t5_search *s, struct t5_hypothesis *out, int64_t row, int64_t lane,
                 int64_t which, int64_t k, int64_t t)
{
    int32_t token = s->id[row * k + which];
    float logprob = s->value[row * k + which] - s->lse[row];
    int eos = token == s->config->eos;
    if (!eos && t + 1 < s->o.max_new) {
        push_row(s, row, token, logprob, lane, t);
        return;
    }
    int64_t at = s->now.source[row] * s->lanes + lane, from = row * (s->o.max_new + 1) + 1;
    int32_t *ids = s->results + at * s->o.max_new;
    float *logprobs = s->result_logprobs + at * s->o.max_new;
    memcpy(ids, s->now.sequence + from, (size_t)t * sizeof *ids);
    memcpy(logprobs, s->now.logprobs + from, (size_t)t * sizeof *logprobs);
    ids[t] = token;
    logprobs[t] = logprob;
    out[at] = (struct t5_hypothesis){.ids = ids, .logprobs = logprobs, .n = t + 1, .eos = eos};
}

static void advance_greedy(struct t5_search *s, struct t5_hypothesis *out, int64_t k, int64_t t)
{
    for (int64_t row = 0; row < s->now.n; row++)
        take(s, out, row, 0, 0, k, t);
}

/* The first step's row of a source is the parent of all its samples. */
static void advance_samples(struct t5_search *s, struct t5_hypothesis *out, int64_t k, int64_t t)
{
    for (int64_t row = 0; row < s->now.n; row++) {
        int64_t lane = t == 0 ? 0 : s->now.lane[row];
        int64_t end = t == 0 ? s->lanes : lane + 1;
        int64_t kept = t5_sampling_filter(s->p, s->value + row * k, k, &s->o.sampling);
        for (; lane < end; lane++) {
            double u = t5_sampling_uniform(s->o.seed, s->hash[s->now.source[row]], (uint32_t)lane,
                                           (uint32_t)t);
            take(s, out, row, lane, t5_sampling_pick(s->p, kept, u), k, t);
        }
    }
}

static void collect(struct t5_search *s, struct t5_hypothesis *out, int64_t source)
{
    const struct t5_beam *beam = &s->beams[source];
    for (int64_t i = 0; i < s->o.returned; i++) {
        struct t5_hypothesis *h = &out[source * s->o.returned + i];
        *h = (struct t5_hypothesis){0};
        if (i >= beam->n_finished)
            continue;
        const struct t5_beam_hypothesis *f = &beam->finished[i];
        *h = (struct t5_hypothesis){f->ids, f->logprobs, f->n, f->ids[f->n - 1] == s->config->eos,
                                    f->score};
    }
}

/* The continuations of row `row`, the source's running beam `which`, with their scores after the
 * rules. */
static int64_t beam_row(struct t5_search *s, struct t5_beam_candidate *to, int64_t row,
                        int64_t which, int64_t k, int64_t t)
{
    float sum = s->beams[s->now.source[row]].running[which], lse = s->lse[row];
    int ruled = t5_constraints_any(&s->constraints) && t5_search_forced(s, t) < 0;
    if (ruled)
        t5_constraints_set(&s->constraints, s->now.sequence + row * (s->o.max_new + 1), t + 1);
    for (int64_t i = 0; i < k; i++) {
        int32_t id = s->id[row * k + i];
        float score = s->value[row * k + i] - lse;
        if (ruled)
            score = t5_constraints_score(&s->constraints, id, score);
        to[i] = (struct t5_beam_candidate){score + sum, (int32_t)which, id, score};
    }
    return k;
}

/* A source's rows stand one behind the other, in the order of its running beams. */
static void advance_beams(struct t5_search *s, struct t5_hypothesis *out, int64_t k, int64_t t)
{
    int64_t stride = s->o.max_new + 1;
    for (int64_t first = 0, end; first < s->now.n; first = end) {
        int32_t source = s->now.source[first];
        int64_t n = 0;
        for (end = first; end < s->now.n && s->now.source[end] == source; end++)
            n += beam_row(s, s->candidates + n, end, end - first, k, t);
        int64_t on = t5_beam_advance(&s->beams[source], s->on, s->candidates, n,
                                     s->now.sequence + first * stride,
                                     s->now.logprobs + first * stride, stride, t + 1);
        for (int64_t i = 0; i < on; i++)
            push_row(s, first + s->on[i].beam, s->on[i].id, s->on[i].logprob, i, t);
        if (on == 0)
            collect(s, out, source);
    }
}

static int search_step(struct t5_search *s, struct t5_hypothesis *out, int64_t t,
                       struct t5_err *err)
{
    int64_t k;
    if (step(s, t, err) || t5_search_candidates(s, &k, t, err))
        return -1;
    s->next.n = 0;
    if (s->o.kind == T5_BEAM)
        advance_beams(s, out, k, t);
    else if (s->o.kind == T5_SAMPLE)
        advance_samples(s, out, k, t);
    else
        advance_greedy(s, out, k, t);
    struct rows swap = s->now;
    s->now = s->next;
    s->next = swap;
    return 0;
}

int t5_search_batch(struct t5_search *s, struct t5_hypothesis *out, const int32_t *ids,
                    const int32_t *offsets, const int32_t *adapter, int64_t n, struct t5_err *err)
{
    s->failed = -1;
    if (t5_decoder_encode(s->decoder, ids, offsets, adapter, n, err))
        return -1;
    start(s, ids, offsets, n);
    for (int64_t t = 0; s->now.n > 0; t++)
        if (search_step(s, out, t, err))
            return -1;
    return 0;
}

int64_t t5_search_failed(const struct t5_search *s)
{
    return s->failed;
}
