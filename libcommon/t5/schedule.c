/* schedule.c - learning rates. Has no state: a resumed run asks for its own step. */
/* SPDX-License-Identifier: MIT */
#include "t5/schedule.h"

#include <math.h>

static double at_least_one(int64_t n)
{
    return n > 1 ? (double)n : 1;
}

static double half_cosine(double progress)
{
    return fmax(0, 0.5 * (1 + cos(M_PI * progress)));
}

static double inverse_sqrt(const struct t5_schedule *s, int64_t step)
{
    double timescale = s->warmup > 0 ? (double)s->warmup : 10000;
    return 1 / sqrt(((double)step + (timescale - (double)s->warmup)) / timescale);
}

static double wsd(const struct t5_schedule *s, int64_t step)
{
    int64_t falls = s->total - s->decay; /* the first step of the decay */
    if (step < falls)
        return 1;
    return step < s->total ? half_cosine((double)(step - falls) / at_least_one(s->decay)) : 0;
}

static double factor(const struct t5_schedule *s, int64_t step)
{
    double left = at_least_one(s->total - s->warmup);
    if (step < s->warmup)
        return (double)step / at_least_one(s->warmup);
    switch (s->kind) {
    case T5_SCHEDULE_LINEAR:
        return fmax(0, (double)(s->total - step) / left);
    case T5_SCHEDULE_COSINE:
        return half_cosine((double)(step - s->warmup) / left);
    case T5_SCHEDULE_INVERSE_SQRT:
        return inverse_sqrt(s, step);
    case T5_SCHEDULE_WSD:
        return wsd(s, step);
    case T5_SCHEDULE_CONSTANT:
        break;
    }
    return 1;
}

double t5_schedule_lr(const struct t5_schedule *s, int64_t step)
{
    return s->lr * factor(s, step);
}
