/* optimiser.c - sums over whole buffers in a fixed order, and AdamW (arXiv:1711.05101), with its
 * moments in 32 or 8 bits. Adafactor: adafactor.c. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "backend/dynamic_map.h"
#include "cpu/cpu.h"

enum { PARTS = 64, STEP = 16384, BLOCKS = 64 };

/* 64 parts of a buffer summed apart, then in order. */
static double sum_parts(struct t5_device *dev, const float *x, int64_t n, int squares)
{
    double part[PARTS] = {0}, total = 0;
    const int64_t size = (n + PARTS - 1) / PARTS;
    CPU_PARALLEL_FOR(dev, n > 65536)
    for (int i = 0; i < PARTS; i++) {
        const int64_t from = i * size < n ? i * size : n, m = n - from < size ? n - from : size;
        part[i] = squares ? dev->rows->sum_squares(x + from, m) : dev->rows->sum(x + from, m);
    }
    for (int i = 0; i < PARTS; i++)
        total += part[i];
    return total;
}

void cpu_sum(struct t5_device *dev, double *out, const float *x, int64_t n, int accumulate)
{
    *out = (accumulate ? *out : 0) + sum_parts(dev, x, n, 0);
}

void cpu_sum_squares(struct t5_device *dev, double *out, const float *x, int64_t n)
{
    *out = sum_parts(dev, x, n, 1);
}

void cpu_spoil(struct t5_device *dev, double *value, const double *guard, double most)
{
    (void)dev;
    if (!isfinite(*guard) || *guard > most)
        *value = NAN;
}

void cpu_adamw(struct t5_device *dev, float *p, const float *g, float *m, float *v, int64_t n,
               const struct t5_adamw *how, const double *sum_squares)
{
    if (!isfinite(*sum_squares))
        return;
    const double b1 = (double)how->beta1, b2 = (double)how->beta2;
    const double clip =
        how->clip > 0 ? fmin(1, (double)how->clip / (sqrt(*sum_squares) + 1e-6)) : 1;
    const struct t5_adamw_row row = {
        .gradient = (float)clip,
        .beta1 = how->beta1,
        .rest1 = (float)(1 - b1),
        .beta2 = how->beta2,
        .rest2 = (float)(1 - b2),
        .keep = (float)(1 - (double)how->lr * (double)how->weight_decay),
        .rate = (float)((double)how->lr / (1 - pow(b1, (double)how->step))),
        .root = (float)(1 / sqrt(1 - pow(b2, (double)how->step))),
        .eps = how->eps,
    };
    CPU_PARALLEL_FOR(dev, n > 65536)
    for (int64_t i = 0; i < n; i += STEP)
        dev->rows->adamw(p + i, g + i, m + i, v + i, n - i < STEP ? n - i : STEP, &row);
}

void cpu_adamw8(struct t5_device *dev, float *p, const float *g, uint8_t *m, uint8_t *v,
                float *m_scale, float *v_scale, int64_t n, const float *maps,
                const struct t5_adamw *how, const double *sum_squares)
{
    if (!isfinite(*sum_squares))
        return;
    const struct t5_adamw8_step step = t5_adamw8_step(how, *sum_squares);
    const int64_t blocks = (n + T5_BLOCK8 - 1) / T5_BLOCK8;
    CPU_PARALLEL_FOR(dev, n > 65536)
    for (int64_t first = 0; first < blocks; first += BLOCKS)
        for (int64_t b = first; b < first + BLOCKS && b < blocks; b++) {
            const int64_t i = b * T5_BLOCK8;
            t5_adamw8_block(p + i, g + i, m + i, v + i, m_scale + b, v_scale + b,
                            (int)(n - i < T5_BLOCK8 ? n - i : T5_BLOCK8), maps, &step);
        }
}
