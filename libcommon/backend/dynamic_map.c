/* dynamic_map.c - 8-bit states: maps, codes, one block of AdamW. */
/* SPDX-License-Identifier: MIT */
#include "backend/dynamic_map.h"

#include <math.h>

#include "base/nf4.h"

/* A code is a decimal exponent in unary, then a fraction in the bits that are left: in decade
 * 10^(i - 6), i = 0 .. 6, the middles of 2^(i + 1) equal parts of [0.1, 1]. 0 and 1 take the two
 * codes that remain. With a sign there is a bit less for fractions: base/nf4.h has that map. */
void t5_dynamic_maps(float maps[2 * T5_MAP])
{
    float *unsigned_map = maps + T5_MAP;
    for (int code = 0; code < T5_MAP; code++)
        maps[code] = t5_nf4_map((uint8_t)code);
    *unsigned_map++ = 0;
    for (int i = 0; i < 7; i++) {
        int parts = 2 << i;
        for (int k = 0; k < parts; k++)
            *unsigned_map++ = (float)(pow(10, i - 6) * (0.1 + 0.9 * (k + 0.5) / parts));
    }
    *unsigned_map = 1;
}

uint8_t t5_dynamic_code(const float map[T5_MAP], float x)
{
    int low = 0; /* the last value that is not above x, or the first */
    for (int step = T5_MAP / 2; step; step /= 2)
        if (map[low + step] <= x)
            low += step;
    if (low < T5_MAP - 1 && x > 0.5f * (map[low] + map[low + 1]))
        low++;
    return (uint8_t)low;
}

/* A first moment must not change its sign, or a parameter would move the wrong way. */
static uint8_t signed_code(const float map[T5_MAP], float x)
{
    uint8_t code = t5_dynamic_code(map, x);
    if (x != 0 && signbit(map[code]) != signbit(x))
        code = (uint8_t)(x > 0 ? code + 1 : code - 1);
    return code;
}

struct t5_adamw8_step t5_adamw8_step(const struct t5_adamw *how, double sum_squares)
{
    double b1 = (double)how->beta1, b2 = (double)how->beta2, clip = (double)how->clip;
    return (struct t5_adamw8_step){
        .gradient = (float)(clip > 0 ? fmin(1, clip / (sqrt(sum_squares) + 1e-6)) : 1),
        .beta1 = how->beta1,
        .beta2 = how->beta2,
        .keep = (float)(1 - (double)how->lr * (double)how->weight_decay),
        .rate = (float)((double)how->lr / (1 - pow(b1, (double)how->step))),
        .root = (float)(1 / sqrt(1 - pow(b2, (double)how->step))),
        .eps = how->eps};
}

/* The parameters move by the exact moments; only what is kept of them is rounded. */
void t5_adamw8_block(float *p, const float *g, uint8_t *m, uint8_t *v, float *m_scale,
                     float *v_scale, int n, const float maps[2 * T5_MAP],
                     const struct t5_adamw8_step *s)
{
    float first[T5_BLOCK8], second[T5_BLOCK8], top1 = 0, top2 = 0;
    const float *map2 = maps + T5_MAP;
    for (int i = 0; i < n; i++) {
        float gi = g[i] * s->gradient;
        first[i] = s->beta1 * (maps[m[i]] * *m_scale) + (1 - s->beta1) * gi;
        second[i] = s->beta2 * (map2[v[i]] * *v_scale) + (1 - s->beta2) * gi * gi;
        top1 = fmaxf(top1, fabsf(first[i]));
        top2 = fmaxf(top2, second[i]);
        p[i] = p[i] * s->keep - s->rate * first[i] / (sqrtf(second[i]) * s->root + s->eps);
    }
    for (int i = 0; i < n; i++) {
        m[i] = signed_code(maps, top1 > 0 ? first[i] / top1 : 0);
        v[i] = t5_dynamic_code(map2, top2 > 0 ? second[i] / top2 : 0);
    }
    *m_scale = top1;
    *v_scale = top2;
}
