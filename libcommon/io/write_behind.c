/* write_behind.c - a ring of pieces between the thread that makes them and the one that writes them. */
/* SPDX-License-Identifier: MIT */
#include "io/write_behind.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "io/mapping.h"

#define PIECES 4

struct piece {
    void *buffer; /* owned, capacity bytes */
    const void *bytes;
    size_t n;
    int borrowed;
};

struct t5_write_behind {
    struct t5_safetensors_writer *writer;
    struct piece pieces[PIECES];
    unsigned put, written; /* counts; piece i lies at i % PIECES */
    int finished, failed;
    struct t5_err err;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
};

static void *write_pieces(void *argument)
{
    struct t5_write_behind *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->written == w->put && !w->finished)
            pthread_cond_wait(&w->changed, &w->lock);
        if (w->written == w->put)
            break;
        struct piece *p = &w->pieces[w->written % PIECES];
        int failed = w->failed;
        pthread_mutex_unlock(&w->lock);
        if (!failed)
            failed = t5_safetensors_write(w->writer, p->bytes, p->n, &w->err) != 0;
        if (p->borrowed)
            t5_mapping_drop(p->bytes, p->n);
        pthread_mutex_lock(&w->lock);
        w->failed = failed;
        w->written++;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void release(struct t5_write_behind *w)
{
    for (int i = 0; i < PIECES; i++)
        free(w->pieces[i].buffer);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
}

int t5_write_behind_open(struct t5_write_behind **out, struct t5_safetensors_writer *writer, size_t capacity,
                         struct t5_err *err)
{
    struct t5_write_behind *w = t5_alloc_zeroed(1, sizeof *w, "buffers", err);
    *out = NULL;
    if (!w)
        return -1;
    w->writer = writer;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    for (int i = 0; i < PIECES; i++)
        if (!(w->pieces[i].buffer = t5_alloc(capacity, 1, "buffers", err))) {
            release(w);
            return -1;
        }
    if (pthread_create(&w->thread, NULL, write_pieces, w) != 0) {
        release(w);
        return t5_fail_as(err, T5_ENVIRONMENT, "cannot start a thread");
    }
    *out = w;
    return 0;
}

static struct piece *wait_for_piece(struct t5_write_behind *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->put - w->written == PIECES)
        pthread_cond_wait(&w->changed, &w->lock);
    struct piece *p = w->failed ? NULL : &w->pieces[w->put % PIECES];
    pthread_mutex_unlock(&w->lock);
    return p;
}

static void hand_over(struct t5_write_behind *w)
{
    pthread_mutex_lock(&w->lock);
    w->put++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void *t5_write_behind_buffer(struct t5_write_behind *w)
{
    struct piece *p = wait_for_piece(w);
    return p ? p->buffer : NULL;
}

void t5_write_behind_put(struct t5_write_behind *w, size_t n)
{
    struct piece *p = &w->pieces[w->put % PIECES]; /* ours since t5_write_behind_buffer */
    p->bytes = p->buffer;
    p->n = n;
    p->borrowed = 0;
    hand_over(w);
}

int t5_write_behind_put_borrowed(struct t5_write_behind *w, const void *bytes, size_t n)
{
    struct piece *p = wait_for_piece(w);
    if (!p)
        return -1;
    p->bytes = bytes;
    p->n = n;
    p->borrowed = 1;
    hand_over(w);
    return 0;
}

int t5_write_behind_close(struct t5_write_behind *w, struct t5_err *err)
{
    if (!w)
        return 0;
    pthread_mutex_lock(&w->lock);
    w->finished = 1;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    int failed = w->failed;
    if (failed)
        *err = w->err;
    release(w);
    return failed ? -1 : 0;
}
