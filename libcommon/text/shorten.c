/* shorten.c - text to tokens and back: see shorten.h. */
/* SPDX-License-Identifier: MIT */
#include "text/shorten.h"

#include <stdlib.h>

#include "text/tokenizer.h"

struct t5_shorten {
    struct t5_tokenizer *tokenizer;
    struct t5_encoder *encoder;
    size_t max;
    struct t5_buf ids;
};

int t5_shorten_open(struct t5_shorten **out, const char *path, size_t max, struct t5_err *err)
{
    struct t5_shorten *s = t5_alloc_zeroed(1, sizeof *s, "a tokenizer", err);
    *out = s;
    if (!s)
        return -1;
    s->max = max;
    if (t5_tokenizer_open(&s->tokenizer, path, NULL, 0, err) ||
        t5_encoder_open(&s->encoder, s->tokenizer, err)) {
        t5_shorten_close(s);
        *out = NULL;
        return -1;
    }
    return 0;
}

void t5_shorten_close(struct t5_shorten *shorten)
{
    if (!shorten)
        return;
    t5_encoder_close(shorten->encoder);
    t5_tokenizer_close(shorten->tokenizer);
    t5_buf_free(&shorten->ids);
    free(shorten);
}

int t5_shorten_text(struct t5_buf *out, struct t5_shorten *shorten, const char *text, size_t n,
                    struct t5_err *err)
{
    struct t5_buf *ids = &shorten->ids;
    if (t5_encode(ids, shorten->encoder, text, n, shorten->max, err))
        return -1;
    return t5_decode(out, shorten->tokenizer, (const int32_t *)(const void *)ids->data,
                     ids->n / sizeof(int32_t), err);
}
