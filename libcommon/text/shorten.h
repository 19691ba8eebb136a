/* shorten.h - a text as a model's labels have it: encoded, cut to so many tokens, decoded. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_SHORTEN_H
#define T5_TEXT_SHORTEN_H

#include "base/buf.h"

struct t5_shorten;

/* path: spiece.model or its directory. max: tokens, </s> included, at least 1. */
int t5_shorten_open(struct t5_shorten **out, const char *path, size_t max,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_shorten_close(struct t5_shorten *shorten);
/* Appends what is left of valid UTF-8 text, as t5_decode writes it: text that is short enough loses
 * its line breaks and unknown characters, too. */
int t5_shorten_text(struct t5_buf *out, struct t5_shorten *shorten, const char *text, size_t n,
                    struct t5_err *err) T5_MUST_CHECK;

#endif
