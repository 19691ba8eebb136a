/* spm.h - the SentencePiece library behind a C face. Exceptions end here. Only t5-tokenize and the
 * tests link it; give it models that t5_spiece_parse has passed. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_SPM_H
#define T5_TEXT_SPM_H

#include "text/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct t5_segment_library t5_spm_library; /* these three */

/* struct t5_spm is read-only once open: threads share it. */
int t5_spm_open(struct t5_spm **out, const void *model, size_t n, struct t5_err *err);
void t5_spm_close(struct t5_spm *spm);
/* Appends the library's ids (int32_t), without </s>. */
int t5_spm_encode(struct t5_buf *out, const struct t5_spm *spm, const char *text, size_t n,
                  struct t5_err *err);

#ifdef __cplusplus
}
#endif

#endif
