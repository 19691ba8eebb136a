/* ref_optimizer.c - the reference's Adafactor and AdamW with 8-bit states. AdamW: ref_ops.c. */
/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "backend/dynamic_map.h"
#include "backend/ref.h"

/* ---- Adafactor ---- */

struct factors {
    const float *g;
    double clip; /* gradient x this */
    const float *row, *col;
    int64_t rows, cols;
    double mean; /* of row */
};

/* The update of element (r, c) before it is clipped: g / sqrt(v), where v is the outer product of
 * row and col over the mean of row, or col NULL: the element's own. */
static double direction(const struct factors *f, int64_t r, int64_t c)
{
    double g = f->clip * (double)f->g[r * f->cols + c];
    if (!f->col)
        return g / sqrt((double)f->row[r * f->cols + c]);
    return g / sqrt((double)f->row[r] / f->mean) / sqrt((double)f->col[c]);
}

static double squared(const struct factors *f, int64_t i)
{
    double g = f->clip * (double)f->g[i];
    return g * g + T5_ADAFACTOR_EPS;
}

/* Running means of squared gradients over rows and columns, or of each. */
static void follow(float *row, float *col, struct factors *f, double decay)
{
    for (int64_t i = 0; !col && i < f->rows * f->cols; i++)
        row[i] = (float)(decay * (double)row[i] + (1 - decay) * squared(f, i));
    for (int64_t r = 0; col && r < f->rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < f->cols; c++)
            sum += squared(f, r * f->cols + c);
        row[r] = (float)(decay * (double)row[r] + (1 - decay) * sum / (double)f->cols);
        f->mean += (double)row[r] / (double)f->rows;
    }
    for (int64_t c = 0; col && c < f->cols; c++) {
        double sum = 0;
        for (int64_t r = 0; r < f->rows; r++)
            sum += squared(f, r * f->cols + c);
        col[c] = (float)(decay * (double)col[c] + (1 - decay) * sum / (double)f->rows);
    }
}

void ref_adafactor(struct t5_device *dev, float *p, const float *g, float *row, float *col,
                   int64_t rows, int64_t cols, const struct t5_adafactor *how,
                   const double *sum_squares)
{
    struct factors f = {.g = g, .clip = 1, .row = row, .col = col, .rows = rows, .cols = cols};
    double sum = 0, lr = (double)how->lr;
    (void)dev;
    if (!isfinite(*sum_squares))
        return;
    if (how->clip > 0)
        f.clip = fmin(1, (double)how->clip / (sqrt(*sum_squares) + 1e-6));
    follow(row, col, &f, (double)how->decay);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            sum += direction(&f, r, c) * direction(&f, r, c);
    double over = fmax(1, sqrt(sum / (double)(rows * cols)));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double x = (double)p[r * cols + c];
            x -= lr * (double)how->weight_decay * x;
            p[r * cols + c] = (float)(x - lr * direction(&f, r, c) / over);
        }
}

/* ---- AdamW with 8-bit states ---- */

void ref_adamw8(struct t5_device *dev, float *p, const float *g, uint8_t *m, uint8_t *v,
                float *m_scale, float *v_scale, int64_t n, const float *maps,
                const struct t5_adamw *how, const double *sum_squares)
{
    (void)dev;
    if (!isfinite(*sum_squares))
        return;
    struct t5_adamw8_step step = t5_adamw8_step(how, *sum_squares);
    for (int64_t i = 0, b = 0; i < n; i += T5_BLOCK8, b++)
        t5_adamw8_block(p + i, g + i, m + i, v + i, m_scale + b, v_scale + b,
                        (int)(n - i < T5_BLOCK8 ? n - i : T5_BLOCK8), maps, &step);
}
