/* gemm.h - matrix products of the CPU backend. Activations and results are f32 in memory; what a
 * product computes in is the packed weight's `math`: F32; BF16: both sides rounded to bf16, sums in
 * f32; INT8: weight rows and activation rows to int8 by absmax, sums in int32 (exact).
 *
 * Every element is one chain of additions over k in ascending order, so a row of the result has the
 * same bits whatever rows stand beside it and however many threads compute it (threads 1: the
 * caller's). Leading dimensions (ld*) are in elements. Nothing here allocates except t5_packed_make
 * and t5_gemm_scratch_make. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CPU_GEMM_H
#define T5_CPU_GEMM_H

#include <stdint.h>

#include "backend/backend.h"

/* A frozen weight laid out for the processor: panels of 64 columns of the result. */
struct t5_packed {
    enum t5_compute math;
    int64_t n, k;       /* the product is (m, k) -> (m, n) */
    int64_t k_padded;   /* to a multiple of 4; k for f32 */
    void *panels;       /* (n/64, k_padded/u, 64, u), u = 1 f32, 2 bf16, 4 int8; owned */
    size_t panel_bytes; /* one panel */
    float *scale;       /* (n padded to 64), int8 only; owned */
    int32_t *shift;     /* (n padded to 64), int8 only: 128 x the column's sum; owned */
};

/* Packs the parts, stacked: W is (sum of rows, k = their cols). transposed 0: for Y(m, rows) = X(m,
 * k) W^T, rows stacked along the result. transposed 1: for dX(m, k) = dY(m, rows) W. Its row scales
 * lie along the sum, so int8 math is refused there. */
int t5_packed_make(struct t5_packed *out, enum t5_compute math, int transposed,
                   const struct t5_matrix *parts, int n_parts, struct t5_err *err) T5_MUST_CHECK;
void t5_packed_free(struct t5_packed *packed);
/* Bytes t5_packed_make keeps for W (rows, k). */
int64_t t5_packed_size(enum t5_compute math, int transposed, int64_t rows, int64_t k);

/* Where activations are converted; one per stream of calls. Any size from one row up works. */
struct t5_gemm_scratch {
    void *data; /* owned */
    size_t bytes;
};
/* Room for m rows of k elements (more rows are taken in turns). Grows, keeps no contents. */
int t5_gemm_scratch_make(struct t5_gemm_scratch *scratch, int64_t m, int64_t k,
                         struct t5_err *err) T5_MUST_CHECK;
void t5_gemm_scratch_free(struct t5_gemm_scratch *scratch);

/* y(m, n) = x(m, k) W, or += with accumulate. scratch must hold at least one row of w->k. */
void t5_gemm_packed(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m,
                    const struct t5_packed *w, int accumulate, struct t5_gemm_scratch *scratch,
                    int threads);

/* An f32 matrix read through strides: element (i, j) lies at data[i*row + j*col]. */
struct t5_view {
    const float *data;
    int64_t row, col;
};
/* y(m, n) [+]= a(m, k) b(k, n): products whose weights change every step. One of b's strides is 1.
 * Y = X W^T: b = {W, 1, ldw}; dX = dY W: b = {W, ldw, 1}; dW = dY^T X: a = {dY, 1, ldy}. */
void t5_gemm(float *y, int64_t ldy, struct t5_view a, struct t5_view b, int64_t m, int64_t n,
             int64_t k, int accumulate, int threads);

/* "avx512", "avx2" or "portable": what this processor runs. t5_gemm_force picks one for tests and
 * returns -1 where the processor lacks it; weights keep working, their layout is common. */
const char *t5_gemm_isa_name(void);
int t5_gemm_force(const char *name);

#endif
