/* hash_behind.c - a ring of pieces between the thread that makes and writes them and the one that
 * checksums them. */
/* SPDX-License-Identifier: MIT */
#include "io/hash_behind.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "io/mapping.h"

#define PIECES 4

struct piece {
    void *buffer; /* owned, capacity bytes */
    const void *bytes;
    size_t n;
};

struct t5_hash_behind {
    struct t5_safetensors_writer *writer;
    struct piece pieces[PIECES];
    unsigned put, hashed; /* counts; piece i lies at i % PIECES */
    int finished;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
};

static void *hash_pieces(void *argument)
{
    struct t5_hash_behind *h = argument;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (h->hashed == h->put && !h->finished)
            pthread_cond_wait(&h->changed, &h->lock);
        if (h->hashed == h->put)
            break;
        struct piece *p = &h->pieces[h->hashed % PIECES];
        pthread_mutex_unlock(&h->lock);
        t5_safetensors_write_hash(h->writer, p->bytes, p->n);
        if (p->bytes != p->buffer)
            t5_mapping_drop(p->bytes, p->n);
        pthread_mutex_lock(&h->lock);
        h->hashed++;
        pthread_cond_broadcast(&h->changed);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static void release(struct t5_hash_behind *h)
{
    for (int i = 0; i < PIECES; i++)
        free(h->pieces[i].buffer);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
    free(h);
}

int t5_hash_behind_open(struct t5_hash_behind **out, struct t5_safetensors_writer *writer,
                        size_t capacity, struct t5_err *err)
{
    struct t5_hash_behind *h = t5_alloc_zeroed(1, sizeof *h, "buffers", err);
    *out = NULL;
    if (!h)
        return -1;
    h->writer = writer;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    for (int i = 0; i < PIECES; i++)
        if (!(h->pieces[i].buffer = t5_alloc(capacity, 1, "buffers", err))) {
            release(h);
            return -1;
        }
    if (pthread_create(&h->thread, NULL, hash_pieces, h) != 0) {
        release(h);
        return t5_fail_as(err, T5_ENVIRONMENT, "cannot start a thread");
    }
    *out = h;
    return 0;
}

/* The next piece of the ring, once it is free: the caller's alone until it is put. */
static struct piece *wait_for_piece(struct t5_hash_behind *h)
{
    pthread_mutex_lock(&h->lock);
    while (h->put - h->hashed == PIECES)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return &h->pieces[h->put % PIECES];
}

static int put(struct t5_hash_behind *h, struct piece *p, const void *bytes, size_t n,
               struct t5_err *err)
{
    p->bytes = bytes;
    p->n = n;
    pthread_mutex_lock(&h->lock);
    h->put++;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    return t5_safetensors_write_unhashed(h->writer, bytes, n, err);
}

void *t5_hash_behind_buffer(struct t5_hash_behind *h)
{
    return wait_for_piece(h)->buffer;
}

int t5_hash_behind_put(struct t5_hash_behind *h, size_t n, struct t5_err *err)
{
    struct piece *p = &h->pieces[h->put % PIECES]; /* ours since t5_hash_behind_buffer */
    return put(h, p, p->buffer, n, err);
}

int t5_hash_behind_put_borrowed(struct t5_hash_behind *h, const void *bytes, size_t n,
                                struct t5_err *err)
{
    return put(h, wait_for_piece(h), bytes, n, err);
}

void t5_hash_behind_close(struct t5_hash_behind *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->finished = 1;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    release(h);
}
