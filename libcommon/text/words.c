/* words.c - the word table: open addressing over one run of text. */
/* SPDX-License-Identifier: MIT */
#include "text/words.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "text/porter.h"

#define NOT_YET (-1)

void t5_words_free(struct t5_words *words)
{
    if (!words)
        return;
    t5_buf_free(&words->text);
    t5_buf_free(&words->scratch);
    free(words->words);
    free(words->slots);
    *words = (struct t5_words){.stem = words->stem};
}

void t5_words_clear(struct t5_words *words)
{
    words->n = words->text.n = 0;
    if (words->n_slots)
        memset(words->slots, 0, words->n_slots * sizeof *words->slots);
}

static uint64_t hash_of(const char *word, size_t n)
{
    uint64_t hash = n, part;
    for (; n >= 8; n -= 8, word += 8) {
        memcpy(&part, word, 8);
        hash = t5_mix(hash, part);
    }
    part = 0;
    memcpy(&part, word, n);
    return t5_mix(hash, part);
}

/* The slot that holds the word, or the free one where it belongs. */
static size_t find_slot(const struct t5_words *words, const char *word, size_t n, uint64_t hash)
{
    size_t mask = words->n_slots - 1, at = (size_t)hash & mask;
    for (; words->slots[at]; at = (at + 1) & mask) {
        const struct t5_word *w = &words->words[words->slots[at] - 1];
        if (w->hash == hash && w->n == n && memcmp(words->text.data + w->at, word, n) == 0)
            break;
    }
    return at;
}

static int grow(struct t5_words *words, struct t5_err *err)
{
    size_t capacity = words->capacity ? 2 * words->capacity : 1024, n_slots = 2 * capacity;
    struct t5_word *w = realloc(words->words, capacity * sizeof *w);
    if (!w)
        return t5_fail_memory(err, capacity * sizeof *w, "the word table");
    words->words = w;
    int32_t *slots = t5_alloc_zeroed(n_slots, sizeof *slots, "the word table", err);
    if (!slots)
        return -1;
    free(words->slots);
    words->slots = slots;
    words->n_slots = n_slots;
    words->capacity = capacity;
    for (size_t i = 0; i < words->n; i++) {
        size_t at = (size_t)w[i].hash & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = (int32_t)i + 1;
    }
    return 0;
}

static int intern(int32_t *number, struct t5_words *words, const char *word, size_t n,
                  struct t5_err *err)
{
    if (words->n == words->capacity) {
        if (words->n >= INT32_MAX / 4)
            return t5_fail(err, "more than %d different words", INT32_MAX / 4);
        if (grow(words, err))
            return -1;
    }
    uint64_t hash = hash_of(word, n);
    size_t slot = find_slot(words, word, n, hash);
    if (words->slots[slot] == 0) {
        size_t at = words->text.n;
        if (t5_buf_append(&words->text, word, n, err))
            return -1;
        words->words[words->n] = (struct t5_word){.at = at, .n = n, .hash = hash, .token = NOT_YET};
        words->slots[slot] = (int32_t)++words->n;
    }
    *number = words->slots[slot] - 1;
    return 0;
}

/* Stemming is for English words. */
static int can_stem(const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (word[i] & 0x80)
            return 0;
    return n > 3;
}

int t5_words_token(int32_t *token, struct t5_words *words, const char *word, size_t n,
                   struct t5_err *err)
{
    int32_t number;
    if (intern(&number, words, word, n, err))
        return -1;
    *token = words->words[number].token;
    if (*token != NOT_YET)
        return 0;
    *token = number;
    if (words->stem && can_stem(word, n)) {
        words->scratch.n = 0;
        if (t5_buf_append(&words->scratch, word, n, err) ||
            intern(token, words, words->scratch.data, t5_porter_stem(words->scratch.data, n), err))
            return -1;
    }
    words->words[number].token = *token;
    return 0;
}
