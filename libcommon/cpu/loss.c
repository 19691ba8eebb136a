/* loss.c - what is done with logits: cross-entropy and its gradient, edits, the largest ones. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "cpu/cpu.h"

static float log_sum_exp(const struct t5_device *dev, const float *x, int64_t n, float *top)
{
    *top = dev->rows->max(x, n);
    return *top + logf(dev->rows->exp_sum(NULL, x, *top, n));
}

void cpu_cross_entropy(struct t5_device *dev, float *nll, act *dlogits, const float *logits,
                       const int32_t *labels, int64_t n, int64_t v, float scale, float smoothing)
{
    CPU_PARALLEL_FOR(dev, n > 1)
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * v, others = smoothing / (float)v;
        const float wanted = (1 - smoothing) * row[labels[i]] +
                             (smoothing == 0 ? 0 : others * (float)dev->rows->sum(row, v));
        float top, *d = dlogits ? (float *)dlogits + i * v : NULL;
        if (!d) {
            nll[i] = log_sum_exp(dev, row, v, &top) - wanted;
            continue;
        }
        top = dev->rows->max(row, v);
        const float sum = dev->rows->exp_sum(d, row, top, v); /* d may be the row */
        nll[i] = top + logf(sum) - wanted;
        dev->rows->scale(d, d, scale / sum, v);
        for (int64_t c = 0; smoothing != 0 && c < v; c++)
            d[c] -= scale * others;
        d[labels[i]] -= scale * (1 - smoothing);
    }
}

void cpu_logits_edit(struct t5_device *dev, float *logits, int64_t v, const int32_t *row,
                     const int32_t *id, int64_t n, float penalty)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++) {
        float *x = logits + row[i] * v + id[i];
        *x = penalty == 0 ? -INFINITY : *x < 0 ? *x * penalty : *x / penalty;
    }
}

/* One pass: a sorted list of the k largest so far; only what is above its last entry is looked at.
 * Ascending ids and a strict comparison keep the smaller id of equal values in front. */
static void top_of_row(const struct t5_device *dev, float *value, int32_t *id, const float *x,
                       int64_t v, int64_t k)
{
    for (int64_t i = 0; i < k; i++) {
        value[i] = -INFINITY;
        id[i] = 0;
    }
    int64_t have = 0;
    for (int64_t c = 0; c < v; c++) {
        if (have == k) {
            c = dev->rows->find_above(x, c, v, value[k - 1]);
            if (c == v)
                break;
        } else if (!(x[c] >= -INFINITY)) { /* NaN is no candidate */
            continue;
        } else {
            have++;
        }
        int64_t at = have - 1;
        for (; at > 0 && x[c] > value[at - 1]; at--) {
            value[at] = value[at - 1];
            id[at] = id[at - 1];
        }
        value[at] = x[c];
        id[at] = (int32_t)c;
    }
}

void cpu_topk(struct t5_device *dev, float *value, int32_t *id, float *lse, const float *logits,
              int64_t n_rows, int64_t v, int64_t k)
{
    CPU_PARALLEL_FOR(dev, n_rows > 1)
    for (int64_t r = 0; r < n_rows; r++) {
        float top;
        lse[r] = log_sum_exp(dev, logits + r * v, v, &top);
        top_of_row(dev, value + r * k, id + r * k, logits + r * v, v, k);
    }
}
