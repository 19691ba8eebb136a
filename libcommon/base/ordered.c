/* ordered.c - batches through threads in order: one lock, a ring of batches, and threads that take
 * turns. */
/* SPDX-License-Identifier: MIT */
#include "base/ordered.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

enum state { EMPTY, BUSY, DONE };

struct shared {
    const struct t5_ordered *ops;
    void *const *batches;
    int n_batches;
    enum state state[2 * T5_MAX_THREADS + 1]; /* one a batch */
    int64_t next_read, next_write;            /* batch numbers; number % n_batches is the place */
    int reading, writing, ended, failed;
    pthread_t reader; /* while reading */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct t5_err *err;
};

struct worker {
    struct shared *shared;
    int number;
    pthread_t thread;
};

/* Each takes the lock held and leaves it held; 1: something was done. */
static int try_write(struct shared *s)
{
    int place = (int)(s->next_write % s->n_batches);
    if (s->writing || s->failed || s->state[place] != DONE)
        return 0;
    s->writing = 1;
    pthread_mutex_unlock(&s->lock);
    int rc = s->ops->write(s->ops->arg, s->batches[place], s->err);
    pthread_mutex_lock(&s->lock);
    s->writing = 0;
    s->state[place] = EMPTY;
    s->next_write++;
    if (rc) {
        s->failed = 1;
        if (s->reading) /* it may wait for input that never comes */
            pthread_cancel(s->reader);
    }
    pthread_cond_broadcast(&s->changed);
    return 1;
}

static int try_read(struct shared *s, int worker)
{
    int place = (int)(s->next_read % s->n_batches), old;
    if (s->reading || s->ended || s->failed || s->state[place] != EMPTY)
        return 0;
    s->reading = 1;
    s->reader = pthread_self();
    pthread_mutex_unlock(&s->lock);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    int rc = s->ops->read(s->ops->arg, s->batches[place]);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_mutex_lock(&s->lock);
    s->reading = 0;
    if (rc == 0) {
        s->ended = 1;
    } else {
        s->next_read++;
        s->state[place] = BUSY;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        s->ops->work(s->ops->arg, worker, s->batches[place]);
        pthread_mutex_lock(&s->lock);
        s->state[place] = DONE;
    }
    pthread_cond_broadcast(&s->changed);
    return 1;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct shared *s = w->shared;
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_mutex_lock(&s->lock);
    while (!s->failed && !(s->ended && s->next_write == s->next_read))
        if (!try_write(s) && !try_read(s, w->number))
            pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int run_alone(const struct t5_ordered *ops, void *batch, struct t5_err *err)
{
    while (ops->read(ops->arg, batch)) {
        ops->work(ops->arg, 0, batch);
        if (ops->write(ops->arg, batch, err))
            return -1;
    }
    return 0;
}

int t5_ordered_run(const struct t5_ordered *ops, void *const *batches, int threads, struct t5_err *err)
{
    if (threads <= 1)
        return run_alone(ops, batches[0], err);
    struct shared s = {.ops = ops, .batches = batches, .err = err};
    struct worker workers[T5_MAX_THREADS];
    int started = 0, code = 0;
    s.n_batches = t5_ordered_batches(threads);
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.changed, NULL);
    for (; started < threads && !code; started += !code) {
        workers[started] = (struct worker){.shared = &s, .number = started};
        code = pthread_create(&workers[started].thread, NULL, run, &workers[started]);
    }
    for (int i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_cond_destroy(&s.changed);
    pthread_mutex_destroy(&s.lock);
    if (started == 0)
        return t5_fail_as(err, T5_ENVIRONMENT, "cannot start a thread: %s", strerror(code));
    return s.failed ? -1 : 0;
}
