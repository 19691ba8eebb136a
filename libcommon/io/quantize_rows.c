/* quantize_rows.c - rows of one tensor: read as f32, merged, written in the new type, the loss
 * measured. */
/* SPDX-License-Identifier: MIT */
#include "io/quantize_rows.h"

#include <math.h>
#include <omp.h>

#include "io/quant_int8.h"

/* The row as f32: in place where the file has it so and aligned, else in `room`. */
static const float *read_row(float *room, const struct t5_quantize_rows *job, int64_t row)
{
    const struct t5_tensor *t = job->step->in;
    const char *at = (const char *)t->data + (size_t)(row * job->columns) * t5_dtype_size(t->type);
    if (t->type == T5_F32 && (uintptr_t)at % sizeof(float) == 0)
        return (const float *)(const void *)at;
    if (t->type == T5_I8) {
        float scale;
        memcpy(&scale, (const char *)job->step->scale->data + 4 * row, 4);
        t5_int8_row_back(room, (const int8_t *)at, scale, job->columns);
    } else
        t5_to_f32(room, at, t->type, (size_t)job->columns);
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

/* One row; index in the row of a weight that is not finite, or -1. room: (2, columns). */
static int64_t convert_row(void *out, float *scale, struct t5_quantize_loss *loss, float *room,
                           const struct t5_quantize_rows *job, int64_t row)
{
    int64_t n = job->columns, bad;
    const float *w = read_row(room, job, row);
    for (int i = 0; i < job->n_loras; i++) {
        add_lora(room, room + n, w, job, &job->loras[i], row);
        w = room;
    }
    if (job->step->out == T5_I8)
        bad = t5_int8_row(out, scale, w, n);
    else {
        bad = t5_row_not_finite(w, n);
        t5_from_f32(out, w, job->step->out, (size_t)n);
    }
    if (bad >= 0 || !loss)
        return bad;
    float *back = room + n; /* the merge's sum is no longer needed */
    if (job->step->out == T5_I8)
        t5_int8_row_back(back, out, *scale, n);
    else
        t5_to_f32(back, out, job->step->out, (size_t)n);
    *loss = measure(w, back, n);
    return -1;
}

int64_t t5_quantize_rows(void *out, float *scale, const struct t5_quantize_rows *job, int64_t from,
                         int64_t n)
{
    int64_t first = INT64_MAX;
    enum t5_dtype in = job->step->in->type;
    /* plain rows pass at the speed of memory; a team of threads, which waits by spinning, would
     * only take the processor from the thread that checksums */
    int heavy = job->n_loras || in == T5_F16 || in == T5_F64;
    size_t stride = (size_t)job->columns * t5_dtype_size(job->step->out);
#pragma omp parallel for schedule(static) reduction(min : first) if (heavy)
    for (int64_t r = 0; r < n; r++) {
        float *room = job->scratch + 2 * job->columns * omp_get_thread_num();
        int64_t bad = convert_row((char *)out + (size_t)r * stride, scale ? scale + r : NULL,
                                  job->loss ? job->loss + r : NULL, room, job, from + r);
        if (bad >= 0 && (from + r) * job->columns + bad < first)
            first = (from + r) * job->columns + bad;
    }
    return first == INT64_MAX ? -1 : first;
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
