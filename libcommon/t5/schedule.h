/* schedule.h - the learning rate of each step: transformers' get_linear_schedule_with_warmup,
 * get_cosine_schedule_with_warmup and get_constant_schedule_with_warmup. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SCHEDULE_H
#define T5_T5_SCHEDULE_H

#include <stdint.h>

enum t5_schedule_kind { T5_SCHEDULE_LINEAR, T5_SCHEDULE_COSINE, T5_SCHEDULE_CONSTANT };

struct t5_schedule {
    enum t5_schedule_kind kind;
    double lr;      /* the highest */
    int64_t warmup; /* steps over which it rises from 0 */
    int64_t total;  /* steps in all: linear and cosine are 0 there */
};

/* For the step-th step, from 0: the first step of a linear schedule without warm-up has the full
 * lr, the last one lr / total. */
double t5_schedule_lr(const struct t5_schedule *schedule, int64_t step);

#endif
