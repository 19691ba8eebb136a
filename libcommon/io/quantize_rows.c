/* quantize_rows.c - rows of one tensor: read as f32, merged, written in the new type, the loss
 * measured. */
/* SPDX-License-Identifier: MIT */
#include "io/quantize_rows.h"

#include <math.h>
#include <omp.h>

#include "base/nf4.h"
#include "io/quant_fp8.h"
#include "io/quant_int8.h"
#include "io/quant_nf4.h"
#include "io/quant_row.h"

/* Rows as f32: in place where the file has them so and aligned, else in `room`. */
static const float *read_rows(float *room, const struct t5_quantize_rows *job, int64_t row,
                              int64_t n)
{
    const struct t5_matrix *m = &job->step->matrix;
    const char *at = (const char *)m->data + (size_t)(row * job->columns) * sizeof(float);
    if (m->type == T5_F32 && (uintptr_t)at % sizeof(float) == 0)
        return (const float *)(const void *)at;
    t5_matrix_read_rows(room, m, row, n);
    return room;
}

/* w + scale x (B A)[row], summed over the rank in order, in f32 as PEFT merges. out may be w. */
static void add_lora(float *out, float *sum, const float *w, const struct t5_quantize_rows *job,
                     const struct t5_quantize_lora *lora, int64_t row)
{
    int64_t rank = lora->rank;
    const struct t5_lora_module *m = lora->module;
    float scale = lora->scale;
    memset(sum, 0, (size_t)job->columns * sizeof *sum);
    for (int64_t r = 0; r < rank; r++) {
        float b = m->b[row * rank + r];
        const float *a = m->a + r * job->columns;
#pragma omp simd
        for (int64_t i = 0; i < job->columns; i++)
            sum[i] += b * a[i];
    }
#pragma omp simd
    for (int64_t i = 0; i < job->columns; i++)
        out[i] = w[i] + scale * sum[i];
}

/* Eight running sums, so that the order of additions is the same on every processor. */
static struct t5_quantize_loss measure(const float *w, const float *back, int64_t n)
{
    struct t5_quantize_loss loss = {0};
    double error2[8] = {0}, weight2[8] = {0}, largest[8] = {0};
    for (int64_t i = 0; i < n; i += 8) {
        int lanes = n - i < 8 ? (int)(n - i) : 8;
        for (int k = 0; k < lanes; k++) {
            double e = (double)w[i + k] - (double)back[i + k];
            error2[k] += e * e;
            weight2[k] += (double)w[i + k] * (double)w[i + k];
            largest[k] = fabs(e) > largest[k] ? fabs(e) : largest[k];
        }
    }
    for (int k = 0; k < 8; k++) {
        loss.error2 += error2[k];
        loss.weight2 += weight2[k];
        loss.largest = largest[k] > loss.largest ? largest[k] : loss.largest;
    }
    if (t5_row_not_finite(back, n) >= 0)
        for (int64_t i = 0; i < n; i++)
            loss.not_finite += !isfinite(back[i]);
    return loss;
}

/* n rows from `row` on, merged; room (2, unit, columns). */
static const float *prepare(float *room, const struct t5_quantize_rows *job, int64_t row, int64_t n)
{
    const float *w = read_rows(room, job, row, n);
    for (int i = 0; i < job->n_loras; i++) {
        for (int64_t r = 0; r < n; r++)
            add_lora(room + r * job->columns, room + job->unit * job->columns, w + r * job->columns,
                     job, &job->loras[i], row + r);
        w = room;
    }
    return w;
}

/* n rows, one but for NF4; index in them of a weight that is not finite, or -1. */
static int64_t convert(void *out, struct t5_quantize_loss *loss, float *room,
                       const struct t5_quantize_rows *job, int64_t row, int64_t n)
{
    const enum t5_dtype type = job->step->out;
    const int64_t count = n * job->columns;
    const float *w = prepare(room, job, row, n);
    float *scale =
        type == T5_NF4 ? job->scale + row * job->columns / T5_NF4_BLOCK : job->scale + row;
    int64_t bad = type == T5_I8    ? t5_int8_row(out, scale, w, count)
                  : type == T5_F8  ? t5_fp8_row(out, scale, w, count)
                  : type == T5_NF4 ? t5_nf4_codes(out, scale, w, count)
                                   : t5_row_not_finite(w, count);
    if (!t5_dtype_quantised(type))
        t5_from_f32(out, w, type, (size_t)count);
    if (bad >= 0 || !loss || type == T5_NF4)
        return bad;
    float *back = room + count; /* the merge's sum is no longer needed */
    const struct t5_matrix written = {.data = out, .type = type, .scale = scale, .cols = count};
    t5_matrix_read(back, &written, 0, 0, count);
    *loss = measure(w, back, count);
    return -1;
}

int64_t t5_quantize_unit(enum t5_dtype out, int64_t columns)
{
    int64_t unit = out == T5_NF4 ? T5_NF4_BLOCK : 1;
    while (unit % 2 == 0 && unit / 2 * columns % T5_NF4_BLOCK == 0)
        unit /= 2;
    return unit;
}

int64_t t5_quantize_rows(void *out, const struct t5_quantize_rows *job, int64_t from, int64_t n)
{
    int64_t first = INT64_MAX;
    const struct t5_quantize_step *s = job->step;
    /* plain rows pass at the speed of memory; a team of threads, which waits by spinning, would
     * only take the processor from the thread that checksums */
    int heavy = job->n_loras || s->in->type == T5_F16 || s->in->type == T5_F64 ||
                s->in->type == T5_NF4 || s->out == T5_F8 || s->out == T5_NF4;
#pragma omp parallel for schedule(static) reduction(min : first) if (heavy)
    for (int64_t r = 0; r < n; r += job->unit) {
        float *room = job->scratch + 2 * job->unit * job->columns * omp_get_thread_num();
        int64_t rows = n - r < job->unit ? n - r : job->unit;
        int64_t bad =
            convert((char *)out + t5_dtype_bytes(s->out, r * job->columns),
                    job->loss ? job->loss + r / job->unit : NULL, room, job, from + r, rows);
        if (bad >= 0 && (from + r) * job->columns + bad < first)
            first = (from + r) * job->columns + bad;
    }
    return first == INT64_MAX ? -1 : first;
}

void t5_quantize_measure(const struct t5_quantize_rows *job, const struct t5_matrix *written,
                         int64_t from, int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r += job->unit) {
        float *room = job->scratch + 2 * job->unit * job->columns * omp_get_thread_num();
        int64_t rows = n - r < job->unit ? n - r : job->unit, count = rows * job->columns;
        const float *w = prepare(room, job, from + r, rows);
        float *back = room + job->unit * job->columns;
        t5_matrix_read_rows(back, written, from + r, rows);
        job->loss[r / job->unit] = measure(w, back, count);
    }
}

/* A piece that fits the cache and is always aligned. */
int64_t t5_data_not_finite(const void *bytes, enum t5_dtype type, int64_t n)
{
    enum { PIECE = 4096 };
    int64_t first = INT64_MAX;
    for (int64_t at = 0; at < n; at += PIECE) {
        float w[PIECE];
        int64_t k = n - at < PIECE ? n - at : PIECE;
        t5_to_f32(w, (const char *)bytes + (size_t)at * t5_dtype_size(type), type, (size_t)k);
        int64_t bad = t5_row_not_finite(w, k);
        if (bad >= 0 && at + bad < first)
            first = at + bad;
    }
    return first == INT64_MAX ? -1 : first;
}
