/* norm.c - embedding lookup, and the residual sum with dropout and RMSNorm (arXiv:1910.07467),
 * forward and backward. One row, one thread; gradients of tables and weights are split by columns
 * and add up in token order. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

enum { COLUMNS = 64, ROWS = 16 }; /* of a task; columns a multiple of 4 for the dropout draws */

static void gather(float *out, const struct t5_weight *table, int32_t id)
{
    const int64_t d = table->cols;
    const size_t at = (size_t)id * (size_t)d;
    if (table->values) {
        memcpy(out, table->values + at, (size_t)d * sizeof(float));
    } else if (table->table_type == T5_I8) {
        const int8_t *row = (const int8_t *)table->table + at;
        for (int64_t c = 0; c < d; c++)
            out[c] = table->table_scale[id] * (float)row[c];
    } else {
        t5_to_f32(out, (const char *)table->table + at * t5_dtype_size(table->table_type),
                  table->table_type, (size_t)d);
    }
}

void cpu_embed_fwd(struct t5_device *dev, float *x, const struct t5_weight *table,
                   const int32_t *ids, const struct t5_pack *pack, const struct t5_dropout *drop)
{
    const int64_t n = pack->n_tokens, d = table->cols;
    CPU_PARALLEL_FOR(dev, n * d > 65536)
    for (int64_t from = 0; from < n; from += ROWS)
        for (int64_t i = from; i < n && i < from + ROWS; i++) {
            gather(x + i * d, table, ids[i]);
            if (t5_dropout_active(drop))
                dev->rows->drop(x + i * d, x + i * d, d, drop, cpu_place(pack, i));
        }
}

void cpu_embed_bwd(struct t5_device *dev, float *dtable, const float *dx, const int32_t *ids,
                   int64_t v, int64_t d, const struct t5_pack *pack, const struct t5_dropout *drop)
{
    (void)v;
    const int64_t n = pack->n_tokens;
    CPU_PARALLEL_FOR(dev, n * d > 65536)
    for (int64_t c = 0; c < d; c += COLUMNS) {
        const int64_t wide = d - c < COLUMNS ? d - c : COLUMNS;
        for (int64_t i = 0; i < n; i++) {
            float row[COLUMNS], *to = dtable + ids[i] * d + c;
            const float *from = dx + i * d + c;
            if (t5_dropout_active(drop)) {
                struct t5_place place = cpu_place(pack, i);
                place.first = (uint32_t)c;
                dev->rows->drop(row, from, wide, drop, place);
                from = row;
            }
            dev->rows->add(to, to, from, wide);
        }
    }
}

static float inverse_rms(const struct t5_device *dev, const float *x, int64_t d, float eps)
{
    const double mean = (double)dev->rows->dot(x, x, d) / (double)d;
    return (float)(1 / sqrt(mean + (double)eps));
}

static void norm_row(struct t5_device *dev, float *x, float *y, const float *x_in,
                     const float *delta, const float *w, int64_t d, float eps,
                     const struct t5_dropout *drop_delta, const struct t5_dropout *drop_y,
                     struct t5_place place)
{
    if (delta && t5_dropout_active(drop_delta)) {
        dev->rows->drop(y, delta, d, drop_delta, place); /* y is free until the norm */
        delta = y;
    }
    if (delta)
        dev->rows->add(x, x_in, delta, d);
    else if (x != x_in)
        memcpy(x, x_in, (size_t)d * sizeof(float));
    dev->rows->norm(y, x, w, inverse_rms(dev, x, d, eps), d);
    if (t5_dropout_active(drop_y))
        dev->rows->drop(y, y, d, drop_y, place);
}

void cpu_norm_fwd(struct t5_device *dev, float *x_out, act *y, const float *x_in, const act *delta,
                  const float *w, int64_t n, int64_t d, float eps, const struct t5_pack *pack,
                  const struct t5_dropout *drop_delta, const struct t5_dropout *drop_y,
                  const struct t5_reader *reader)
{
    (void)reader;
    const int drawn = t5_dropout_active(drop_delta) || t5_dropout_active(drop_y);
    CPU_PARALLEL_FOR(dev, n * d > 32768)
    for (int64_t from = 0; from < n; from += ROWS)
        for (int64_t i = from; i < n && i < from + ROWS; i++)
            norm_row(dev, x_out + i * d, (float *)y + i * d, x_in + i * d,
                     delta ? (const float *)delta + i * d : NULL, w, d, eps, drop_delta, drop_y,
                     drawn ? cpu_place(pack, i) : (struct t5_place){0});
}

/* The weight's gradient, 64 columns a task; inverse holds every row's 1 / rms. */
static void weight_gradient(struct t5_device *dev, float *dw, const float *dy, const float *x,
                            const float *inverse, int64_t n, int64_t d, const struct t5_pack *pack,
                            const struct t5_dropout *drop_y)
{
    CPU_PARALLEL_FOR(dev, n * d > 32768)
    for (int64_t c = 0; c < d; c += COLUMNS) {
        const int64_t wide = d - c < COLUMNS ? d - c : COLUMNS;
        for (int64_t i = 0; i < n; i++) {
            float row[COLUMNS];
            const float *g = dy + i * d + c;
            if (t5_dropout_active(drop_y)) {
                struct t5_place place = cpu_place(pack, i);
                place.first = (uint32_t)c;
                dev->rows->drop(row, g, wide, drop_y, place);
                g = row;
            }
            dev->rows->norm_weight(dw + c, g, x + i * d + c, inverse[i], wide);
        }
    }
}

/* y = w x r with r = (mean(x^2) + eps)^-1/2:  dx = r w dy - x r^3 / d sum(dy w x);  dw = sum x r dy
 */
void cpu_norm_bwd(struct t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                  const float *x, const float *w, int64_t n, int64_t d, float eps,
                  const struct t5_pack *pack, const struct t5_dropout *drop_delta,
                  const struct t5_dropout *drop_y, const struct t5_reader *reader)
{
    (void)reader;
    const int drawn = t5_dropout_active(drop_delta) || t5_dropout_active(drop_y);
    size_t stride;
    /* a masked row for each thread, then every row's 1 / rms */
    float *work = cpu_work(dev, 1, (size_t)(dev->threads * d + n), &stride);
    if (!work)
        return;
    float *inverse = work + dev->threads * d;
    CPU_PARALLEL_FOR(dev, n * d > 32768)
    for (int64_t from = 0; from < n; from += ROWS)
        for (int64_t i = from; i < n && i < from + ROWS; i++) {
            const struct t5_place place = drawn ? cpu_place(pack, i) : (struct t5_place){0};
            const float *g = (const float *)dy + i * d, *xi = x + i * d;
            if (t5_dropout_active(drop_y)) {
                float *masked = work + omp_get_thread_num() * d;
                dev->rows->drop(masked, g, d, drop_y, place);
                g = masked;
            }
            const float r = inverse[i] = inverse_rms(dev, xi, d, eps);
            const float c = r * r * r * (dev->rows->norm_dot(g, w, xi, d) / (float)d);
            dev->rows->norm_grad(dx + i * d, g, w, xi, r, c, d);
            if (ddelta && t5_dropout_active(drop_delta))
                dev->rows->drop((float *)ddelta + i * d, dx + i * d, d, drop_delta, place);
            else if (ddelta)
                memcpy((float *)ddelta + i * d, dx + i * d, (size_t)d * sizeof(float));
        }
    if (dw)
        weight_gradient(dev, dw, dy, x, inverse, n, d, pack, drop_y);
}
