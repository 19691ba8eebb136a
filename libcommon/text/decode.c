/* decode.c - ids to text, as transformers' decode(skip_special_tokens=True) writes it. Needs no
 * tokenizer: t5-train decodes, too, and links none. */
/* SPDX-License-Identifier: MIT */
#include "text/decode.h"

#include <string.h>

#include "text/tokenizer_inside.h"

size_t t5_sentinel_number(const char *text, size_t n, int32_t *number)
{
    static const char start[] = "<extra_id_";
    size_t i = sizeof start - 1;
    if (n < i + 2 || memcmp(text, start, i) != 0)
        return 0;
    int32_t v = 0;
    size_t digits = i;
    while (i < n && i < digits + 2 && text[i] >= '0' && text[i] <= '9')
        v = 10 * v + (text[i++] - '0');
    if (i == digits || i >= n || text[i] != '>' || (text[digits] == '0' && i > digits + 1))
        return 0;
    *number = v;
    return i + 1;
}

static int has_text(const struct t5_spiece *model, int32_t id)
{
    int32_t number;
    if (id < 0 || id >= model->n || id <= T5_UNK)
        return 0;
    const struct t5_piece *p = &model->pieces[id];
    return t5_sentinel_number(p->text, p->n, &number) != p->n;
}

/* Every U+2581 is a space, except in the first piece, where it is nothing. */
static int append_piece(struct t5_buf *out, const struct t5_piece *piece, int first,
                        struct t5_err *err)
{
    const char *p = piece->text, *end = p + piece->n;
    while (p < end) {
        const char *hit = memmem(p, (size_t)(end - p), "\xe2\x96\x81", 3);
        if (t5_buf_append(out, p, (size_t)((hit ? hit : end) - p), err) ||
            (hit && !first && t5_buf_append(out, " ", 1, err)))
            return -1;
        p = hit ? hit + 3 : end;
    }
    return 0;
}

/* One pass of clean_up_tokenization_spaces: every `from` in text[0..n) becomes what follows its
 * leading space (and loses a trailing one). Works in place and returns the new length. */
static size_t close_up(char *text, size_t n, const char *from)
{
    size_t len = strlen(from), keep = len - 1 - (from[len - 1] == ' '), to = 0;
    for (size_t i = 0; i < n;) {
        if (text[i] == ' ' && n - i >= len && memcmp(text + i, from, len) == 0) {
            memcpy(text + to, from + 1, keep);
            to += keep;
            i += len;
        } else {
            text[to++] = text[i++];
        }
    }
    return to;
}

int t5_decode_ids(struct t5_buf *out, const struct t5_spiece *model, const int32_t *ids, size_t n,
                  struct t5_err *err)
{
    static const char *const passes[] = {" .",   " ?",  " !",  " ,",   " ' ",
                                         " n't", " 'm", " 's", " 've", " 're"};
    size_t start = out->n;
    int first = 1;
    for (size_t i = 0; i < n; i++) {
        if (!has_text(model, ids[i]))
            continue;
        if (append_piece(out, &model->pieces[ids[i]], first, err))
            return -1;
        first = 0;
    }
    for (size_t i = 0; i < sizeof passes / sizeof *passes && out->n > start; i++)
        out->n = start + close_up(out->data + start, out->n - start, passes[i]);
    return 0;
}

int t5_decode(struct t5_buf *out, const struct t5_tokenizer *tokenizer, const int32_t *ids,
              size_t n, struct t5_err *err)
{
    return t5_decode_ids(out, &tokenizer->model, ids, n, err);
}
