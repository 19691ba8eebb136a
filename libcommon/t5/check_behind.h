/* check_behind.h - a checkpoint is checked by a thread while its weights go to the device: the
 * checksum of a large model takes longer than that. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_CHECK_BEHIND_H
#define T5_T5_CHECK_BEHIND_H

#include <pthread.h>

#include "io/checkpoint.h"

/* The caller's, zeroed; begin to end, in one place. */
struct t5_check_behind {
    const struct t5_checkpoint *checkpoint; /* borrowed until the end; NULL: not begun, or ended */
    int finite;                             /* look at every value, too */
    int rc;
    struct t5_err err;
    int threaded;
    volatile int stop;
    pthread_t thread;
};

void t5_check_behind_begin(struct t5_check_behind *check, const struct t5_checkpoint *checkpoint,
                           int finite);
/* Waits for the verdict. rc and err: how loading went. Returns rc, or -1 with err saying what is
 * wrong with the checkpoint: that comes first, since a damaged file may fail to load in any way. */
int t5_check_behind_end(struct t5_check_behind *check, int rc, struct t5_err *err) T5_MUST_CHECK;
/* Gives up, where it was begun: something else went wrong. */
void t5_check_behind_stop(struct t5_check_behind *check);

#endif
