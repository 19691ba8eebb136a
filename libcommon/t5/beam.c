/* beam.c - running and finished beams of one source. */
/* SPDX-License-Identifier: MIT */
#include "t5/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

int t5_beam_init(struct t5_beam *beam, const struct t5_beam_rules *rules, struct t5_err *err)
{
    size_t beams = (size_t)rules->beams, length = (size_t)rules->max_new;
    *beam = (struct t5_beam){.rules = rules};
    beam->running = t5_alloc(beams, sizeof *beam->running, "beams", err);
    beam->finished = t5_alloc_zeroed(beams, sizeof *beam->finished, "beams", err);
    beam->ids = t5_alloc(beams, length * sizeof *beam->ids, "beams", err);
    beam->logprobs = t5_alloc(beams, length * sizeof *beam->logprobs, "beams", err);
    if (!beam->running || !beam->finished || !beam->ids || !beam->logprobs) {
        t5_beam_free(beam);
        return -1;
    }
    for (size_t i = 0; i < beams; i++) {
        beam->finished[i].ids = beam->ids + i * length;
        beam->finished[i].logprobs = beam->logprobs + i * length;
    }
    t5_beam_start(beam);
    return 0;
}

void t5_beam_free(struct t5_beam *beam)
{
    free(beam->running);
    free(beam->finished);
    free(beam->ids);
    free(beam->logprobs);
    *beam = (struct t5_beam){0};
}

void t5_beam_start(struct t5_beam *beam)
{
    beam->running[0] = 0;
    beam->n_running = 1;
    beam->n_finished = 0;
}

/* Better first; equal ones in the order of a row of all beams' vocabularies. */
static int by_score(const void *a, const void *b)
{
    const struct t5_beam_candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->beam != y->beam)
        return x->beam < y->beam ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static float normalised(float sum, int64_t length, double length_penalty)
{
    return sum / (float)pow((double)length, length_penalty);
}

/* Enters a finished sequence, a beam's tokens and one more, unless `beams` better ones, or as good
 * and earlier, are there. */
static void finish(struct t5_beam *beam, const struct t5_beam_candidate *c, const int32_t *head,
                   const float *head_logprobs, int64_t length)
{
    float score = normalised(c->score, length, beam->rules->length_penalty);
    int64_t beams = beam->rules->beams, at = beam->n_finished;
    while (at > 0 && beam->finished[at - 1].score < score)
        at--;
    if (at == beams)
        return;
    int64_t last = beam->n_finished < beams ? beam->n_finished++ : beams - 1;
    struct t5_beam_hypothesis h = beam->finished[last]; /* the memory of the one that falls out */
    memmove(&beam->finished[at + 1], &beam->finished[at],
            (size_t)(last - at) * sizeof *beam->finished);
    memcpy(h.ids, head, (size_t)(length - 1) * sizeof *head);
    memcpy(h.logprobs, head_logprobs, (size_t)(length - 1) * sizeof *head_logprobs);
    h.ids[length - 1] = c->id;
    h.logprobs[length - 1] = c->logprob;
    h.score = score;
    h.n = length;
    beam->finished[at] = h;
}

/* Whether a running beam may still enter the finished ones. */
static int can_improve(const struct t5_beam *beam, int64_t length)
{
    const struct t5_beam_rules *rules = beam->rules;
    if (beam->n_finished < rules->beams)
        return 1;
    if (rules->early == T5_EARLY_TRUE)
        return 0;
    int longest = rules->early == T5_EARLY_NEVER && rules->length_penalty > 0;
    float best =
        normalised(beam->running[0], longest ? rules->max_new : length, rules->length_penalty);
    return best > beam->finished[rules->beams - 1].score;
}

int64_t t5_beam_advance(struct t5_beam *beam, struct t5_beam_candidate *next,
                        struct t5_beam_candidate *candidates, int64_t n, const int32_t *sequences,
                        const float *logprobs, int64_t stride, int64_t length)
{
    const struct t5_beam_rules *rules = beam->rules;
    int64_t n_next = 0;
    qsort(candidates, (size_t)n, sizeof *candidates, by_score);
    for (int64_t i = 0; i < n && i < 2 * rules->beams; i++) {
        const struct t5_beam_candidate *c = &candidates[i];
        if (c->score == -INFINITY)
            break;
        if (c->id == rules->eos || length == rules->max_new) {
            if (i < rules->beams)
                finish(beam, c, sequences + c->beam * stride + 1, logprobs + c->beam * stride + 1,
                       length);
        } else if (n_next < rules->beams) {
            beam->running[n_next] = c->score;
            next[n_next++] = *c;
        }
    }
    beam->n_running = n_next;
    return n_next > 0 && can_improve(beam, length) ? n_next : 0;
}
