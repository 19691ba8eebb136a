/* quant_row.c - the largest magnitude of a row. */
/* SPDX-License-Identifier: MIT */
#include "io/quant_row.h"

#include <math.h>
#include <string.h>

/* As bits: of two floats without sign the larger has the larger bits, and NaN and infinity are
 * above all, so one maximum finds the scale and what is not finite. */
T5_CLONES float t5_row_largest(const float *w, int64_t n)
{
    uint32_t most = 0;
    float largest;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, w + i, 4);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    memcpy(&largest, &most, 4);
    return largest;
}

int64_t t5_row_not_finite(const float *w, int64_t n)
{
    if (isfinite(t5_row_largest(w, n)))
        return -1;
    int64_t i = 0;
    while (isfinite(w[i]))
        i++;
    return i;
}
