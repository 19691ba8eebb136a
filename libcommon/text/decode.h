/* decode.h - token ids back to text, from the model file alone: for programs that make no ids of
 * text and so have no tokenizer. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_DECODE_H
#define T5_TEXT_DECODE_H

#include "base/buf.h"
#include "text/spiece.h"

/* As t5_decode; any id may come, what has no text is left out. */
int t5_decode_ids(struct t5_buf *out, const struct t5_spiece *model, const int32_t *ids, size_t n,
                  struct t5_err *err) T5_MUST_CHECK;

#endif
