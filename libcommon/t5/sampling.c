/* sampling.c - temperature, top-p, and the draw. Philox: see base/rng.h. */
/* SPDX-License-Identifier: MIT */
#include "t5/sampling.h"

#include <math.h>

#include "base/rng.h"

static float scaled(const float *logit, int64_t i, const struct t5_sampling *how)
{
    return logit[i] / (float)how->temperature;
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
    for (int64_t i = 0; i < kept; i++)
        p[i] /= sum - dropped;
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
