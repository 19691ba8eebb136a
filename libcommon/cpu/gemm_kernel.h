/* gemm_kernel.h - the inner tiles of gemm.c, one table an instruction set. Private to gemm*.c.
 *
 * A tile is at most T5_GEMM_MR rows x T5_GEMM_NR columns. Every output element is one chain of
 * additions over k in ascending order, whatever the tile's size: that, and nothing else, is what
 * makes a row's result independent of the rows beside it and of the thread that computes it. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CPU_GEMM_KERNEL_H
#define T5_CPU_GEMM_KERNEL_H

#include <stdint.h>

#define T5_GEMM_MR 6
#define T5_GEMM_NR 64

/* Bytes of the next panel that a tile should ask for while it computes: `lines` cache lines of the
 * 256 bytes that one step of k takes in a packed panel, beginning with `first`. */
struct t5_gemm_ahead {
    const char *next; /* the panel (or part of it) that follows in memory */
    int first, lines; /* lines 0: nothing */
};

struct t5_gemm_isa {
    const char *name;

    /* y(m,n) [+]= a(m,k) b(k,n); a's element (i,p) lies at a[i*rs + p*cs], b's rows are ldb apart.
     */
    void (*f32)(float *y, int64_t ldy, const float *a, int64_t rs, int64_t cs, const float *b,
                int64_t ldb, int64_t k, int m, int n, int accumulate,
                const struct t5_gemm_ahead *ahead);

    /* a (m, k) bf16 rows lda apart; b a packed panel (k/2, NR, 2); k even. */
    void (*bf16)(float *y, int64_t ldy, const uint16_t *a, int64_t lda, const uint16_t *b,
                 int64_t k, int m, int n, int accumulate, const struct t5_gemm_ahead *ahead);

    /* a (m, k) bytes 128 + q, rows lda apart; b a packed panel (k/4, NR, 4); k a multiple of 4;
     * y = (sum - shift[j]) * b_scale[j] * a_scale[i], shift[j] = 128 x the sum of b's column j. */
    void (*int8)(float *y, int64_t ldy, const uint8_t *a, int64_t lda, const float *a_scale,
                 const int8_t *b, const float *b_scale, const int32_t *shift, int64_t k, int m,
                 int n, int accumulate, const struct t5_gemm_ahead *ahead);

    /* One row of activations. round: to bf16, nearest even. quantise: q = rint(x * 127/absmax),
     * *scale = absmax/127, NaN where the row holds one. Elements k..padded-1 of out are set to what
     * adds nothing. */
    void (*round)(uint16_t *out, const float *x, int64_t k, int64_t padded);
    void (*quantise)(uint8_t *out, float *scale, const float *x, int64_t k, int64_t padded);

    /* out[p*NR + j] = in[j*ld + p] for p < depth, j < n <= NR: any 32 bits; out may receive zeros
     * up to the next multiple of 16 columns */
    void (*transpose)(float *out, const float *in, int64_t ld, int n, int64_t depth);
};

const struct t5_gemm_isa *t5_gemm_isa(void); /* the one in use */
extern const struct t5_gemm_isa t5_gemm_avx512, t5_gemm_avx2, t5_gemm_portable;

#endif
