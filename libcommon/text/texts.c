/* texts.c - one or several texts in two buffers: see texts.h. */
/* SPDX-License-Identifier: MIT */
#include "text/texts.h"

static int end_text(struct t5_texts *texts, struct t5_err *err)
{
    return t5_buf_append(&texts->ends, &texts->bytes.n, sizeof texts->bytes.n, err);
}

int t5_texts_add(struct t5_texts *texts, const char *text, size_t n, struct t5_err *err)
{
    return t5_buf_append(&texts->bytes, text, n, err) ? -1 : end_text(texts, err);
}

int t5_texts_read(struct t5_texts *texts, const struct t5_record *record,
                  const struct t5_field *field, int lists, struct t5_err *err)
{
    size_t before = texts->ends.n;
    struct t5_field item = *field;
    const char *at = NULL;
    int rc;
    if (!lists || field->type != T5_JSON_ARRAY)
        return t5_field_string(&texts->bytes, record, field, err) ? -1 : end_text(texts, err);
    while ((rc = t5_field_next_string(&item, &at, record, field, err)) == 1)
        if (t5_field_string(&texts->bytes, record, &item, err) || end_text(texts, err))
            return -1;
    if (rc == 0 && texts->ends.n == before)
        return t5_record_fail(record, field->value, err, "a list of no references");
    return rc;
}

static const size_t *ends_of(const struct t5_texts *texts)
{
    return (const size_t *)(const void *)texts->ends.data;
}

size_t t5_texts_count(const struct t5_texts *texts)
{
    return texts->ends.n / sizeof(size_t);
}

const char *t5_texts_at(size_t *n, const struct t5_texts *texts, size_t i)
{
    size_t begin = i ? ends_of(texts)[i - 1] : 0;
    *n = ends_of(texts)[i] - begin;
    return texts->bytes.data + begin;
}

void t5_texts_clear(struct t5_texts *texts)
{
    texts->bytes.n = texts->ends.n = 0;
}

void t5_texts_free(struct t5_texts *texts)
{
    t5_buf_free(&texts->bytes);
    t5_buf_free(&texts->ends);
}
