/* schedule.c - learning rates. Has no state: a resumed run asks for its own step. */
/* SPDX-License-Identifier: MIT */
#include "t5/schedule.h"

#include <math.h>

static double at_least_one(int64_t n)
{
    return n > 1 ? (double)n : 1;
}

double t5_schedule_lr(const struct t5_schedule *s, int64_t step)
{
    if (step < s->warmup)
        return s->lr * ((double)step / at_least_one(s->warmup));
    double left = at_least_one(s->total - s->warmup);
    switch (s->kind) {
    case T5_SCHEDULE_LINEAR:
        return s->lr * fmax(0, (double)(s->total - step) / left);
    case T5_SCHEDULE_COSINE:
        return s->lr * fmax(0, 0.5 * (1 + cos(M_PI * ((double)(step - s->warmup) / left))));
    case T5_SCHEDULE_CONSTANT:
        break;
    }
    return s->lr;
}
