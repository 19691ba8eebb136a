/* quant_nf4.c - weights to NF4, and its block scales to 8 bit. Every step is in f32 and in the
 * order that bitsandbytes' arithmetic has, or the last bits would differ. Does not choose which
 * tensors: see quantize_plan.c. */
/* SPDX-License-Identifier: MIT */
#include "io/quant_nf4.h"

#include <math.h>
#include <string.h>

#include "base/nf4.h"
#include "io/quant_row.h"

enum { BLOCK = T5_NF4_BLOCK };

#define TINY 1e-38f /* absmax is not taken as smaller where a weight is divided by it */

/* The code of each number: how many middles between neighbours of the code book lie below it. */
T5_CLONES static void nearest(uint8_t code[BLOCK], const float x[BLOCK])
{
    int32_t below[BLOCK] = {0};
    for (int k = 0; k < 15; k++) {
        const float middle = (t5_nf4_code[k] + t5_nf4_code[k + 1]) / 2;
#pragma omp simd
        for (int i = 0; i < BLOCK; i++)
            below[i] += x[i] > middle;
    }
    for (int i = 0; i < BLOCK; i++)
        code[i] = (uint8_t)below[i];
}

/* One block; a shorter one ends a matrix and is divided, not multiplied by a reciprocal. The code
 * of what is missing is that of 0, as an odd count shows it. */
static void block_codes(uint8_t *codes, float *absmax, const float *w, int64_t n)
{
    float x[BLOCK] = {0};
    uint8_t code[BLOCK];
    const float most = *absmax < TINY ? TINY : *absmax, reciprocal = 1 / most;
    for (int64_t i = 0; i < n; i++)
        x[i] = n < BLOCK ? w[i] / most : w[i] * reciprocal; /* the book ends at 1: no clamp */
    if (n < BLOCK)
        *absmax = most;
    nearest(code, x);
    for (int64_t i = 0; i < t5_nf4_bytes(n); i++)
        codes[i] = (uint8_t)(code[2 * i] << 4 | code[2 * i + 1]);
}

int64_t t5_nf4_codes(uint8_t *codes, float *absmax, const float *w, int64_t n)
{
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t k = n - at < BLOCK ? n - at : BLOCK;
        float *most = &absmax[at / BLOCK];
        *most = t5_row_largest(w + at, k);
        if (!isfinite(*most))
            return at + t5_row_not_finite(w + at, k);
        block_codes(codes + at / 2, most, w + at, k);
    }
    return -1;
}

/* ---- the sum of many floats as PyTorch adds them ---- */

enum { LANES = 8, CHAINS = 4, LEVELS = 4 };

/* Adds `steps` rows of 32 numbers into 32 chains, each a cascade of four levels: a level's sum
 * moves up after 2^power additions, so that rounding errors do not pile up. */
static void cascade(float sum[CHAINS * LANES], const float *x, int64_t steps)
{
    float level[LEVELS][CHAINS * LANES] = {{0}};
    int power = 0;
    while (((int64_t)1 << power) < steps)
        power++;
    power = power / LEVELS < 4 ? 4 : power / LEVELS;
    for (int64_t i = 1; i <= steps; i++) {
        for (int c = 0; c < CHAINS * LANES; c++)
            level[0][c] += x[(i - 1) * CHAINS * LANES + c];
        for (int k = 1; k < LEVELS && i % ((int64_t)1 << k * power) == 0; k++)
            for (int c = 0; c < CHAINS * LANES; c++) {
                level[k][c] += level[k - 1][c];
                level[k - 1][c] = 0;
            }
    }
    for (int c = 0; c < CHAINS * LANES; c++)
        for (int k = 1; k < LEVELS; k++)
            level[0][c] += level[k][c];
    memcpy(sum, level[0], sizeof level[0]);
}

/* The order of PyTorch's sum on a processor with vectors of 8 floats (every x86-64 that runs it
 * fast), one thread; it splits among threads from 32,768 numbers on. */
static float sum_of(const float *x, int64_t n)
{
    float chain[CHAINS * LANES], sum = 0;
    const int64_t vectors = n / LANES, steps = vectors / CHAINS;
    cascade(chain, x, steps);
    for (int64_t v = steps * CHAINS; v < vectors; v++)
        for (int lane = 0; lane < LANES; lane++)
            chain[lane] += x[v * LANES + lane];
    for (int c = 1; c < CHAINS; c++)
        for (int lane = 0; lane < LANES; lane++)
            chain[lane] += chain[c * LANES + lane];
    for (int64_t i = vectors * LANES; i < n; i++)
        sum += x[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += chain[lane];
    return sum;
}

/* ---- block scales ---- */

/* The code of the map nearest to x in [-1, 1], the lower one in the middle. */
static uint8_t nearest_map(float x)
{
    int low = 0, high = 255; /* map[low] <= x, map[high] > x or high is the last */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (t5_nf4_map((uint8_t)middle) <= x)
            low = middle;
        else
            high = middle;
    }
    return (uint8_t)(t5_nf4_map((uint8_t)high) - x < x - t5_nf4_map((uint8_t)low) ? high : low);
}

static uint8_t map_code(float x)
{
    x = x > -1 ? x : -1; /* 0 x infinity too, where a group is all zeros */
    x = x < 1 ? x : 1;
    float point = (float)(int32_t)((x + 1) * 0.5f * 65535.0f + 0.5f);
    return nearest_map(2 * (point / 65535.0f) - 1);
}

void t5_nf4_scales_pack(uint8_t *block, float *scale, float *absmax, int64_t blocks)
{
    const float mean = sum_of(absmax, blocks) / (float)blocks;
    scale[0] = mean;
    for (int64_t from = 0; from < blocks; from += T5_NF4_GROUP) {
        const int64_t n = blocks - from < T5_NF4_GROUP ? blocks - from : T5_NF4_GROUP;
        float *x = absmax + from;
        for (int64_t i = 0; i < n; i++)
            x[i] -= mean;
        const float most = t5_row_largest(x, n);
        scale[1 + from / T5_NF4_GROUP] = most;
        for (int64_t i = 0; i < n; i++)
            block[from + i] = map_code(x[i] * (1 / most));
    }
}
