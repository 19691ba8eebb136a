/* linear.c - weights and the products with them. The arithmetic is gemm.c's.
 *
 * A frozen weight multiplies in the device's compute type, with one rule for int8: what a file
 * keeps as int8 is multiplied as int8, what it keeps otherwise (lm_head, whatever t5-quantize
 * --keep spared, fp8, nf4) is multiplied in bf16, so that the choice of what to quantise is made in
 * one place. Input gradients of int8 weights use bf16. fp8 and nf4 are expanded once, and so are
 * int8 weights under f32 compute: a kernel that converts as it goes would read a quarter of the
 * memory, but f32 is for exactness. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cpu/cpu.h"

enum { SCRATCH_ROWS = 512, SCRATCH_BYTES = 16 << 20 };

/* ---- weights ---- */

static enum t5_compute forward_math(const struct t5_device *dev, enum t5_dtype type)
{
    return dev->compute == T5_COMPUTE_INT8 && type != T5_I8 ? T5_COMPUTE_BF16 : dev->compute;
}

static enum t5_compute input_math(const struct t5_device *dev)
{
    return dev->compute == T5_COMPUTE_INT8 ? T5_COMPUTE_BF16 : dev->compute;
}

/* A table is kept as it comes, for a few of its rows are read at a time; fp8 and nf4 as f32. */
static enum t5_dtype table_type(enum t5_dtype type)
{
    return type == T5_F8 || type == T5_NF4 ? T5_F32 : type;
}

static int keep_table(struct t5_weight *w, const struct t5_matrix *parts, int n_parts,
                      struct t5_err *err)
{
    if (n_parts != 1)
        return t5_fail(err, "a table to gather from is one matrix, found %d", n_parts);
    const size_t elements = (size_t)(w->rows * w->cols);
    w->table_type = table_type(parts->type);
    w->table = t5_alloc(elements, t5_dtype_size(w->table_type), "an embedding table", err);
    if (!w->table)
        return -1;
    if (w->table_type != parts->type)
        t5_matrix_read_rows(w->table, parts, 0, parts->rows);
    else
        memcpy(w->table, parts->data, elements * t5_dtype_size(parts->type));
    if (parts->type != T5_I8)
        return 0;
    w->table_scale = t5_alloc((size_t)w->rows, sizeof(float), "an embedding table's scales", err);
    if (!w->table_scale)
        return -1;
    memcpy(w->table_scale, parts->scale, (size_t)w->rows * sizeof(float));
    return 0;
}

static int make_scratch(struct t5_device *dev, int64_t k, struct t5_err *err)
{
    const int64_t fit = SCRATCH_BYTES / (2 * k + 1);
    return t5_gemm_scratch_make(&dev->scratch,
                                fit < 1              ? 1
                                : fit > SCRATCH_ROWS ? SCRATCH_ROWS
                                                     : fit,
                                k, err);
}

int cpu_weight_freeze(struct t5_device *dev, struct t5_weight **out, const struct t5_matrix *parts,
                      int n_parts, unsigned use, struct t5_err *err)
{
    struct t5_weight *w = t5_alloc_zeroed(1, sizeof *w, "a weight", err);
    enum t5_dtype type = T5_I8;
    if (!w)
        return -1;
    for (int i = 0; i < n_parts; i++) {
        w->rows += parts[i].rows;
        type = parts[i].type != T5_I8 ? parts[i].type : type;
    }
    w->cols = parts->cols;
    if ((use & T5_USE_FORWARD) &&
        (t5_packed_make(&w->forward, forward_math(dev, type), 0, parts, n_parts, err) < 0 ||
         make_scratch(dev, w->cols, err) < 0))
        goto fail;
    if ((use & T5_USE_INPUT_GRAD) &&
        (t5_packed_make(&w->input, input_math(dev), 1, parts, n_parts, err) < 0 ||
         make_scratch(dev, w->rows, err) < 0))
        goto fail;
    if ((use & T5_USE_GATHER) && keep_table(w, parts, n_parts, err) < 0)
        goto fail;
    *out = w;
    return 0;
fail:
    cpu_weight_free(dev, w);
    return -1;
}

int cpu_weight_bind(struct t5_device *dev, struct t5_weight **out, const float *values,
                    int64_t rows, int64_t cols, struct t5_err *err)
{
    (void)dev;
    struct t5_weight *w = t5_alloc_zeroed(1, sizeof *w, "a weight", err);
    if (!w)
        return -1;
    *w = (struct t5_weight){.rows = rows, .cols = cols, .values = values};
    *out = w;
    return 0;
}

/* Products pack bound weights as they go: measured, that costs 2 to 8 % of a product. */
void cpu_weight_refresh(struct t5_device *dev, struct t5_weight *w)
{
    (void)dev;
    (void)w;
}

void cpu_weight_free(struct t5_device *dev, struct t5_weight *w)
{
    (void)dev;
    if (!w)
        return;
    t5_packed_free(&w->forward);
    t5_packed_free(&w->input);
    free(w->table);
    free(w->table_scale);
    free(w);
}

int64_t cpu_weight_bytes(const struct t5_device *dev, enum t5_dtype type, int64_t rows,
                         int64_t cols, unsigned use)
{
    int64_t bytes = 0;
    if (use & T5_USE_FORWARD)
        bytes += t5_packed_size(forward_math(dev, type), 0, rows, cols);
    if (use & T5_USE_INPUT_GRAD)
        bytes += t5_packed_size(input_math(dev), 1, rows, cols);
    if (use & T5_USE_GATHER)
        bytes += rows * cols * (int64_t)t5_dtype_size(table_type(type)) +
                 (type == T5_I8 ? 4 * rows : 0);
    return bytes;
}

/* ---- products ---- */

static struct t5_view rows_of(const float *x, int64_t ld)
{
    return (struct t5_view){x, ld, 1};
}
static struct t5_view turned(const float *x, int64_t ld)
{
    return (struct t5_view){x, 1, ld};
}

void cpu_linear_fwd(struct t5_device *dev, act *y, int64_t ldy, const act *x, int64_t ldx,
                    const struct t5_weight *w, int64_t n)
{
    if (w->values)
        t5_gemm(y, ldy, rows_of(x, ldx), turned(w->values, w->cols), n, w->rows, w->cols, 0,
                dev->threads);
    else
        t5_gemm_packed(y, ldy, x, ldx, n, &w->forward, 0, &dev->scratch, dev->threads);
}

void cpu_logits_fwd(struct t5_device *dev, float *logits, const act *x, int64_t ldx,
                    const struct t5_weight *w, int64_t n, float scale)
{
    cpu_linear_fwd(dev, logits, w->rows, x, ldx, w, n);
    if (scale == 1)
        return;
    CPU_PARALLEL_FOR(dev, n > 1)
    for (int64_t i = 0; i < n; i++)
        dev->rows->scale(logits + i * w->rows, logits + i * w->rows, scale, w->rows);
}

void cpu_linear_bwd_input(struct t5_device *dev, act *dx, int64_t lddx, const act *dy, int64_t lddy,
                          const struct t5_weight *w, int64_t n, int accumulate)
{
    if (w->values)
        t5_gemm(dx, lddx, rows_of(dy, lddy), rows_of(w->values, w->cols), n, w->cols, w->rows,
                accumulate, dev->threads);
    else
        t5_gemm_packed(dx, lddx, dy, lddy, n, &w->input, accumulate, &dev->scratch, dev->threads);
}

void cpu_linear_bwd_weight(struct t5_device *dev, float *dw, const act *dy, int64_t lddy,
                           const act *x, int64_t ldx, int64_t rows, int64_t cols, int64_t n)
{
    t5_gemm(dw, cols, turned(dy, lddy), rows_of(x, ldx), rows, cols, n, 1, dev->threads);
}
