/* quant_int8.c - rows of a weight to int8 with one scale each. Does not choose which tensors: see
 * quantize_plan.c. */
/* SPDX-License-Identifier: MIT */
#include "io/quant_int8.h"

#include <math.h>
#include <string.h>

#include "io/quant_row.h"

/* Adding 1.5 x 2^23 leaves no bits for a fraction: the processor rounds to nearest even, and the
 * low byte of the sum is the value. Valid below 2^22, and these are at most 127. */
T5_CLONES static void round_row(int8_t *q, const float *w, float factor, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float sum = w[i] * factor + 12582912.0f;
        uint32_t bits;
        memcpy(&bits, &sum, 4);
        q[i] = (int8_t)(uint8_t)bits;
    }
}

int64_t t5_int8_row(int8_t *q, float *scale, const float *w, int64_t n)
{
    float most = t5_row_largest(w, n);
    if (!isfinite(most))
        return t5_row_not_finite(w, n);
    if (most < T5_ROW_TINY) {
        memset(q, 0, (size_t)n);
        *scale = 0;
        return -1;
    }
    *scale = most / 127.0f;
    round_row(q, w, 127.0f / most, n);
    return -1;
}
