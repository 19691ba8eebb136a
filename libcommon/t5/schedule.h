/* schedule.h - the learning rate of each step: transformers' get_{linear,cosine,constant}_schedule
 * _with_warmup, get_inverse_sqrt_schedule and get_wsd_schedule with their defaults. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SCHEDULE_H
#define T5_T5_SCHEDULE_H

#include <stdint.h>

enum t5_schedule_kind {
    T5_SCHEDULE_LINEAR,
    T5_SCHEDULE_COSINE,
    T5_SCHEDULE_CONSTANT,
    T5_SCHEDULE_INVERSE_SQRT, /* warmup^1/2 / step^1/2; 10,000 in place of no warm-up */
    T5_SCHEDULE_WSD,          /* warm-up, stable, decay along half a cosine */
};

struct t5_schedule {
    enum t5_schedule_kind kind;
    double lr;      /* the highest */
    int64_t warmup; /* steps over which it rises from 0 */
    int64_t decay;  /* wsd: steps over which it falls in the end */
    int64_t total;  /* steps in all: linear, cosine and wsd are 0 there */
};

/* For the step-th step, from 0: the first step of a linear schedule without warm-up has the full
 * lr, the last one lr / total. */
double t5_schedule_lr(const struct t5_schedule *schedule, int64_t step);

#endif
