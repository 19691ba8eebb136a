/* check_behind.c - one thread, one verdict. Without a thread to be had the caller checks itself. */
/* SPDX-License-Identifier: MIT */
#include "t5/check_behind.h"

#include "t5/finite.h"

static void *check_all(void *argument)
{
    struct t5_check_behind *c = argument;
    c->rc = t5_checkpoint_verify_until(c->checkpoint, &c->stop, &c->err) ||
                    (c->finite && !c->stop && t5_checkpoint_check_finite(c->checkpoint, &c->err))
                ? -1
                : 0;
    c->done = 1;
    return NULL;
}

void t5_check_behind_begin(struct t5_check_behind *c, const struct t5_checkpoint *checkpoint,
                           int finite)
{
    *c = (struct t5_check_behind){.checkpoint = checkpoint, .finite = finite};
    c->threaded = pthread_create(&c->thread, NULL, check_all, c) == 0;
}

int t5_check_behind_poll(struct t5_check_behind *c, struct t5_err *err)
{
    return c->threaded && !c->done ? 0 : t5_check_behind_end(c, 0, err);
}

int t5_check_behind_end(struct t5_check_behind *c, int rc, struct t5_err *err)
{
    if (!c->checkpoint)
        return rc;
    if (c->threaded)
        pthread_join(c->thread, NULL);
    else
        check_all(c);
    c->checkpoint = NULL;
    if (c->rc == 0)
        return rc;
    *err = c->err;
    return -1;
}

void t5_check_behind_stop(struct t5_check_behind *c)
{
    c->stop = 1;
    if (c->checkpoint && c->threaded)
        pthread_join(c->thread, NULL);
    c->checkpoint = NULL;
}
