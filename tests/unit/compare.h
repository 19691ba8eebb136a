/* compare.h - the one comparator of numbers in tests. NaN and infinity never pass. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TESTS_COMPARE_H
#define T5_TESTS_COMPARE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static inline int t5_close(double got, double want, double atol, double rtol)
{
    return isfinite(got) && isfinite(want) && fabs(got - want) <= atol + rtol * fabs(want);
}

/* Fails the test at the first element that is off. */
static inline void assert_close(const float *got, const float *want, int64_t n, double atol,
                                double rtol, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (!t5_close((double)got[i], (double)want[i], atol, rtol))
            fail_msg("%s[%lld]: got %.9g, want %.9g", what, (long long)i, (double)got[i],
                     (double)want[i]);
}

/* Fails the test where |got - want| is more than `most` of |want|. */
static inline void assert_near(const float *got, const float *want, int64_t n, double most,
                               const char *what)
{
    double off = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        all += (double)want[i] * (double)want[i];
    }
    if (!(sqrt(off) <= most * sqrt(all)))
        fail_msg("%s: off by %.3g of the norm", what, sqrt(off / all));
}

#endif
