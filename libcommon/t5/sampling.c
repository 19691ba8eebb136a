/* sampling.c - temperature, the filters, and the draw. Philox: see base/rng.h. */
/* SPDX-License-Identifier: MIT */
#include "t5/sampling.h"

#include <math.h>

#include "base/rng.h"

static float scaled(const float *logit, int64_t i, const struct t5_sampling *how)
{
    return logit[i] / (float)how->temperature;
}

static void normalise(double *p, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += p[i];
    for (int64_t i = 0; i < n; i++)
        p[i] /= sum;
}

/* p falls, so that surprise rises with the index: the ones nearest to the entropy are a run [low,
 * high), which grows on the nearer side until it weighs enough. Returns high; p is 0 before low. */
static int64_t keep_typical(double *p, int64_t n, double mass)
{
    double entropy = 0, weight = 0, reached = 0;
    for (int64_t i = 0; i < n; i++)
        entropy -= p[i] > 0 ? p[i] * log(p[i]) : 0;
    int64_t low = 0, high;
    while (low < n && -log(p[low]) < entropy)
        low++;
    for (high = low; low > 0 || high < n;) {
        double below = low > 0 ? entropy + log(p[low - 1]) : INFINITY;
        double above = high < n ? -log(p[high]) - entropy : INFINITY;
        double nearer = below < above ? below : above;
        if (weight >= mass && nearer > reached)
            break;
        reached = nearer;
        weight += below < above ? p[--low] : p[high++];
    }
    for (int64_t i = 0; i < low; i++)
        p[i] = 0;
    return high;
}

int64_t t5_sampling_filter(double *p, const float *logit, int64_t n, const struct t5_sampling *how)
{
    double sum = 0, dropped = 0;
    float top = scaled(logit, 0, how);
    int64_t kept = n, k = how->top_k;
    if (k > 0 && k < n)
        for (kept = k; kept < n && scaled(logit, kept, how) == scaled(logit, k - 1, how);)
            kept++;
    for (int64_t i = 0; i < kept; i++)
        sum += p[i] = exp((double)scaled(logit, i, how) - (double)top);
    if (how->top_p < 1)
        while (kept > 1 && dropped + p[kept - 1] <= (1 - how->top_p) * sum)
            dropped += p[--kept];
    while (kept > 1 && p[kept - 1] < how->min_p * p[0])
        kept--;
    normalise(p, kept);
    if (how->typical > 0 && how->typical < 1) {
        kept = keep_typical(p, kept, how->typical);
        normalise(p, kept);
    }
    return kept;
}

int64_t t5_sampling_pick(const double *p, int64_t n, double u)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += p[i];
        if (u < sum)
            return i;
    }
    /* Rounding left the sum just below u: the last one that can be drawn. */
    while (n > 1 && p[n - 1] == 0)
        n--;
    return n - 1;
}

uint64_t t5_sampling_hash(const int32_t *ids, int64_t n)
{
    uint64_t hash = t5_mix(0, (uint64_t)n);
    for (int64_t i = 0; i < n; i++)
        hash = t5_mix(hash, (uint64_t)ids[i]);
    return hash;
}

double t5_sampling_uniform(uint64_t seed, uint64_t hash, uint32_t sample, uint32_t position)
{
    uint32_t key[2], counter[4] = {sample, position, 0, 0};
    t5_rng_key(key, seed, T5_RNG_SAMPLE, hash);
    struct t5_philox draw = t5_philox(counter, key);
    return ((double)(draw.v[0] >> 5) * 0x1p26 + (double)(draw.v[1] >> 6)) * 0x1p-53;
}
