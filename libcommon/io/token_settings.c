/* token_settings.c - how a token file's ids came about. */
/* SPDX-License-Identifier: MIT */
#include "io/token_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define CARRIED "tokens."
#define SHOWN 48 /* bytes of a value in a message */

/* The first is the tokenizer; the next up to COMPARED change what it is given. */
static const char *const keys[T5_TOKEN_SETTINGS] = {
    CARRIED "tokenizer_sha256", CARRIED "prefix",     CARRIED "template",   CARRIED "segmentation",
    CARRIED "special_in_text",  CARRIED "max_source", CARRIED "max_target", CARRIED "on_long"};
enum { TOKENIZER = 0, COMPARED = 5 };

static const char *bare(int i)
{
    return keys[i] + strlen(CARRIED);
}

static int take(struct t5_token_settings *s, int i, const char *value, struct t5_err *err)
{
    if (!value)
        return 0;
    s->values[i] = strdup(value);
    return s->values[i] ? 0 : t5_fail_memory(err, strlen(value), "a token file's settings");
}

int t5_token_settings_read(struct t5_token_settings *out, const struct t5_safetensors *file,
                           struct t5_err *err)
{
    *out = (struct t5_token_settings){0};
    for (int i = 0; i < T5_TOKEN_SETTINGS; i++)
        if (take(out, i, t5_safetensors_metadata(file, bare(i), NULL), err)) {
            t5_token_settings_free(out);
            return -1;
        }
    return 0;
}

int t5_token_settings_read_carried(struct t5_token_settings *out, t5_find_value *find,
                                   const void *from, struct t5_err *err)
{
    *out = (struct t5_token_settings){0};
    for (int i = 0; i < T5_TOKEN_SETTINGS; i++)
        if (take(out, i, find(from, keys[i]), err)) {
            t5_token_settings_free(out);
            return -1;
        }
    return 0;
}

void t5_token_settings_free(struct t5_token_settings *settings)
{
    for (int i = 0; i < T5_TOKEN_SETTINGS; i++)
        free(settings->values[i]);
    *settings = (struct t5_token_settings){0};
}

int t5_token_settings_known(const struct t5_token_settings *settings)
{
    return settings->values[TOKENIZER] != NULL;
}

int t5_token_settings_rows(struct t5_metadata rows[T5_TOKEN_SETTINGS],
                           const struct t5_token_settings *settings)
{
    int n = 0;
    for (int i = 0; i < T5_TOKEN_SETTINGS; i++)
        if (settings->values[i])
            rows[n++] = (struct t5_metadata){keys[i], settings->values[i]};
    return n;
}

/* "'VALUE'", cut; or "none". */
static void show(char out[SHOWN + 8], const char *value)
{
    char escaped[T5_ESCAPED];
    if (!value) {
        snprintf(out, SHOWN + 8, "none");
        return;
    }
    t5_escape(escaped, value, strlen(value));
    size_t n = strlen(escaped), cut = SHOWN;
    while (n > SHOWN && cut > 0 && ((unsigned char)escaped[cut] & 0xC0) == 0x80)
        cut--; /* not inside a character */
    snprintf(out, SHOWN + 8, "'%.*s%s'", (int)(n > SHOWN ? cut : n), escaped,
             n > SHOWN ? "..." : "");
}

static int same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

enum t5_token_difference t5_token_settings_compare(char text[T5_TOKEN_DIFFERENCE],
                                                   const struct t5_token_settings *there,
                                                   const struct t5_token_settings *here)
{
    char a[SHOWN + 8], b[SHOWN + 8];
    if (!t5_token_settings_known(there) || !t5_token_settings_known(here))
        return T5_TOKENS_ALIKE;
    for (int i = 0; i < COMPARED; i++) {
        if (same(there->values[i], here->values[i]))
            continue;
        show(a, there->values[i]);
        show(b, here->values[i]);
        if (i == TOKENIZER) {
            snprintf(text, T5_TOKEN_DIFFERENCE,
                     "another tokenizer (SHA-256 %.12s... there, %.12s... here)", a + 1, b + 1);
            return T5_TOKENIZER;
        }
        snprintf(text, T5_TOKEN_DIFFERENCE, "%s %s there, %s here", bare(i), a, b);
        return T5_TOKENS_TEXT;
    }
    return T5_TOKENS_ALIKE;
}
