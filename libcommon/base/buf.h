/* buf.h - a growable run of bytes. The caller's struct, zero-initialised; t5_buf_free may be
 * called on it at any time and more than once. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_BUF_H
#define T5_BASE_BUF_H

#include "base/err.h"

struct t5_buf {
    char *data;
    size_t n, capacity; /* bytes */
};

/* Makes room for `more` bytes beyond n without changing n. */
int t5_buf_reserve(struct t5_buf *buf, size_t more, struct t5_err *err) T5_MUST_CHECK;
int t5_buf_append(struct t5_buf *buf, const void *bytes, size_t n, struct t5_err *err) T5_MUST_CHECK;
int t5_buf_printf(struct t5_buf *buf, struct t5_err *err, const char *fmt, ...)
    T5_PRINTF(3, 4) T5_MUST_CHECK;
void t5_buf_free(struct t5_buf *buf);

/* malloc and calloc of count x size with the product checked; NULL on failure, after filling err.
 * size 0 or count 0 gives a pointer that can be freed. */
void *t5_alloc(size_t count, size_t size, const char *what, struct t5_err *err);
void *t5_alloc_zeroed(size_t count, size_t size, const char *what, struct t5_err *err);

#endif
