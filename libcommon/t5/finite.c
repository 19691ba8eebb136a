/* finite.c - a scan of a checkpoint's bits: not finite is an exponent of ones, so nothing is
 * converted. */
/* SPDX-License-Identifier: MIT */
#include "t5/finite.h"

#include <string.h>

/* The first of n elements of `size` bytes whose exponent bits are all set; n: none. Data may start
 * anywhere. */
static inline __attribute__((always_inline)) int64_t first_of(const void *data, int64_t n,
                                                              size_t size, uint64_t exponent)
{
    enum { PIECE = 1024 };
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t k = n - at < PIECE ? n - at : PIECE;
        const char *p = (const char *)data + (size_t)at * size;
        int bad = 0;
        for (int64_t i = 0; i < k; i++) {
            uint64_t bits = 0;
            memcpy(&bits, p + (size_t)i * size, size);
            bad |= (bits & exponent) == exponent;
        }
        for (int64_t i = 0; bad && i < k; i++) {
            uint64_t bits = 0;
            memcpy(&bits, p + (size_t)i * size, size);
            if ((bits & exponent) == exponent)
                return at + i;
        }
    }
    return n;
}

static int64_t first_not_finite(const struct t5_tensor *t)
{
    switch (t->type) { /* sizes as constants, so that each loop is compiled for its own */
    case T5_F32:
        return first_of(t->data, t->elements, 4, 0x7f800000);
    case T5_BF16:
        return first_of(t->data, t->elements, 2, 0x7f80);
    case T5_F16:
        return first_of(t->data, t->elements, 2, 0x7c00);
    case T5_F8: /* NaN alone has ones in all seven bits */
        return first_of(t->data, t->elements, 1, 0x7f);
    case T5_F64:
        return first_of(t->data, t->elements, 8, 0x7ff0000000000000);
    default:
        return t->elements;
    }
}

int t5_checkpoint_check_finite(const struct t5_checkpoint *checkpoint, struct t5_err *err)
{
    for (int i = 0; i < t5_checkpoint_count(checkpoint); i++) {
        const struct t5_tensor *t = t5_checkpoint_at(checkpoint, i);
        int64_t bad = first_not_finite(t);
        if (bad < t->elements)
            return t5_fail(err, "%s: tensor '%s': element %lld is not finite", t->file, t->name,
                           (long long)bad);
    }
    return 0;
}
