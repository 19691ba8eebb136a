/* tokenizer.h - text to T5's token ids and back. Ids are those of transformers' fast tokenizer, to
 * the last one; the SentencePiece library's own segmentation (other where scores tie) is an option.
 * */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEXT_TOKENIZER_H
#define T5_TEXT_TOKENIZER_H

#include "base/buf.h"
#include "text/segment.h"
#include "text/spiece.h"

/* Another segmentation than ours: t5_spm_library of spm.h, so that only a program that names it
 * links it. */
struct t5_spm;
struct t5_segment_library {
    int (*open)(struct t5_spm **out, const void *model, size_t n, struct t5_err *err);
    void (*close)(struct t5_spm *spm);
    int (*encode)(struct t5_buf *out, const struct t5_spm *spm, const char *text, size_t n,
                  struct t5_err *err);
};

struct t5_tokenizer; /* read-only once open: threads share it */
struct t5_encoder;   /* a thread's own scratch and word memory */

/* Reads spiece.model (or that of a directory), checks it, and gives it to the library, if there is
 * one (NULL: ours segments). special: "</s>", "<pad>", "<unk>" and "<extra_id_N>" in text are those
 * ids, as transformers does it; else they are text like any other. */
int t5_tokenizer_open(struct t5_tokenizer **out, const char *path,
                      const struct t5_segment_library *library, int special,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_tokenizer_close(struct t5_tokenizer *tokenizer);
/* Ids that have text or are a sentinel: pieces, and 100 sentinels where the model has none of its
 * own. */
int32_t t5_tokenizer_size(const struct t5_tokenizer *tokenizer);
/* The size of T5's embedding for it: that number rounded up to a multiple of 128 (32,100 to
 * 32,128). */
int32_t t5_tokenizer_vocab(const struct t5_tokenizer *tokenizer);

/* As it was opened. */
int t5_tokenizer_has_library(const struct t5_tokenizer *tokenizer);
int t5_tokenizer_special(const struct t5_tokenizer *tokenizer);
/* SHA-256 of spiece.model, 64 hexadecimal digits and NUL. */
void t5_tokenizer_digest(char out[65], const struct t5_tokenizer *tokenizer);

int t5_encoder_open(struct t5_encoder **out, const struct t5_tokenizer *tokenizer,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_encoder_close(struct t5_encoder *encoder);
/* Sets out to the ids (int32_t, out->n in bytes) of valid UTF-8 text, </s> at the end. With max > 0
 * at most max ids: the first max - 1 and </s>. */
int t5_encode(struct t5_buf *out, struct t5_encoder *encoder, const char *text, size_t n,
              size_t max, struct t5_err *err) T5_MUST_CHECK;

/* The same, and appends to unknown the characters (struct t5_unknown, after normalisation) that
 * became T5_UNK among these ids. Slower, and not with a library. */
int t5_encode_unknown(struct t5_buf *unknown, struct t5_buf *out, struct t5_encoder *encoder,
                      const char *text, size_t n, size_t max, struct t5_err *err) T5_MUST_CHECK;

/* Appends the text of ids, which lie in [0, t5_tokenizer_vocab): special ids and ids without text
 * are left out, and spaces before punctuation are closed up as transformers'
 * clean_up_tokenization_spaces does. */
int t5_decode(struct t5_buf *out, const struct t5_tokenizer *tokenizer, const int32_t *ids,
              size_t n, struct t5_err *err) T5_MUST_CHECK;

#endif
