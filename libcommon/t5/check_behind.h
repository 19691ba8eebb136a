/* check_behind.h - a checkpoint is checked by a thread while its weights go to the device and the
 * first results are made: the checksum of a large model takes longer than loading it. Nothing is
 * written before the verdict. */
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
    volatile int stop, done;
    pthread_t thread;
};

void t5_check_behind_begin(struct t5_check_behind *check, const struct t5_checkpoint *checkpoint,
                           int finite);
/* The verdict where it is there by now: 0, too, while it is not. */
int t5_check_behind_poll(struct t5_check_behind *check, struct t5_err *err) T5_MUST_CHECK;
/* Waits for the verdict. rc and err: how all went so far. Returns rc, or -1 with err saying what is
 * wrong with the checkpoint: that comes first, since a damaged file may fail in any way. */
int t5_check_behind_end(struct t5_check_behind *check, int rc, struct t5_err *err) T5_MUST_CHECK;
/* Gives up, where it was begun: something else went wrong. */
void t5_check_behind_stop(struct t5_check_behind *check);

#endif
