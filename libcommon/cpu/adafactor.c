/* adafactor.c - Adafactor over one tensor. Sums are made of parts whose borders depend on sizes
 * alone, each in one order. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "cpu/cpu.h"

enum { PARTS = 64, TILE = 256 };

struct step {
    const float *g;
    float clip, decay, rest;
    const struct t5_adafactor *how;
    int64_t rows, cols;
};

/* row and col of a matrix. */
static void follow_rows(struct t5_device *dev, float *row, const struct step *s)
{
    CPU_PARALLEL_FOR(dev, s->rows * s->cols > 65536)
    for (int64_t r = 0; r < s->rows; r++) {
        double sum = dev->rows->sum_squares(s->g + r * s->cols, s->cols);
        double mean = sum * (double)s->clip * (double)s->clip / (double)s->cols;
        row[r] = s->decay * row[r] + s->rest * (float)(mean + T5_ADAFACTOR_EPS);
    }
}

static void follow_columns(struct t5_device *dev, float *col, const struct step *s)
{
    CPU_PARALLEL_FOR(dev, s->rows * s->cols > 65536)
    for (int64_t first = 0; first < s->cols; first += TILE) {
        const int64_t n = s->cols - first < TILE ? s->cols - first : TILE;
        double sum[TILE] = {0};
        for (int64_t r = 0; r < s->rows; r++) {
            const float *g = s->g + r * s->cols + first;
            for (int64_t c = 0; c < n; c++)
                sum[c] += (double)g[c] * (double)g[c];
        }
        for (int64_t c = 0; c < n; c++) {
            double mean = sum[c] * (double)s->clip * (double)s->clip / (double)s->rows;
            col[first + c] = s->decay * col[first + c] + s->rest * (float)(mean + T5_ADAFACTOR_EPS);
        }
    }
}

static float row_factor(const struct step *s, float row, double mean)
{
    return (float)((double)s->clip / sqrt((double)row / mean));
}

/* Sum over (r, c) of g^2 / v. */
static double squares(struct t5_device *dev, const float *row, const float *col, double mean,
                      const struct step *s)
{
    double part[PARTS] = {0}, total = 0;
    const int64_t size = (s->rows + PARTS - 1) / PARTS;
    CPU_PARALLEL_FOR(dev, s->rows * s->cols > 65536)
    for (int i = 0; i < PARTS; i++)
        for (int64_t r = i * size; r < (i + 1) * size && r < s->rows; r++) {
            const float *g = s->g + r * s->cols;
            const double f = (double)row_factor(s, row[r], mean);
            double sum = 0;
            for (int64_t c = 0; c < s->cols; c++)
                sum += (double)g[c] * (double)g[c] / (double)col[c];
            part[i] += f * f * sum;
        }
    for (int i = 0; i < PARTS; i++)
        total += part[i];
    return total;
}

static void update_matrix(struct t5_device *dev, float *p, float *row, float *col,
                          const struct step *s)
{
    double mean = 0;
    follow_rows(dev, row, s);
    follow_columns(dev, col, s);
    for (int64_t r = 0; r < s->rows; r++)
        mean += (double)row[r] / (double)s->rows;
    double over = sqrt(squares(dev, row, col, mean, s) / (double)(s->rows * s->cols));
    const float lr = s->how->lr, keep = (float)(1 - (double)lr * (double)s->how->weight_decay);
    const float rate = (float)((double)lr / fmax(1, over));
    CPU_PARALLEL_FOR(dev, s->rows * s->cols > 65536)
    for (int64_t r = 0; r < s->rows; r++) {
        const float *g = s->g + r * s->cols, f = rate * row_factor(s, row[r], mean);
        float *x = p + r * s->cols;
        for (int64_t c = 0; c < s->cols; c++)
            x[c] = x[c] * keep - f * g[c] / sqrtf(col[c]);
    }
}

/* Vectors are short: norms. */
static void update_vector(float *p, float *v, int64_t n, const struct step *s)
{
    const float lr = s->how->lr, keep = (float)(1 - (double)lr * (double)s->how->weight_decay);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)s->clip * (double)s->g[i];
        v[i] = s->decay * v[i] + s->rest * (float)(g * g + T5_ADAFACTOR_EPS);
        sum += g * g / (double)v[i];
    }
    const float rate = (float)((double)lr * (double)s->clip / fmax(1, sqrt(sum / (double)n)));
    for (int64_t i = 0; i < n; i++)
        p[i] = p[i] * keep - rate * s->g[i] / sqrtf(v[i]);
}

void cpu_adafactor(struct t5_device *dev, float *p, const float *g, float *row, float *col,
                   int64_t rows, int64_t cols, const struct t5_adafactor *how,
                   const double *sum_squares)
{
    struct step s = {.g = g,
                     .clip = 1,
                     .decay = how->decay,
                     .rest = 1 - how->decay,
                     .how = how,
                     .rows = rows,
                     .cols = cols};
    if (!isfinite(*sum_squares))
        return;
    if (how->clip > 0)
        s.clip = (float)fmin(1, (double)how->clip / (sqrt(*sum_squares) + 1e-6));
    if (col)
        update_matrix(dev, p, row, col, &s);
    else
        update_vector(p, row, rows * cols, &s);
}
