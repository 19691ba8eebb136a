/* tokenize_pack.c - a packed token file from a stream of unknown length. The header comes first and
 * needs the sizes, so ids wait in unnamed temporary files (TMPDIR), not in memory. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "text/tokenize_inside.h"

enum { IDS, OFFSETS };

struct ragged { /* one field: its ids and where each record's end */
    FILE *file[2];
    int64_t ids, records, filled; /* filled: records that have the field */
};

struct t5_pack {
    struct ragged input, labels;
};

static int spool(FILE *file, const void *bytes, size_t n, struct t5_err *err)
{
    if (n && fwrite(bytes, 1, n, file) != n)
        return t5_fail_errno(err, "temporary file");
    return 0;
}

static int open_ragged(struct ragged *r, struct t5_err *err)
{
    const int64_t zero = 0;
    for (int i = 0; i < 2; i++) {
        const char *dir = getenv("TMPDIR");
        char path[4096];
        snprintf(path, sizeof path, "%s/t5-tokens.XXXXXX", dir && dir[0] ? dir : "/tmp");
        int fd = mkstemp(path);
        if (fd < 0)
            return t5_fail_errno(err, "temporary file %.64s", path);
        remove(path); /* it lives as long as it is open */
        r->file[i] = fdopen(fd, "w+b");
        if (!r->file[i])
            return t5_fail_errno(err, "temporary file");
    }
    return spool(r->file[OFFSETS], &zero, sizeof zero, err);
}

static void close_ragged(struct ragged *r)
{
    for (int i = 0; i < 2; i++)
        if (r->file[i])
            fclose(r->file[i]);
}

int t5_pack_open(struct t5_pack **out, struct t5_err *err)
{
    struct t5_pack *p = t5_alloc_zeroed(1, sizeof *p, "a token file", err);
    *out = p;
    if (!p)
        return -1;
    return open_ragged(&p->input, err) || open_ragged(&p->labels, err) ? -1 : 0;
}

void t5_pack_close(struct t5_pack *pack)
{
    if (!pack)
        return;
    close_ragged(&pack->input);
    close_ragged(&pack->labels);
    free(pack);
}

static int add(struct ragged *r, const char *ids, int64_t n, struct t5_err *err)
{
    r->records++;
    r->filled += n > 0;
    r->ids += n;
    return spool(r->file[IDS], ids, (size_t)n * sizeof(int32_t), err) ||
                   spool(r->file[OFFSETS], &r->ids, sizeof r->ids, err)
               ? -1
               : 0;
}

int t5_pack_add(struct t5_pack *pack, const char *bytes, size_t n, struct t5_err *err)
{
    for (size_t at = 0; at < n;) {
        int64_t pair[2];
        memcpy(pair, bytes + at, sizeof pair);
        at += sizeof pair;
        int64_t n_labels = pair[1] > 0 ? pair[1] : 0;
        if (add(&pack->input, bytes + at, pair[0], err) ||
            add(&pack->labels, bytes + at + 4 * (size_t)pair[0], n_labels, err))
            return -1;
        at += 4 * (size_t)(pair[0] + n_labels);
    }
    return 0;
}

static int copy(struct t5_safetensors_writer *to, FILE *from, struct t5_err *err)
{
    static const size_t size = 1 << 16;
    char *bytes = t5_alloc(size, 1, "a copy", err);
    size_t n;
    int rc = bytes ? 0 : -1;
    if (rc == 0 && (fflush(from) != 0 || fseek(from, 0, SEEK_SET) != 0))
        rc = t5_fail_errno(err, "temporary file");
    while (rc == 0 && (n = fread(bytes, 1, size, from)) > 0)
        rc = t5_safetensors_write(to, bytes, n, err);
    if (rc == 0 && ferror(from))
        rc = t5_fail_errno(err, "temporary file");
    free(bytes);
    return rc;
}

static struct t5_tensor describe(const char *name, enum t5_dtype type, int64_t n)
{
    return (struct t5_tensor){.name = name, .type = type, .rank = 1, .shape = {n}, .elements = n};
}

#define MAX_SETTINGS 12

/* What the ids depend on, so that a token file says how it was made; texts are borrowed from it. */
struct settings {
    struct t5_metadata row[MAX_SETTINGS];
    int n;
    char max_source[24], max_target[24], size[24], digest[65];
};

static void put(struct settings *s, const char *name, const char *value)
{
    s->row[s->n++] = (struct t5_metadata){name, value};
}

static void describe_settings(struct settings *s, const struct t5_tokenize_options *o,
                              const struct t5_tokenizer *t)
{
    static const char *const on_long[] = {"truncate", "drop", "error"};
    int library = t5_tokenizer_has_library(t);
    s->n = 0;
    snprintf(s->max_source, sizeof s->max_source, "%lld", (long long)o->max_source);
    snprintf(s->max_target, sizeof s->max_target, "%lld", (long long)o->max_target);
    t5_tokenizer_digest(s->digest, t);
    put(s, "format", "t5-tokens");
    if (o->pattern) {
        put(s, "template", o->pattern->given);
    } else {
        put(s, "prefix", o->prefix);
        put(s, "source", o->source);
    }
    put(s, "target", o->target);
    put(s, "max_source", s->max_source);
    put(s, "max_target", s->max_target);
    put(s, "on_long", on_long[o->on_long]);
    put(s, "segmentation", library ? "sentencepiece" : "viterbi");
    put(s, "special_in_text", t5_tokenizer_special(t) ? "true" : "false");
    put(s, "tokenizer_sha256", s->digest);
    snprintf(s->size, sizeof s->size, "%d", (int)t5_tokenizer_size(t));
    put(s, "tokenizer_size", s->size);
}

int t5_pack_finish(struct t5_pack *pack, struct t5_atomic *file,
                   const struct t5_tokenize_options *options, const struct t5_tokenizer *tokenizer,
                   struct t5_err *err)
{
    struct settings settings;
    struct ragged *in = &pack->input, *out = &pack->labels;
    const struct t5_tensor tensors[] = {
        describe("input_ids", T5_I32, in->ids),
        describe("input_offsets", T5_I64, in->records + 1),
        describe("labels", T5_I32, out->ids),
        describe("label_offsets", T5_I64, out->records + 1),
    };
    FILE *const from[] = {in->file[IDS], in->file[OFFSETS], out->file[IDS], out->file[OFFSETS]};
    int n = out->filled ? 4 : 2; /* no labels at all: none are written */
    describe_settings(&settings, options, tokenizer);
    struct t5_safetensors_writer *writer;
    if (t5_safetensors_write_open(&writer, file, tensors, n, settings.row, settings.n, err))
        return -1;
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = copy(writer, from[i], err);
    struct t5_err closing;
    if (t5_safetensors_write_close(writer, &closing) && rc == 0) {
        *err = closing;
        rc = -1;
    }
    return rc;
}
