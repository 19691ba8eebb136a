/* quant_fp8.c - rows of a weight to E4M3 with one scale each. Does not choose which tensors: see
 * quantize_plan.c. */
/* SPDX-License-Identifier: MIT */
#include "io/quant_fp8.h"

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "io/quant_row.h"

T5_CLONES static void round_row(uint8_t *q, const float *w, float scale, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        q[i] = t5_f32_to_f8(w[i] / scale);
}

int64_t t5_fp8_row(uint8_t *q, float *scale, const float *w, int64_t n)
{
    float most = t5_row_largest(w, n);
    if (!isfinite(most))
        return t5_row_not_finite(w, n);
    *scale = most < T5_ROW_TINY ? 0 : most / 448.0f;
    if (*scale > 0)
        round_row(q, w, *scale, n);
    else
        memset(q, 0, (size_t)n);
    return -1;
}
