/* spike.h - losses that stand out: the z-score of a step's loss over those of the steps before it.
 * All finite losses enter the window, spikes too: a loss that stays high is the new level after a
 * while. Does not know what is done about them. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_SPIKE_H
#define T5_T5_SPIKE_H

#include <stdint.h>

#include "base/buf.h"

struct t5_spike {
    double z;       /* a spike is so many standard deviations above the mean; 0: nothing is */
    int64_t size;   /* losses of the window; fewer say nothing */
    double *losses; /* owned (size): the last n, oldest first */
    int64_t n;
};

/* On failure too t5_spike_free may be called. */
int t5_spike_init(struct t5_spike *out, double z, int64_t size, struct t5_err *err) T5_MUST_CHECK;
void t5_spike_free(struct t5_spike *spike);
/* The largest loss that is none; infinity until the window is full. */
double t5_spike_limit(const struct t5_spike *spike);
/* Standard deviations above the mean; the window is full. */
double t5_spike_score(const struct t5_spike *spike, double loss);
/* Takes a loss into the window, unless it is not finite. */
void t5_spike_add(struct t5_spike *spike, double loss);
/* The window as text, and back: the same numbers. */
int t5_spike_print(struct t5_buf *out, const struct t5_spike *spike,
                   struct t5_err *err) T5_MUST_CHECK;
int t5_spike_parse(struct t5_spike *spike, const char *text, struct t5_err *err) T5_MUST_CHECK;

#endif
