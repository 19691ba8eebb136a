/* id_lists.c - lists of token ids. */
/* SPDX-License-Identifier: MIT */
#include "t5/id_lists.h"

#include <string.h>

#include "io/tokens.h"

static int64_t end_of(const struct t5_id_lists *lists, int64_t i)
{
    return i < 0 ? 0 : ((const int64_t *)(const void *)lists->ends.data)[i];
}

const int32_t *t5_id_lists_at(const struct t5_id_lists *lists, int64_t i, int64_t *n)
{
    int64_t begin = end_of(lists, i - 1);
    *n = end_of(lists, i) - begin;
    return (const int32_t *)(const void *)lists->ids.data + begin;
}

/* What was appended to ids since the last list becomes one. */
static int end_list(struct t5_id_lists *lists, struct t5_err *err)
{
    int64_t end = (int64_t)(lists->ids.n / sizeof(int32_t));
    if (t5_buf_append(&lists->ends, &end, sizeof end, err))
        return -1;
    lists->n++;
    return 0;
}

/* Digits up to a comma or the end: the id, -1 where it is none below vocab. */
static int64_t read_id(const char **text, int64_t vocab)
{
    int64_t id = 0;
    const char *p = *text;
    if (*p < '0' || *p > '9')
        return -1;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((id = 10 * id + (*p - '0')) >= vocab)
            return -1;
    *text = p;
    return *p == ',' || !*p ? id : -1;
}

int t5_id_lists_parse(struct t5_id_lists *lists, const char *text, int64_t vocab,
                      const char *option, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    for (const char *p = text;; p++) {
        int64_t id = read_id(&p, vocab);
        int32_t short_id = (int32_t)id;
        if (id < 0)
            return t5_fail_as(err, T5_USAGE,
                              "%s: expected ids from 0 to %lld, as in 5,6,7, found '%s'", option,
                              (long long)vocab - 1, t5_escape(shown, text, strlen(text)));
        if (t5_buf_append(&lists->ids, &short_id, sizeof short_id, err))
            return -1;
        if (!*p)
            return end_list(lists, err);
    }
}

int t5_id_lists_read(struct t5_id_lists *lists, const char *path, int64_t vocab, int32_t eos,
                     struct t5_err *err)
{
    struct t5_tokens_options how = {.vocab = vocab, .max_line = T5_MAX_LINE};
    struct t5_tokens_reader *reader;
    struct t5_token_record record;
    int rc = t5_tokens_open(&reader, &path, 1, &how, err);
    while (rc == 0 && (rc = t5_tokens_next(reader, &record, err)) == 1) {
        int64_t n = record.n_input;
        n -= record.input[n - 1] == eos;
        rc = n == 0
                 ? t5_token_record_fail(&record, err, "\"input_ids\" holds nothing but </s>")
                 : t5_buf_append(&lists->ids, record.input, (size_t)n * sizeof *record.input, err);
        if (rc == 0)
            rc = end_list(lists, err);
    }
    t5_tokens_close(reader);
    return rc;
}

void t5_id_lists_free(struct t5_id_lists *lists)
{
    t5_buf_free(&lists->ids);
    t5_buf_free(&lists->ends);
    lists->n = 0;
}
