/* buf.c - growable byte buffer and checked allocation. */
/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int t5_buf_reserve(struct t5_buf *buf, size_t more, struct t5_err *err)
{
    if (more <= buf->capacity - buf->n)
        return 0;
    if (more > SIZE_MAX / 2 - buf->n)
        return t5_fail_memory(err, more, "a buffer");
    size_t capacity = buf->capacity ? buf->capacity : 256;
    while (capacity - buf->n < more)
        capacity *= 2;
    char *data = realloc(buf->data, capacity);
    if (!data)
        return t5_fail_memory(err, capacity, "a buffer");
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int t5_buf_append(struct t5_buf *buf, const void *bytes, size_t n, struct t5_err *err)
{
    if (t5_buf_reserve(buf, n, err))
        return -1;
    if (n)
        memcpy(buf->data + buf->n, bytes, n);
    buf->n += n;
    return 0;
}

int t5_buf_printf(struct t5_buf *buf, struct t5_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (t5_buf_reserve(buf, (size_t)n + 1, err))
        return -1;
    va_start(ap, fmt);
    vsnprintf(buf->data + buf->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf->n += (size_t)n;
    return 0;
}

void t5_buf_free(struct t5_buf *buf)
{
    free(buf->data);
    *buf = (struct t5_buf){0};
}

static int product(size_t *bytes, size_t count, size_t size, const char *what, struct t5_err *err)
{
    if (__builtin_mul_overflow(count, size, bytes))
        return t5_fail_memory(err, SIZE_MAX, what);
    return 0;
}

void *t5_alloc(size_t count, size_t size, const char *what, struct t5_err *err)
{
    size_t bytes;
    if (product(&bytes, count, size, what, err))
        return NULL;
    void *p = malloc(bytes ? bytes : 1);
    if (!p)
        t5_fail_memory(err, bytes, what);
    return p;
}

void *t5_alloc_zeroed(size_t count, size_t size, const char *what, struct t5_err *err)
{
    size_t bytes;
    if (product(&bytes, count, size, what, err))
        return NULL;
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p)
        t5_fail_memory(err, bytes, what);
    return p;
}
