/* dataset.c - token records in memory; packing. */
/* SPDX-License-Identifier: MIT */
#include "t5/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

#define LONGEST (1 << 28) /* tokens of one record: packed offsets are 32-bit */

/* Makes room for `need` items; grows by half. */
static int grow(void **array, int64_t *capacity, int64_t need, size_t size, struct t5_err *err)
{
    if (need <= *capacity)
        return 0;
    int64_t want = *capacity + *capacity / 2 + 1024;
    want = want < need ? need : want;
    void *p = (uint64_t)want > SIZE_MAX / size ? NULL : realloc(*array, (size_t)want * size);
    if (!p)
        return t5_fail_memory(err, (size_t)want * size, "token records");
    *array = p;
    *capacity = want;
    return 0;
}

static int grow_offsets(struct t5_dataset *d, struct t5_err *err)
{
    int64_t capacity = d->capacity;
    int first = d->n == 0;
    if (grow((void **)&d->input_offsets, &capacity, d->n + 2, sizeof(int64_t), err) ||
        grow((void **)&d->label_offsets, &d->capacity, d->n + 2, sizeof(int64_t), err))
        return -1;
    if (first)
        d->input_offsets[0] = d->label_offsets[0] = 0;
    return 0;
}

int t5_dataset_add(struct t5_dataset *d, const struct t5_token_record *r, struct t5_err *err)
{
    if (d->n >= UINT32_MAX)
        return t5_fail(err, "more than %u records", UINT32_MAX);
    if (r->n_input > LONGEST || r->n_labels > LONGEST)
        return t5_token_record_fail(r, err, "more than %d tokens", LONGEST);
    if (grow_offsets(d, err))
        return -1;
    int64_t in = d->input_offsets[d->n], out = d->label_offsets[d->n];
    if (grow((void **)&d->input, &d->input_capacity, in + r->n_input, sizeof(int32_t), err) ||
        grow((void **)&d->labels, &d->label_capacity, out + r->n_labels, sizeof(int32_t), err))
        return -1;
    memcpy(d->input + in, r->input, (size_t)r->n_input * sizeof(int32_t));
    memcpy(d->labels + out, r->labels, (size_t)r->n_labels * sizeof(int32_t));
    d->n++;
    d->input_offsets[d->n] = in + r->n_input;
    d->label_offsets[d->n] = out + r->n_labels;
    if (r->n_input > d->longest_input)
        d->longest_input = r->n_input;
    if (r->n_labels > d->longest_labels)
        d->longest_labels = r->n_labels;
    if (r->n_input + r->n_labels > d->longest_record)
        d->longest_record = r->n_input + r->n_labels;
    return 0;
}

void t5_dataset_free(struct t5_dataset *d)
{
    free(d->input);
    free(d->labels);
    free(d->input_offsets);
    free(d->label_offsets);
    *d = (struct t5_dataset){0};
}

static void digest_ids(struct sha256_ctx *sha, const int32_t *ids, int64_t n)
{
    sha256_update(sha, sizeof n, (const uint8_t *)&n);
    sha256_update(sha, (size_t)n * sizeof *ids, (const uint8_t *)ids);
}

void t5_dataset_digest(char out[65], const struct t5_dataset *d)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (int64_t i = 0; i < d->n; i++) {
        digest_ids(&sha, d->input + d->input_offsets[i], t5_dataset_inputs(d, i));
        digest_ids(&sha, d->labels + d->label_offsets[i], t5_dataset_labels(d, i));
    }
    t5_sha256_end(out, &sha);
}

/* ---- limits ---- */

static int longer_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The k longest together, but no more than `most` unless the longest alone is. lengths is
 * reordered. */
static int64_t largest_sum(int64_t *lengths, int64_t n, int64_t k, int64_t most)
{
    int64_t sum = 0;
    qsort(lengths, (size_t)n, sizeof *lengths, longer_first);
    for (int64_t i = 0; i < k && i < n && sum < most; i++)
        sum += lengths[i];
    return sum <= most ? sum : lengths[0] > most ? lengths[0] : most;
}

int t5_limits_add(struct t5_pass_limits *limits, const struct t5_dataset *d, int64_t seqs,
                  int64_t micro_tokens, struct t5_err *err)
{
    if (d->n == 0)
        return 0;
    int64_t *lengths = t5_alloc((size_t)d->n, sizeof *lengths, "record lengths", err);
    if (!lengths)
        return -1;
    for (int64_t i = 0; i < d->n; i++)
        lengths[i] = t5_dataset_inputs(d, i);
    int64_t input = largest_sum(lengths, d->n, seqs, micro_tokens);
    for (int64_t i = 0; i < d->n; i++)
        lengths[i] = t5_dataset_labels(d, i);
    int64_t labels = largest_sum(lengths, d->n, seqs, micro_tokens);
    free(lengths);
    if (input > limits->input_tokens)
        limits->input_tokens = input;
    if (labels > limits->label_tokens)
        limits->label_tokens = labels;
    seqs = seqs < d->n ? seqs : d->n;
    if (seqs > limits->seqs)
        limits->seqs = seqs;
    return 0;
}

/* ---- packing ---- */

struct t5_packed_record {
    int64_t inputs;
    uint32_t record;
};

int t5_packer_init(struct t5_packer *p, const struct t5_pass_limits *limits, int64_t micro_tokens,
                   struct t5_err *err)
{
    size_t seqs = (size_t)limits->seqs;
    *p = (struct t5_packer){.micro_tokens = micro_tokens, .max_seqs = limits->seqs};
    p->input = t5_alloc((size_t)limits->input_tokens, sizeof(int32_t), "a batch", err);
    p->labels = t5_alloc((size_t)limits->label_tokens, sizeof(int32_t), "a batch", err);
    p->input_offsets = t5_alloc_zeroed(seqs + 1, sizeof(int32_t), "a batch", err);
    p->label_offsets = t5_alloc_zeroed(seqs + 1, sizeof(int32_t), "a batch", err);
    p->record = t5_alloc(seqs, sizeof(uint32_t), "a batch", err);
    p->sorted = t5_alloc(seqs, sizeof *p->sorted, "a batch", err);
    if (!p->input || !p->labels || !p->input_offsets || !p->label_offsets || !p->record ||
        !p->sorted)
        return -1; /* the caller frees */
    p->batch = (struct t5_batch){.input = p->input,
                                 .input_offsets = p->input_offsets,
                                 .labels = p->labels,
                                 .label_offsets = p->label_offsets,
                                 .record = p->record};
    return 0;
}

void t5_packer_free(struct t5_packer *p)
{
    free(p->input);
    free(p->labels);
    free(p->input_offsets);
    free(p->label_offsets);
    free(p->record);
    free(p->sorted);
    *p = (struct t5_packer){0};
}

void t5_packer_clear(struct t5_packer *p)
{
    p->batch.n_seqs = 0;
}

int t5_packer_add(struct t5_packer *p, const struct t5_dataset *d, int64_t i)
{
    int64_t b = p->batch.n_seqs, n = t5_dataset_inputs(d, i), m = t5_dataset_labels(d, i);
    int64_t held = p->input_offsets[b] + p->label_offsets[b];
    if (b > 0 && (b == p->max_seqs || held + n + m > p->micro_tokens))
        return 0;
    memcpy(p->input + p->input_offsets[b], d->input + d->input_offsets[i],
           (size_t)n * sizeof(int32_t));
    memcpy(p->labels + p->label_offsets[b], d->labels + d->label_offsets[i],
           (size_t)m * sizeof(int32_t));
    p->record[b] = (uint32_t)i;
    p->input_offsets[b + 1] = p->input_offsets[b] + (int32_t)n;
    p->label_offsets[b + 1] = p->label_offsets[b] + (int32_t)m;
    p->batch.n_seqs = b + 1;
    return 1;
}

static int more_inputs_first(const void *left, const void *right)
{
    const struct t5_packed_record *a = left, *b = right;
    if (a->inputs != b->inputs)
        return a->inputs < b->inputs ? 1 : -1;
    return (a->record > b->record) - (a->record < b->record);
}

void t5_packer_longest_first(struct t5_packer *p, const struct t5_dataset *d)
{
    int64_t n = p->batch.n_seqs;
    for (int64_t b = 0; b < n; b++)
        p->sorted[b] =
            (struct t5_packed_record){t5_dataset_inputs(d, p->record[b]), p->record[b]};
    qsort(p->sorted, (size_t)n, sizeof *p->sorted, more_inputs_first);
    t5_packer_clear(p);
    for (int64_t b = 0; b < n; b++)
        t5_packer_add(p, d, p->sorted[b].record);
}
