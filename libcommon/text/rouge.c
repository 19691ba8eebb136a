/* rouge.c - texts to tokens, tokens to scores. Does not read records or print: see tools/rouge.c.
 */
/* SPDX-License-Identifier: MIT */
#include "text/rouge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/lcs.h"
#include "text/words.h"

/* What the word cache may hold when a record begins. */
#define CACHED_WORDS ((size_t)1 << 18)
#define CACHED_BYTES ((size_t)8 << 20)

const char *const t5_rouge_names[T5_ROUGE_KINDS] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};

/* A text as tokens, and where its lines end. Lines without a token are left out: they match
 * nothing. */
struct text {
    int32_t *tokens;    /* (n) */
    uint32_t *line_end; /* (n_lines) index one past the line's last token */
    size_t n, n_lines, capacity;
};

struct bigram {
    uint64_t key; /* first token, second token, plus 1; 0: free */
    size_t count;
};

struct t5_rouge {
    struct t5_words words;
    struct text reference, prediction;
    struct t5_buf lower;    /* the word being read */
    struct bigram *bigrams; /* hash table */
    size_t bigrams_capacity;
    uint8_t *marked; /* (marked_capacity) */
    size_t marked_capacity;
    struct t5_lcs lcs;
};

int t5_rouge_open(struct t5_rouge **out, int stem, struct t5_err *err)
{
    if (!(*out = t5_alloc_zeroed(1, sizeof **out, "the scorer", err)))
        return -1;
    (*out)->words.stem = stem;
    return 0;
}

static void text_free(struct text *text)
{
    free(text->tokens);
    free(text->line_end);
}

void t5_rouge_close(struct t5_rouge *rouge)
{
    if (!rouge)
        return;
    t5_words_free(&rouge->words);
    text_free(&rouge->reference);
    text_free(&rouge->prediction);
    t5_buf_free(&rouge->lower);
    free(rouge->bigrams);
    free(rouge->marked);
    t5_lcs_free(&rouge->lcs);
    free(rouge);
}

/* Another record may be short enough. */
static int skippable(struct t5_err *err, int rc)
{
    err->skippable = 1;
    return rc;
}

/* n bytes hold at most n / 2 + 1 tokens. */
static int text_reserve(struct text *text, size_t n, struct t5_err *err)
{
    size_t capacity = n / 2 + 1;
    text->n = text->n_lines = 0;
    if (capacity <= text->capacity)
        return 0;
    if (capacity > INT32_MAX)
        return skippable(err, t5_fail(err, "a text of %zu bytes is too long to score", n));
    text_free(text);
    *text = (struct text){0};
    text->tokens = t5_alloc(capacity, sizeof *text->tokens, "tokens", err);
    text->line_end = t5_alloc(capacity, sizeof *text->line_end, "lines", err);
    if (!text->tokens || !text->line_end) {
        text_free(text);
        *text = (struct text){0};
        return -1;
    }
    text->capacity = capacity;
    return 0;
}

/* a-z, 0-9 for what Unicode's lower-casing maps there from one byte; 0 for the rest. */
static char lower_ascii(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c + ('a' - 'A'));
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : 0;
}

/* The letter a-z, 0-9 at p after lower-casing, or 0, and the bytes it takes. Beyond ASCII there are
 * two: KELVIN SIGN is k, and capital I WITH DOT is i and a combining dot (which separates). */
static char letter_at(size_t *bytes, int *ends_word, const char *p, size_t n)
{
    *bytes = 1;
    *ends_word = 0;
    char c = lower_ascii(*p);
    if (c || !((unsigned char)*p & 0x80))
        return c;
    if (n >= 3 && memcmp(p, "\xe2\x84\xaa", 3) == 0) {
        *bytes = 3;
        return 'k';
    }
    if (n >= 2 && memcmp(p, "\xc4\xb0", 2) == 0) {
        *bytes = 2;
        *ends_word = 1;
        return 'i';
    }
    return 0;
}

static int end_word(struct text *text, struct t5_rouge *rouge, struct t5_err *err)
{
    size_t n = rouge->lower.n;
    if (n == 0)
        return 0;
    rouge->lower.n = 0;
    return t5_words_token(&text->tokens[text->n++], &rouge->words, rouge->lower.data, n, err);
}

static void end_line(struct text *text)
{
    size_t start = text->n_lines ? text->line_end[text->n_lines - 1] : 0;
    if (text->n > start)
        text->line_end[text->n_lines++] = (uint32_t)text->n;
}

static int tokenise(struct text *text, struct t5_rouge *rouge, const char *p, size_t n,
                    struct t5_err *err)
{
    rouge->lower.n = 0;
    if (text_reserve(text, n, err) || t5_buf_reserve(&rouge->lower, n, err))
        return -1;
    for (const char *end = p + n; p < end;) {
        size_t bytes;
        int ends_word;
        char c = letter_at(&bytes, &ends_word, p, (size_t)(end - p));
        if (c)
            rouge->lower.data[rouge->lower.n++] = c;
        if ((!c || ends_word) && end_word(text, rouge, err))
            return -1;
        if (*p == '\n')
            end_line(text);
        p += bytes;
    }
    if (end_word(text, rouge, err))
        return -1;
    end_line(text);
    return 0;
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

static void count_words(struct t5_word *words, const struct text *text, int by)
{
    for (size_t i = 0; i < text->n; i++)
        words[text->tokens[i]].count += by;
}

static void clear_counts(struct t5_word *words, const struct text *text)
{
    for (size_t i = 0; i < text->n; i++)
        words[text->tokens[i]].count = 0;
}

/* ROUGE-1: every word counts as often as both sides have it. */
static struct t5_prf score_words(struct t5_rouge *rouge)
{
    const struct text *ref = &rouge->reference, *pred = &rouge->prediction;
    struct t5_word *words = rouge->words.words;
    size_t hits = 0;
    count_words(words, ref, 1);
    for (size_t i = 0; i < pred->n; i++)
        hits += words[pred->tokens[i]].count-- > 0;
    clear_counts(words, ref);
    clear_counts(words, pred);
    return prf(hits, ref->n, pred->n);
}

static struct bigram *find_bigram(struct bigram *table, size_t mask, const int32_t *tokens)
{
    uint64_t key = ((uint64_t)(uint32_t)tokens[0] << 32 | (uint32_t)tokens[1]) + 1;
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(hash ^ hash >> 32) & mask;
    while (table[at].key && table[at].key != key)
        at = (at + 1) & mask;
    if (table[at].key == 0)
        table[at] = (struct bigram){.key = key};
    return &table[at];
}

/* ROUGE-2. The table is at most half full. */
static int score_bigrams(struct t5_prf *out, struct t5_rouge *rouge, struct t5_err *err)
{
    const struct text *ref = &rouge->reference, *pred = &rouge->prediction;
    size_t n_ref = ref->n ? ref->n - 1 : 0, n_pred = pred->n ? pred->n - 1 : 0;
    size_t hits = 0, capacity = 16;
    while (capacity < 2 * (n_ref + n_pred))
        capacity *= 2;
    if (capacity > rouge->bigrams_capacity) {
        free(rouge->bigrams);
        rouge->bigrams_capacity = 0;
        if (!(rouge->bigrams = t5_alloc(capacity, sizeof *rouge->bigrams, "bigrams", err)))
            return -1;
        rouge->bigrams_capacity = capacity;
    }
    memset(rouge->bigrams, 0, capacity * sizeof *rouge->bigrams);
    for (size_t i = 0; i < n_ref; i++)
        find_bigram(rouge->bigrams, capacity - 1, ref->tokens + i)->count++;
    for (size_t i = 0; i < n_pred; i++) {
        struct bigram *b = find_bigram(rouge->bigrams, capacity - 1, pred->tokens + i);
        hits += b->count > 0;
        b->count -= b->count > 0;
    }
    *out = prf(hits, n_ref, n_pred);
    return 0;
}

/* ROUGE-L: the texts as one sequence each. */
static int score_lcs(struct t5_prf *out, struct t5_rouge *rouge, struct t5_err *err)
{
    const struct text *ref = &rouge->reference, *pred = &rouge->prediction;
    size_t hits;
    if (t5_lcs_set(&rouge->lcs, ref->tokens, ref->n, rouge->words.n, err) ||
        t5_lcs_length(&hits, &rouge->lcs, pred->tokens, pred->n, err))
        return -1;
    *out = prf(hits, ref->n, pred->n);
    return 0;
}

/* Marks what the reference's tokens [from, to) have in common with any line of the prediction, and
 * adds to *hits those that the prediction still has to give: each of its tokens counts once. */
static int union_lcs(size_t *hits, struct t5_rouge *rouge, size_t from, size_t to,
                     struct t5_err *err)
{
    const struct text *pred = &rouge->prediction;
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
    const struct text *ref = &rouge->reference, *pred = &rouge->prediction;
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

int t5_rouge_score(struct t5_rouge_scores *out, struct t5_rouge *rouge, const char *reference,
                   size_t reference_n, const char *prediction, size_t prediction_n,
                   struct t5_err *err)
{
    const struct text *ref = &rouge->reference, *pred = &rouge->prediction;
    if (rouge->words.n > CACHED_WORDS || rouge->words.text.n > CACHED_BYTES)
        t5_words_clear(&rouge->words);
    if (tokenise(&rouge->reference, rouge, reference, reference_n, err) ||
        tokenise(&rouge->prediction, rouge, prediction, prediction_n, err))
        return -1;
    if (ref->n && pred->n > T5_ROUGE_MAX_CELLS / ref->n)
        return skippable(
            err, t5_fail(err, "texts too long to compare (%zu x %zu tokens)", ref->n, pred->n));
    out->of[T5_ROUGE_1] = score_words(rouge);
    if (score_bigrams(&out->of[T5_ROUGE_2], rouge, err) ||
        score_lcs(&out->of[T5_ROUGE_L], rouge, err))
        return -1;
    if (ref->n_lines <= 1 && pred->n_lines <= 1) { /* one LCS, which no count can clip */
        out->of[T5_ROUGE_LSUM] = out->of[T5_ROUGE_L];
        return 0;
    }
    return score_lcs_by_line(&out->of[T5_ROUGE_LSUM], rouge, err);
}

void t5_rouge_best(struct t5_rouge_scores *best, const struct t5_rouge_scores *scores)
{
    for (int k = 0; k < T5_ROUGE_KINDS; k++)
        if (scores->of[k].fmeasure > best->of[k].fmeasure)
            best->of[k] = scores->of[k];
}

/* Neumaier's summation: *lost collects what rounding *sum dropped. */
static void add(double *sum, double *lost, double x)
{
    double next = *sum + x;
    *lost += fabs(*sum) >= fabs(x) ? (*sum - next) + x : (x - next) + *sum;
    *sum = next;
}

void t5_rouge_total_add(struct t5_rouge_total *total, const struct t5_rouge_scores *scores)
{
    total->count++;
    for (int k = 0; k < T5_ROUGE_KINDS; k++) {
        struct t5_prf *sum = &total->sum.of[k], *lost = &total->lost.of[k];
        add(&sum->precision, &lost->precision, scores->of[k].precision);
        add(&sum->recall, &lost->recall, scores->of[k].recall);
        add(&sum->fmeasure, &lost->fmeasure, scores->of[k].fmeasure);
    }
}

struct t5_rouge_scores t5_rouge_total_mean(const struct t5_rouge_total *total)
{
    struct t5_rouge_scores mean;
    double n = (double)total->count;
    for (int k = 0; k < T5_ROUGE_KINDS; k++) {
        const struct t5_prf *sum = &total->sum.of[k], *lost = &total->lost.of[k];
        mean.of[k].precision = (sum->precision + lost->precision) / n;
        mean.of[k].recall = (sum->recall + lost->recall) / n;
        mean.of[k].fmeasure = (sum->fmeasure + lost->fmeasure) / n;
    }
    return mean;
}
