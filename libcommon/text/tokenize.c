/* tokenize.c - the stream: lines into batches, batches through threads, results to their place in
 * order. One record's work is in tokenize_record.c, the packed file in tokenize_pack.c, counts in
 * tokenize_stats.c. */
/* SPDX-License-Identifier: MIT */
#include "text/tokenize.h"

#include <stdlib.h>
#include <string.h>

#include "base/ordered.h"
#include "text/tokenize_inside.h"

#define BATCH_BYTES ((size_t)192 << 10) /* of lines; a longer line is a batch alone */

struct item {
    struct t5_line line; /* line.text is set when the batch is complete */
    size_t at;           /* in the batch's text */
    int broken;          /* no text: the reader says what is wrong */
};

/* A result: a stretch of out, then perhaps an error. */
struct bad {
    size_t before; /* bytes of out that precede it */
    struct t5_err err;
};

struct batch {
    struct t5_buf text, items, out, bad; /* struct item, struct bad */
    int64_t good, dropped;               /* records */
    struct t5_err last;                  /* with failed: the reader's, behind everything else */
    int failed;
};

struct stream {
    const struct t5_tokenize_options *options;
    struct t5_jsonl *reader;
    int reader_failed;
    struct t5_tokenize_worker *workers; /* one a thread */
    struct t5_atomic *file, *report; /* report NULL: none */
    struct t5_stats stats;
    struct t5_pack *pack;
    struct t5_tokenize_counts *counts;
};

/* ---- reading ------------------------------------------------------------------------------ */

static int keep_line(struct batch *b, const struct t5_line *line, int broken, struct t5_err *err)
{
    struct item item = {*line, b->text.n, broken};
    return t5_buf_append(&b->text, line->text, line->n, err) ||
                   t5_buf_append(&b->items, &item, sizeof item, err)
               ? -1
               : 0;
}

static int read_batch(void *arg, void *into)
{
    struct stream *s = arg;
    struct batch *b = into;
    struct t5_line line;
    int rc = 0;
    b->text.n = b->items.n = b->out.n = b->bad.n = 0;
    b->good = b->dropped = b->failed = 0;
    if (s->reader_failed)
        return 0;
    do {
        rc = t5_jsonl_line(s->reader, &line, &b->last);
        if (rc < 0 && b->last.skippable) {
            struct bad bad = {SIZE_MAX, b->last};
            line = (struct t5_line){.text = "", .n = 0};
            rc = t5_buf_append(&b->bad, &bad, sizeof bad, &b->last) ||
                         keep_line(b, &line, 1, &b->last)
                     ? -1
                     : 1;
        } else if (rc == 1 && keep_line(b, &line, 0, &b->last)) {
            rc = -1;
        }
    } while (rc == 1 && b->text.n < BATCH_BYTES && t5_jsonl_ready(s->reader));
    b->failed = s->reader_failed = rc < 0;
    return rc < 0 || b->items.n > 0;
}

/* ---- working ------------------------------------------------------------------------------ */

static void work_on_batch(void *arg, int worker, void *batch)
{
    struct stream *s = arg;
    struct batch *b = batch;
    struct item *items = (struct item *)b->items.data;
    size_t n = b->items.n / sizeof *items, n_long = 0;
    struct bad *known = (struct bad *)b->bad.data; /* of broken lines, in order */
    struct t5_buf bad = {0};
    for (size_t i = 0; i < n; i++) {
        struct bad found = {.before = b->out.n};
        items[i].line.text = b->text.data + items[i].at;
        int rc = -1;
        if (items[i].broken)
            found.err = known[n_long++].err;
        else
            rc = t5_tokenize_line(&b->out, &s->workers[worker], &items[i].line, &found.err);
        b->good += rc == 1;
        b->dropped += rc == T5_DROPPED;
        if (rc >= 0)
            continue;
        if (!found.err.skippable || t5_buf_append(&bad, &found, sizeof found, &found.err)) {
            b->last = found.err;
            b->failed = 1;
            break;
        }
    }
    t5_buf_free(&b->bad);
    b->bad = bad;
}

/* ---- writing ------------------------------------------------------------------------------ */

static int put(struct stream *s, const char *bytes, size_t n, struct t5_err *err)
{
    switch (s->options->mode) {
    case T5_TOKENIZE_PACK:
        return t5_pack_add(s->pack, bytes, n, err);
    case T5_TOKENIZE_STATS:
        return t5_stats_add(&s->stats, bytes, n, err);
    default:
        return t5_atomic_write(s->file, bytes, n, err);
    }
}

static int write_batch(void *arg, void *batch, struct t5_err *err)
{
    struct stream *s = arg;
    const struct batch *b = batch;
    const struct bad *bad = (const struct bad *)b->bad.data;
    size_t n = b->bad.n / sizeof *bad;
    s->counts->records += b->good;
    s->counts->dropped += b->dropped;
    for (size_t i = 0; i < n; i++) {
        if (s->options->bad(s->options->bad_arg, &bad[i].err))
            continue;
        if (put(s, b->out.data, bad[i].before, err))
            return -1;
        *err = bad[i].err;
        return -1;
    }
    if (put(s, b->out.data, b->out.n, err))
        return -1;
    if (s->options->progress)
        s->options->progress(s->options->progress_arg, s->counts->records);
    if (b->failed)
        *err = b->last;
    return b->failed ? -1 : 0;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int finish_report(struct stream *s, struct t5_err *err)
{
    struct t5_unk *all = &s->workers[0].unk;
    struct t5_buf text = {0};
    int rc = 0;
    for (int i = 1; i < s->options->threads && rc == 0; i++)
        rc = t5_unk_merge(all, &s->workers[i].unk, err);
    s->counts->unknown = all->records;
    if (rc == 0)
        rc = t5_unk_print(&text, all, err) || t5_atomic_write(s->report, text.data, text.n, err)
                 ? -1
                 : 0;
    t5_buf_free(&text);
    if (rc)
        return -1;
    struct t5_atomic *report = s->report;
    s->report = NULL;
    return t5_atomic_commit(report, err);
}

static int finish(struct stream *s, struct t5_err *err)
{
    struct t5_buf text = {0};
    int rc = 0;
    if (s->options->mode == T5_TOKENIZE_PACK)
        rc = t5_pack_finish(s->pack, s->file, s->options, s->workers[0].tokenizer, err);
    else if (s->options->mode == T5_TOKENIZE_STATS)
        rc = t5_stats_print(&text, &s->stats, s->options, err) ||
                     t5_atomic_write(s->file, text.data, text.n, err)
                 ? -1
                 : 0;
    t5_buf_free(&text);
    if (rc)
        return -1;
    struct t5_atomic *file = s->file;
    s->file = NULL;
    return t5_atomic_commit(file, err) || (s->report && finish_report(s, err)) ? -1 : 0;
}

/* What the pattern ends in, as ids. There must be room for it and for one token before it. */
static int encode_tail(struct t5_tokenize_worker *w, struct t5_err *err)
{
    const struct t5_tokenize_options *o = w->options;
    const char *tail = o->pattern ? t5_template_tail(o->pattern) : "";
    if (t5_encode(&w->tail, w->encoder, tail, strlen(tail), 0, err))
        return -1;
    size_t n = w->tail.n / sizeof(int32_t); /* </s> included */
    w->tail.n -= sizeof(int32_t);
    if (n > 1 && n >= (size_t)o->max_source && o->mode != T5_TOKENIZE_STATS)
        return t5_fail_as(err, T5_USAGE,
                          "--template: %zu tokens behind the last field leave no room in "
                          "--max-source %lld",
                          n - 1, (long long)o->max_source);
    return 0;
}

static int open_stream(struct stream *s, const struct t5_tokenizer *tokenizer,
                       const char *const *paths, int n_paths, struct t5_err *err)
{
    const struct t5_tokenize_options *o = s->options;
    s->workers = t5_alloc_zeroed((size_t)o->threads, sizeof *s->workers, "workers", err);
    if (!s->workers || t5_jsonl_open(&s->reader, paths, n_paths, o->max_line, err) ||
        t5_atomic_open(&s->file, o->output, err) ||
        (o->report_unk && t5_atomic_open(&s->report, o->report_unk, err)) ||
        (o->mode == T5_TOKENIZE_PACK && t5_pack_open(&s->pack, err)))
        return -1;
    t5_jsonl_format(s->reader, o->format);
    for (int i = 0; i < o->threads; i++) {
        s->workers[i].options = o;
        s->workers[i].tokenizer = tokenizer;
        if (o->mode != T5_TOKENIZE_DECODE &&
            (t5_encoder_open(&s->workers[i].encoder, tokenizer, err) ||
             encode_tail(&s->workers[i], err)))
            return -1;
    }
    return 0;
}

static void close_stream(struct stream *s)
{
    for (int i = 0; s->workers && i < s->options->threads; i++) {
        struct t5_tokenize_worker *w = &s->workers[i];
        t5_encoder_close(w->encoder);
        t5_record_free(&w->record);
        t5_buf_free(&w->text);
        t5_buf_free(&w->input);
        t5_buf_free(&w->labels);
        t5_buf_free(&w->members);
        t5_buf_free(&w->tail);
        t5_buf_free(&w->found);
        t5_buf_free(&w->scratch);
        t5_unk_free(&w->unk);
    }
    free(s->workers);
    t5_jsonl_close(s->reader);
    t5_pack_close(s->pack);
    t5_stats_free(&s->stats);
    t5_atomic_abandon(s->file);
    t5_atomic_abandon(s->report);
}

int t5_tokenize(struct t5_tokenize_counts *counts, const struct t5_tokenize_options *options,
                const struct t5_tokenizer *tokenizer, const char *const *paths, int n_paths,
                struct t5_err *err)
{
    struct stream s = {.options = options, .counts = counts};
    const struct t5_ordered ops = {&s, read_batch, work_on_batch, write_batch};
    int n = t5_ordered_batches(options->threads), rc = -1;
    struct batch *batches = t5_alloc_zeroed((size_t)n, sizeof *batches, "batches", err);
    void **places = t5_alloc_zeroed((size_t)n, sizeof *places, "batches", err);
    *counts = (struct t5_tokenize_counts){0};
    if (!batches || !places || open_stream(&s, tokenizer, paths, n_paths, err))
        goto out;
    for (int i = 0; i < n; i++)
        places[i] = &batches[i];
    if (t5_ordered_run(&ops, places, options->threads, err) == 0)
        rc = finish(&s, err);
out:
    close_stream(&s);
    for (int i = 0; batches && i < n; i++) {
        t5_buf_free(&batches[i].text);
        t5_buf_free(&batches[i].items);
        t5_buf_free(&batches[i].out);
        t5_buf_free(&batches[i].bad);
    }
    free(batches);
    free(places);
    return rc;
}
