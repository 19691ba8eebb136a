/* token_settings.h - how a token file's ids came about: the settings that t5-tokenize leaves in its
 * metadata. They travel into adapters and models that are trained on them, as "tokens.KEY", and are
 * compared where both are known. JSON lines carry none. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_TOKEN_SETTINGS_H
#define T5_IO_TOKEN_SETTINGS_H

#include "io/safetensors.h"

#define T5_TOKEN_SETTINGS 8

/* Starts as zeros: nothing known. */
struct t5_token_settings {
    char *values[T5_TOKEN_SETTINGS]; /* NULL: not known; owned. First: the SHA-256 */
};

/* The value of a key, or NULL. */
typedef const char *t5_find_value(const void *from, const char *key);
/* From a token file; or, carried, from what was trained: find(from, "tokens.KEY"). */
int t5_token_settings_read(struct t5_token_settings *out, const struct t5_safetensors *file,
                           struct t5_err *err) T5_MUST_CHECK;
int t5_token_settings_read_carried(struct t5_token_settings *out, t5_find_value *find,
                                   const void *from, struct t5_err *err) T5_MUST_CHECK;
void t5_token_settings_free(struct t5_token_settings *settings);
int t5_token_settings_known(const struct t5_token_settings *settings);
/* Rows to carry them in; returns how many. Values are borrowed. */
int t5_token_settings_rows(struct t5_metadata rows[T5_TOKEN_SETTINGS],
                           const struct t5_token_settings *settings);

/* Whether the same text would become other ids: T5_TOKENS_TEXT, by its prefix, template or reading;
 * T5_TOKENIZER, by another tokenizer. Limits do not count, and what is not known agrees. text: what
 * differs, as in "prefix 'a' there, none here". */
enum t5_token_difference { T5_TOKENS_ALIKE, T5_TOKENS_TEXT, T5_TOKENIZER };
#define T5_TOKEN_DIFFERENCE 256
enum t5_token_difference t5_token_settings_compare(char text[T5_TOKEN_DIFFERENCE],
                                                   const struct t5_token_settings *there,
                                                   const struct t5_token_settings *here);

#endif
