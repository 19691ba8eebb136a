/* rouge.c - tokens to scores. Does not cut texts (rouge_text.c), add scores up (rouge_measures.c),
 * read records or print (tools/rouge.c). */
/* SPDX-License-Identifier: MIT */
#include "text/rouge.h"

#include <stdlib.h>
#include <string.h>

#include "text/lcs.h"

/* What the word cache may hold when a record begins. */
#define CACHED_WORDS ((size_t)1 << 18)
#define CACHED_BYTES ((size_t)8 << 20)

struct gram {
    uint64_t key; /* the number of the n-gram without its last token, that token, plus 1; 0: free */
    size_t count;
    int32_t number;
};

struct t5_rouge {
    struct t5_rouge_options options;
    struct t5_words words;
    struct t5_rouge_text reference, prediction;
    struct gram *grams; /* hash table */
    size_t grams_capacity;
    struct t5_buf numbers; /* int32_t: of n-grams of both texts */
    uint8_t *marked;       /* (marked_capacity) */
    size_t marked_capacity;
    struct t5_lcs lcs;
    struct t5_prf whole; /* ROUGE-L of these texts, once it is known */
    int whole_known;
};

int t5_rouge_open(struct t5_rouge **out, const struct t5_rouge_options *options, struct t5_err *err)
{
    if (!(*out = t5_alloc_zeroed(1, sizeof **out, "the scorer", err)))
        return -1;
    (*out)->options = *options;
    (*out)->words.stem = options->stem;
    return 0;
}

void t5_rouge_close(struct t5_rouge *rouge)
{
    if (!rouge)
        return;
    t5_words_free(&rouge->words);
    t5_rouge_text_free(&rouge->reference);
    t5_rouge_text_free(&rouge->prediction);
    t5_buf_free(&rouge->numbers);
    free(rouge->grams);
    free(rouge->marked);
    t5_lcs_free(&rouge->lcs);
    free(rouge);
}

static struct t5_prf prf(size_t hits, size_t in_reference, size_t in_prediction)
{
    struct t5_prf s = {0, 0, 0};
    if (in_prediction)
        s.precision = (double)hits / (double)in_prediction;
    if (in_reference)
        s.recall = (double)hits / (double)in_reference;
    if (s.precision + s.recall > 0)
        s.fmeasure = 2 * s.precision * s.recall / (s.precision + s.recall);
    return s;
}

static void count_words(struct t5_word *words, const struct t5_rouge_text *text, int by)
{
    for (size_t i = 0; i < text->n; i++)
        words[text->tokens[i]].count += by;
}

static void clear_counts(struct t5_word *words, const struct t5_rouge_text *text)
{
    for (size_t i = 0; i < text->n; i++)
        words[text->tokens[i]].count = 0;
}

/* ROUGE-1: every word counts as often as both sides have it. */
static struct t5_prf score_words(struct t5_rouge *rouge)
{
    const struct t5_rouge_text *ref = &rouge->reference, *pred = &rouge->prediction;
    struct t5_word *words = rouge->words.words;
    size_t hits = 0;
    count_words(words, ref, 1);
    for (size_t i = 0; i < pred->n; i++)
        hits += words[pred->tokens[i]].count-- > 0;
    clear_counts(words, ref);
    clear_counts(words, pred);
    return prf(hits, ref->n, pred->n);
}

static struct gram *find_gram(struct gram *table, size_t mask, int32_t head, int32_t last)
{
    uint64_t key = ((uint64_t)(uint32_t)head << 32 | (uint32_t)last) + 1;
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(hash ^ hash >> 32) & mask;
    while (table[at].key && table[at].key != key)
        at = (at + 1) & mask;
    if (table[at].key == 0)
        table[at] = (struct gram){.key = key, .number = -1};
    return &table[at];
}

/* Empties the table, with room to be at most half full. */
static int clear_grams(struct t5_rouge *rouge, size_t n, size_t *mask, struct t5_err *err)
{
    size_t capacity = 16;
    while (capacity < 2 * n)
        capacity *= 2;
    if (capacity > rouge->grams_capacity) {
        free(rouge->grams);
        rouge->grams_capacity = 0;
        if (!(rouge->grams = t5_alloc(capacity, sizeof *rouge->grams, "n-grams", err)))
            return -1;
        rouge->grams_capacity = capacity;
    }
    memset(rouge->grams, 0, capacity * sizeof *rouge->grams);
    *mask = capacity - 1;
    return 0;
}

static size_t count_grams(const struct t5_rouge_text *text, int n)
{
    return text->n >= (size_t)n ? text->n - (size_t)n + 1 : 0;
}

/* Numbers the n-grams of a text by those one token shorter, in place. */
static void number_grams(int32_t *numbers, int32_t *next, struct gram *table, size_t mask,
                         const struct t5_rouge_text *text, int n)
{
    for (size_t i = 0; i < count_grams(text, n); i++) {
        struct gram *g = find_gram(table, mask, numbers[i], text->tokens[i + (size_t)n - 1]);
        if (g->number < 0)
            g->number = (*next)++;
        numbers[i] = g->number;
    }
}

/* Sets *ref and *pred to numbers for the n-grams of both texts: equal ones have the same. */
static int find_numbers(int32_t **ref, int32_t **pred, struct t5_rouge *rouge, int n,
                        struct t5_err *err)
{
    const struct t5_rouge_text *r = &rouge->reference, *p = &rouge->prediction;
    size_t mask;
    *ref = r->tokens;
    *pred = p->tokens;
    if (n == 1)
        return 0;
    rouge->numbers.n = 0;
    if (t5_buf_append(&rouge->numbers, r->tokens, r->n * sizeof **ref, err) ||
        t5_buf_append(&rouge->numbers, p->tokens, p->n * sizeof **pred, err))
        return -1;
    *ref = (int32_t *)(void *)rouge->numbers.data;
    *pred = *ref + r->n;
    for (int k = 2; k <= n; k++) {
        int32_t next = 0;
        if (clear_grams(rouge, count_grams(r, k) + count_grams(p, k), &mask, err))
            return -1;
        number_grams(*ref, &next, rouge->grams, mask, r, k);
        number_grams(*pred, &next, rouge->grams, mask, p, k);
    }
    return 0;
}

/* ROUGE-N of more than one. */
static int score_grams(struct t5_prf *out, struct t5_rouge *rouge, int n, struct t5_err *err)
{
    const struct t5_rouge_text *ref = &rouge->reference, *pred = &rouge->prediction;
    size_t n_ref = count_grams(ref, n), n_pred = count_grams(pred, n), hits = 0, mask;
    int32_t *in_ref, *in_pred;
    if (find_numbers(&in_ref, &in_pred, rouge, n - 1, err) ||
        clear_grams(rouge, n_ref + n_pred, &mask, err))
        return -1;
    for (size_t i = 0; i < n_ref; i++)
        find_gram(rouge->grams, mask, in_ref[i], ref->tokens[i + (size_t)n - 1])->count++;
    for (size_t i = 0; i < n_pred; i++) {
        struct gram *g = find_gram(rouge->grams, mask, in_pred[i], pred->tokens[i + (size_t)n - 1]);
        hits += g->count > 0;
        g->count -= g->count > 0;
    }
    *out = prf(hits, n_ref, n_pred);
    return 0;
}

/* ROUGE-L: the texts as one sequence each. */
static int score_lcs(struct t5_prf *out, struct t5_rouge *rouge, struct t5_err *err)
{
    const struct t5_rouge_text *ref = &rouge->reference, *pred = &rouge->prediction;
    size_t hits;
    if (!rouge->whole_known) {
        if (t5_lcs_set(&rouge->lcs, ref->tokens, ref->n, rouge->words.n, err) ||
            t5_lcs_length(&hits, &rouge->lcs, pred->tokens, pred->n, err))
            return -1;
        rouge->whole = prf(hits, ref->n, pred->n);
        rouge->whole_known = 1;
    }
    *out = rouge->whole;
    return 0;
}

/* Marks what the reference's tokens [from, to) have in common with any line of the prediction, and
 * adds to *hits those that the prediction still has to give: each of its tokens counts once. */
static int union_lcs(size_t *hits, struct t5_rouge *rouge, size_t from, size_t to,
                     struct t5_err *err)
{
    const struct t5_rouge_text *pred = &rouge->prediction;
    const int32_t *line = rouge->reference.tokens + from;
    struct t5_word *words = rouge->words.words;
    size_t n = to - from, n_marked = 0;
    if (t5_lcs_set(&rouge->lcs, line, n, rouge->words.n, err))
        return -1;
    memset(rouge->marked, 0, n);
    for (size_t k = 0; k < pred->n_lines && n_marked < n; k++) {
        size_t start = k ? pred->line_end[k - 1] : 0;
        if (t5_lcs_mark(rouge->marked, &n_marked, &rouge->lcs, pred->tokens + start,
                        pred->line_end[k] - start, err))
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (rouge->marked[i] && words[line[i]].count > 0) {
            words[line[i]].count--;
            ++*hits;
        }
    return 0;
}

/* ROUGE-Lsum: a union LCS per line of the reference. The reference's own counts need no clipping,
 * since each of its tokens is looked at once. */
static int score_lcs_by_line(struct t5_prf *out, struct t5_rouge *rouge, struct t5_err *err)
{
    const struct t5_rouge_text *ref = &rouge->reference, *pred = &rouge->prediction;
    size_t hits = 0;
    int rc = 0;
    if (ref->n > rouge->marked_capacity) {
        free(rouge->marked);
        rouge->marked_capacity = 0;
        if (!(rouge->marked = t5_alloc(ref->n, 1, "marks", err)))
            return -1;
        rouge->marked_capacity = ref->n;
    }
    count_words(rouge->words.words, pred, 1);
    for (size_t k = 0; k < ref->n_lines && rc == 0; k++)
        rc = union_lcs(&hits, rouge, k ? ref->line_end[k - 1] : 0, ref->line_end[k], err);
    clear_counts(rouge->words.words, pred);
    *out = prf(hits, ref->n, pred->n);
    return rc;
}

static int score_measure(struct t5_prf *out, struct t5_rouge *rouge, int measure,
                         struct t5_err *err)
{
    if (measure == 1)
        return *out = score_words(rouge), 0;
    if (measure > 1)
        return score_grams(out, rouge, measure, err);
    /* Of one line each: one LCS, which no count can clip. */
    if (measure == T5_ROUGE_L || (rouge->reference.n_lines <= 1 && rouge->prediction.n_lines <= 1))
        return score_lcs(out, rouge, err);
    return score_lcs_by_line(out, rouge, err);
}

int t5_rouge_score(struct t5_rouge_scores *out, struct t5_rouge *rouge, const char *reference,
                   size_t reference_n, const char *prediction, size_t prediction_n,
                   struct t5_err *err)
{
    const struct t5_rouge_text *ref = &rouge->reference, *pred = &rouge->prediction;
    const struct t5_rouge_measures *measures = &rouge->options.measures;
    const struct t5_rouge_cut *cut = &rouge->options.cut;
    struct t5_words *words = &rouge->words;
    *out = (struct t5_rouge_scores){0};
    rouge->whole_known = 0;
    if (words->n > CACHED_WORDS || words->text.n > CACHED_BYTES)
        t5_words_clear(words);
    if (t5_rouge_text_set(&rouge->reference, words, cut, reference, reference_n, err) ||
        t5_rouge_text_set(&rouge->prediction, words, cut, prediction, prediction_n, err))
        return -1;
    if (ref->n && pred->n > T5_ROUGE_MAX_CELLS / ref->n) {
        t5_fail(err, "texts too long to compare (%zu x %zu tokens)", ref->n, pred->n);
        err->skippable = 1; /* another record may be short enough */
        return -1;
    }
    for (int k = 0; k < measures->n; k++)
        if (score_measure(&out->of[k], rouge, measures->of[k], err))
            return -1;
    return 0;
}

int t5_rouge_discards(const struct t5_rouge *rouge)
{
    return rouge->reference.discards || rouge->prediction.discards;
}
