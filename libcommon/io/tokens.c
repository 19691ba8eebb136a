/* tokens.c - token records from JSONL or packed files, one by one, checked. How a packed file is
 * laid out: see tokens_packed.c. */
/* SPDX-License-Identifier: MIT */
#include "io/tokens.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/tokens_packed.h"

#define PAD 0
#define EOS 1

struct t5_tokens_reader {
    struct t5_tokens_options options;
    const char *const *paths;
    int n_paths, next_path;
    struct t5_jsonl *lines;  /* the open file, where it is JSONL */
    struct t5_packed packed; /* where it is packed: packed.file is set */
    int64_t next_packed;
    struct t5_record record;
    struct t5_buf input, labels, mask;
    int64_t index;
};

static const char *const standard_input[] = {"-"};

int t5_tokens_open(struct t5_tokens_reader **out, const char *const *paths, int n_paths,
                   const struct t5_tokens_options *options, struct t5_err *err)
{
    struct t5_tokens_reader *r = t5_alloc_zeroed(1, sizeof *r, "a reader", err);
    *out = r;
    if (!r)
        return -1;
    r->options = *options;
    r->paths = n_paths ? paths : standard_input;
    r->n_paths = n_paths ? n_paths : 1;
    return 0;
}

void t5_tokens_close(struct t5_tokens_reader *reader)
{
    if (!reader)
        return;
    t5_jsonl_close(reader->lines);
    t5_packed_close(&reader->packed);
    t5_buf_free(&reader->input);
    t5_buf_free(&reader->labels);
    t5_buf_free(&reader->mask);
    free(reader);
}

int t5_token_record_fail(const struct t5_token_record *record, struct t5_err *err, const char *fmt,
                         ...)
{
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    t5_fail(err, "%s:%lld: %s", record->file, (long long)record->line, text);
    err->skippable = 1;
    return -1;
}

/* Length against its limit; *n may shrink, and then ids[*n - 1] becomes a final </s> that was
 * there. */
static int limit_length(int32_t *ids, int64_t *n, int64_t max, const char *name, int truncate,
                        const struct t5_token_record *record, struct t5_err *err)
{
    if (max == 0 || *n <= max)
        return 0;
    if (!truncate)
        return t5_token_record_fail(record, err, "\"%s\": %lld tokens, at most %lld are taken",
                                    name, (long long)*n, (long long)max);
    if (ids[*n - 1] == EOS)
        ids[max - 1] = EOS;
    *n = max;
    return 0;
}

static int check_labels(struct t5_token_record *out, struct t5_err *err)
{
    if (out->n_labels == 0)
        return t5_token_record_fail(out, err, "\"labels\" is empty");
    for (int64_t i = 0; i < out->n_labels; i++)
        if (out->labels[i] != PAD)
            return 0;
    return t5_token_record_fail(out, err, "\"labels\" holds nothing but padding");
}

/* Nothing is padded here, so a mask may be present but hides nothing. */
static int check_mask(struct t5_tokens_reader *r, const struct t5_token_record *out,
                      struct t5_err *err)
{
    const struct t5_field *field = t5_record_find(&r->record, "attention_mask");
    if (!field)
        return 0;
    if (t5_field_ids(&r->mask, &r->record, field, 2, err))
        return -1;
    int64_t n = (int64_t)(r->mask.n / sizeof(int32_t));
    if (n != out->n_input)
        return t5_record_fail(&r->record, field->value, err,
                              "\"attention_mask\" has %lld items, \"input_ids\" %lld", (long long)n,
                              (long long)out->n_input);
    for (int64_t i = 0; i < n; i++)
        if (((const int32_t *)r->mask.data)[i] == 0)
            return t5_record_fail(&r->record, field->value, err,
                                  "\"attention_mask\" hides item %lld: padded input is not taken",
                                  (long long)i);
    return 0;
}

static int read_labels(struct t5_tokens_reader *r, struct t5_token_record *out, struct t5_err *err)
{
    const struct t5_tokens_options *o = &r->options;
    if (o->labels == T5_LABELS_IGNORED)
        return 0;
    const struct t5_field *field = o->labels == T5_LABELS_REQUIRED
                                       ? t5_record_need(&r->record, "labels", err)
                                       : t5_record_find(&r->record, "labels");
    if (!field)
        return o->labels == T5_LABELS_REQUIRED ? -1 : 0;
    if (t5_field_ids(&r->labels, &r->record, field, o->vocab, err))
        return -1;
    out->labels = (const int32_t *)r->labels.data;
    out->n_labels = (int64_t)(r->labels.n / sizeof(int32_t));
    if (limit_length((int32_t *)r->labels.data, &out->n_labels, o->max_labels, "labels",
                     o->truncate, out, err))
        return -1;
    return check_labels(out, err);
}

static int read_record(struct t5_tokens_reader *r, struct t5_token_record *out, struct t5_err *err)
{
    const struct t5_tokens_options *o = &r->options;
    const struct t5_field *field = t5_record_need(&r->record, "input_ids", err);
    if (!field || t5_field_ids(&r->input, &r->record, field, o->vocab, err))
        return -1;
    *out = (struct t5_token_record){.input = (const int32_t *)r->input.data,
                                    .n_input = (int64_t)(r->input.n / sizeof(int32_t)),
                                    .n_labels = -1,
                                    .record = &r->record,
                                    .file = r->record.file,
                                    .line = r->record.line,
                                    .index = r->index - 1};
    if (out->n_input == 0 && !o->allow_empty_input)
        return t5_token_record_fail(out, err, "\"input_ids\" is empty");
    if (check_mask(r, out, err) || limit_length((int32_t *)r->input.data, &out->n_input,
                                                o->max_input, "input_ids", o->truncate, out, err))
        return -1;
    return read_labels(r, out, err);
}

static int read_packed(struct t5_tokens_reader *r, struct t5_token_record *out, struct t5_err *err)
{
    const struct t5_tokens_options *o = &r->options;
    int64_t i = r->next_packed++;
    *out = (struct t5_token_record){.file = t5_safetensors_shown(r->packed.file),
                                    .n_labels = -1,
                                    .line = i + 1,
                                    .index = r->index++};
    if (t5_packed_ids(&r->input, &r->packed.input, i, out, o->vocab, err))
        return -1;
    out->input = (const int32_t *)r->input.data;
    out->n_input = (int64_t)(r->input.n / sizeof(int32_t));
    if (out->n_input == 0 && !o->allow_empty_input)
        return t5_token_record_fail(out, err, "\"input_ids\" is empty");
    if (limit_length((int32_t *)r->input.data, &out->n_input, o->max_input, "input_ids",
                     o->truncate, out, err))
        return -1;
    if (o->labels == T5_LABELS_IGNORED)
        return 0;
    if (t5_packed_ids(&r->labels, &r->packed.labels, i, out, o->vocab, err))
        return -1;
    if (r->labels.n == 0) /* how a packed file says that a record has none */
        return o->labels == T5_LABELS_REQUIRED ? t5_token_record_fail(out, err, "no \"labels\"")
                                               : 0;
    out->labels = (const int32_t *)r->labels.data;
    out->n_labels = (int64_t)(r->labels.n / sizeof(int32_t));
    if (limit_length((int32_t *)r->labels.data, &out->n_labels, o->max_labels, "labels",
                     o->truncate, out, err))
        return -1;
    return check_labels(out, err);
}

/* A safetensors file begins with the 8-byte length of its header, whose high bytes are zero;
 * records begin with '{', perhaps behind blanks, and hold no zero byte. */
static int detect(struct t5_jsonl *lines, int *packed, struct t5_err *err)
{
    int zeros = 0;
    *packed = 0;
    for (size_t i = 0; i < 8; i++) {
        int byte;
        if (t5_jsonl_peek(lines, i, &byte, err))
            return -1;
        if (byte < 0 || byte == '{')
            return 0;
        zeros += i >= 4 && byte == 0;
    }
    *packed = zeros == 4;
    return 0;
}

/* A tokenizer with more ids than the model has is another model's. */
static int check_packed(struct t5_tokens_reader *r, struct t5_err *err)
{
    const struct t5_tokens_options *o = &r->options;
    const char *shown = t5_safetensors_shown(r->packed.file);
    const char *size = t5_safetensors_metadata(r->packed.file, "tokenizer_size", NULL);
    if (size && size[strspn(size, "0123456789")] == 0 && atoll(size) > o->vocab)
        return t5_fail(err, "%s: made with a tokenizer of %.20s ids, the model has %lld", shown,
                       size, (long long)o->vocab);
    return o->opened ? o->opened(o->context, shown, r->packed.file, err) : 0;
}

/* Hands the open file over to the packed reader. A regular file is gone back in and mapped. */
static int open_packed(struct t5_tokens_reader *r, struct t5_err *err)
{
    struct stat st;
    const char *bytes, *name;
    size_t n;
    int fd = t5_jsonl_release(r->lines, &bytes, &n, &name);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && lseek(fd, -(off_t)n, SEEK_CUR) >= 0)
        n = 0;
    int rc = t5_packed_open(&r->packed, fd, bytes, n, name, err);
    t5_jsonl_close(r->lines);
    r->lines = NULL;
    r->next_packed = 0;
    return rc ? -1 : check_packed(r, err);
}

/* 1: a file is open; 0: there is no further one. */
static int need_input(struct t5_tokens_reader *r, struct t5_err *err)
{
    int packed;
    if (r->lines || r->packed.file)
        return 1;
    if (r->next_path == r->n_paths)
        return 0;
    if (t5_jsonl_open(&r->lines, r->paths + r->next_path++, 1, r->options.max_line, err) ||
        detect(r->lines, &packed, err) || (packed && open_packed(r, err)))
        return -1;
    return 1;
}

int t5_tokens_next(struct t5_tokens_reader *r, struct t5_token_record *out, struct t5_err *err)
{
    int rc;
    while ((rc = need_input(r, err)) == 1) {
        if (r->packed.file) {
            if (r->next_packed < r->packed.n)
                return read_packed(r, out, err) ? -1 : 1;
            t5_packed_close(&r->packed);
            continue;
        }
        rc = t5_jsonl_next(r->lines, &r->record, err);
        if (rc != 0) {
            r->index += rc > 0 || err->skippable;
            return rc < 0 || read_record(r, out, err) ? -1 : 1;
        }
        t5_jsonl_close(r->lines);
        r->lines = NULL;
    }
    return rc;
}

int t5_tokens_ready(const struct t5_tokens_reader *reader)
{
    return !reader->lines || t5_jsonl_ready(reader->lines); /* a file not yet open does not wait */
}
