/* window.c - records in, the same records with their answers out. */
/* SPDX-License-Identifier: MIT */
#include "t5/window.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define BATCHES 16
#define MOST_TEXT ((size_t)32 << 20)

struct item {
    size_t text, text_n; /* the record's bytes in window.text; text_n 0: from a packed file */
    size_t ids;          /* bytes into window.ids: the source, for a scorer the labels behind it */
    int64_t n_ids, n_labels, index, line;
    size_t file; /* bytes into window.files: its name */
    int32_t adapter;
    char *members; /* the answer, owned; NULL until it is there */
    size_t members_n;
};

struct t5_window {
    struct t5_window_options options;
    struct item *items;
    int64_t n, capacity;
    struct t5_buf text, ids;
    struct t5_buf files; /* names, each with its NUL; one for many records */
    size_t last_file;
    int64_t positions; /* as the generator or scorer counts them */
    /* while answering */
    FILE *out;
    struct t5_buf line;
    struct t5_record record;
    int64_t n_written;       /* of this window */
    int64_t records, tokens; /* answered, over all windows */
    t5_window_progress *progress;
    void *context;
};

int t5_window_open(struct t5_window **out, const struct t5_window_options *options,
                   struct t5_err *err)
{
    *out = t5_alloc_zeroed(1, sizeof **out, "a window", err);
    if (!*out)
        return -1;
    (*out)->options = *options;
    return 0;
}

static void empty(struct t5_window *w)
{
    for (int64_t i = 0; i < w->n; i++)
        free(w->items[i].members);
    w->n = w->n_written = w->positions = 0;
    w->text.n = w->ids.n = w->files.n = 0;
}

void t5_window_close(struct t5_window *window)
{
    if (!window)
        return;
    empty(window);
    free(window->items);
    t5_buf_free(&window->text);
    t5_buf_free(&window->ids);
    t5_buf_free(&window->files);
    t5_buf_free(&window->line);
    t5_record_free(&window->record);
    free(window);
}

static int grow(struct t5_window *w, struct t5_err *err)
{
    int64_t capacity = w->capacity ? 2 * w->capacity : 64;
    struct item *items = realloc(w->items, (size_t)capacity * sizeof *items);
    if (!items)
        return t5_fail_memory(err, (size_t)capacity * sizeof *items, "a window");
    w->items = items;
    w->capacity = capacity;
    return 0;
}

/* Target positions that a record takes. */
static int64_t target_positions(const struct t5_window *w, const struct t5_token_record *record)
{
    if (w->options.scorer)
        return record->n_labels;
    const struct t5_search_options *o = t5_generator_options(w->options.generator);
    return t5_search_rows(o) * o->max_new;
}

/* Keeps the name, where it is another than the last record's. */
static int keep_file(struct t5_window *w, const char *name, struct t5_err *err)
{
    if (w->files.n && strcmp(w->files.data + w->last_file, name) == 0)
        return 0;
    w->last_file = w->files.n;
    return t5_buf_append(&w->files, name, strlen(name) + 1, err);
}

/* Names the record that an error belongs to. */
static int fail_at(const struct t5_window *w, const struct item *item, struct t5_err *err)
{
    return t5_err_at(err, "%s:%lld", w->files.data + item->file, (long long)item->line);
}

int t5_window_add(struct t5_window *w, const struct t5_token_record *record, int32_t adapter,
                  struct t5_err *err)
{
    size_t ids_n = (size_t)record->n_input * sizeof *record->input;
    if (w->n == w->capacity && grow(w, err))
        return -1;
    if (keep_file(w, record->file, err))
        return -1;
    struct item *item = &w->items[w->n];
    *item = (struct item){.text = w->text.n,
                          .text_n = record->record ? record->record->n : 0,
                          .ids = w->ids.n,
                          .n_ids = record->n_input,
                          .n_labels = w->options.scorer ? record->n_labels : 0,
                          .index = record->index,
                          .line = record->line,
                          .file = w->last_file,
                          .adapter = adapter};
    if ((record->record && t5_buf_append(&w->text, record->record->text, item->text_n, err)) ||
        t5_buf_append(&w->ids, record->input, ids_n, err) ||
        (item->n_labels && t5_buf_append(&w->ids, record->labels,
                                         (size_t)item->n_labels * sizeof *record->labels, err)))
        return -1;
    w->n++;
    w->positions += record->n_input + target_positions(w, record);
    return 0;
}

int t5_window_full(const struct t5_window *w)
{
    int64_t batch = w->options.scorer ? t5_scorer_batch_tokens(w->options.scorer)
                                      : t5_generator_batch_tokens(w->options.generator);
    return w->positions >= BATCHES * batch || w->text.n >= MOST_TEXT;
}

int64_t t5_window_count(const struct t5_window *w)
{
    return w->n;
}

static int put_ids(struct t5_buf *out, const struct t5_hypothesis *h, struct t5_err *err)
{
    if (t5_buf_append(out, "[", 1, err))
        return -1;
    for (int64_t i = 0; i < h->n; i++)
        if (t5_buf_printf(out, err, i ? ",%d" : "%d", h->ids[i]))
            return -1;
    return t5_buf_append(out, "]", 1, err);
}

static int put_numbers(struct t5_buf *out, const float *x, int64_t n, struct t5_err *err)
{
    if (t5_buf_append(out, "[", 1, err))
        return -1;
    for (int64_t i = 0; i < n; i++)
        if (t5_buf_printf(out, err, i ? ",%.9g" : "%.9g", (double)x[i]))
            return -1;
    return t5_buf_append(out, "]", 1, err);
}

static int put_finish(struct t5_buf *out, const struct t5_hypothesis *h, struct t5_err *err)
{
    return t5_buf_printf(out, err, h->eos ? "\"eos\"" : "\"length\"");
}

static int put_logprobs(struct t5_buf *out, const struct t5_hypothesis *h, struct t5_err *err)
{
    return put_numbers(out, h->logprobs, h->n, err);
}

/* A hypothesis that the rules left empty has no score. */
static int put_score(struct t5_buf *out, const struct t5_hypothesis *h, struct t5_err *err)
{
    return h->n ? t5_buf_printf(out, err, "%.9g", (double)h->score)
                : t5_buf_printf(out, err, "null");
}

/* "name":value, or "name":[value,...] where the search returns several. */
static int put_member(struct t5_buf *out, const char *name, const struct t5_hypothesis *h,
                      int64_t n,
                      int (*put)(struct t5_buf *, const struct t5_hypothesis *, struct t5_err *),
                      struct t5_err *err)
{
    if (t5_buf_printf(out, err, "%s\"%s\":%s", out->n ? "," : "", name, n > 1 ? "[" : ""))
        return -1;
    for (int64_t i = 0; i < n; i++)
        if ((i && t5_buf_append(out, ",", 1, err)) || put(out, &h[i], err))
            return -1;
    return n > 1 ? t5_buf_append(out, "]", 1, err) : 0;
}

static int begin_members(struct t5_buf *members, const struct item *item, struct t5_err *err)
{
    return item->text_n ? 0 : t5_buf_printf(members, err, "\"index\":%lld", (long long)item->index);
}

static void keep_members(struct t5_window *w, struct item *item, const struct t5_buf *members,
                         int64_t tokens)
{
    item->members = members->data;
    item->members_n = members->n;
    w->records++;
    w->tokens += tokens;
}

/* A scored record's members. */
static int keep_score(void *context, int64_t which, const float *logprobs, struct t5_err *err)
{
    struct t5_window *w = context;
    struct item *item = &w->items[which];
    struct t5_buf members = {0};
    double sum = 0;
    for (int64_t i = 0; i < item->n_labels; i++) {
        if (!isfinite(logprobs[i])) {
            t5_fail(err, "label %lld: the model's logits are not finite", (long long)i);
            return fail_at(w, item, err);
        }
        sum += (double)logprobs[i];
    }
    if (begin_members(&members, item, err) ||
        t5_buf_printf(&members, err, "%s\"score\":%.9g", members.n ? "," : "", sum) ||
        (w->options.logprobs && (t5_buf_printf(&members, err, ",\"logprobs\":") ||
                                 put_numbers(&members, logprobs, item->n_labels, err)))) {
        t5_buf_free(&members);
        return -1;
    }
    keep_members(w, item, &members, item->n_labels);
    return 0;
}

static int keep_answer(void *context, int64_t which, const struct t5_hypothesis *h,
                       struct t5_err *err)
{
    struct t5_window *w = context;
    const struct t5_search_options *o = t5_generator_options(w->options.generator);
    struct item *item = &w->items[which];
    struct t5_buf members = {0};
    int64_t tokens = 0;
    if (begin_members(&members, item, err) ||
        put_member(&members, "output_ids", h, o->returned, put_ids, err) ||
        put_member(&members, "finish", h, o->returned, put_finish, err) ||
        (o->kind == T5_BEAM && put_member(&members, "score", h, o->returned, put_score, err)) ||
        (w->options.logprobs &&
         put_member(&members, "logprobs", h, o->returned, put_logprobs, err))) {
        t5_buf_free(&members);
        return -1;
    }
    for (int64_t i = 0; i < o->returned; i++)
        tokens += h[i].n;
    keep_members(w, item, &members, tokens);
    return 0;
}

static int write_item(struct t5_window *w, const struct item *item, struct t5_err *err)
{
    static const char *const made[] = {"score", "logprobs", "output_ids", "finish"};
    int n_made = w->options.scorer ? 2 : 4; /* a scorer leaves what was generated */
    w->line.n = 0;
    if (item->text_n == 0) {
        if (t5_buf_append(&w->line, "{", 1, err) ||
            t5_buf_append(&w->line, item->members, item->members_n, err) ||
            t5_buf_append(&w->line, "}\n", 2, err))
            return -1;
    } else if (t5_record_parse(&w->record, w->text.data + item->text, item->text_n, err) ||
               t5_record_splice_replacing(&w->line, &w->record, made, n_made, item->members,
                                          item->members_n, err))
        return -1;
    if (fwrite(w->line.data, 1, w->line.n, w->out) != w->line.n)
        return t5_fail_errno(err, "<stdout>");
    return 0;
}

/* Writes what is answered without a gap. */
static int write_answered(void *context, struct t5_err *err)
{
    struct t5_window *w = context;
    int64_t before = w->n_written;
    for (; w->n_written < w->n && w->items[w->n_written].members; w->n_written++)
        if (write_item(w, &w->items[w->n_written], err))
            return -1;
    if (w->n_written > before && fflush(w->out) != 0)
        return t5_fail_errno(err, "<stdout>");
    if (w->progress)
        w->progress(w->context, w->records, w->tokens);
    return 0;
}

static const int32_t *ids_of(const struct t5_window *w, const struct item *item)
{
    return (const int32_t *)(void *)(w->ids.data + item->ids);
}

static int generate(struct t5_window *w, struct t5_err *err)
{
    struct t5_prompt *prompts = t5_alloc((size_t)w->n, sizeof *prompts, "a window", err);
    if (!prompts)
        return -1;
    for (int64_t i = 0; i < w->n; i++)
        prompts[i] =
            (struct t5_prompt){ids_of(w, &w->items[i]), w->items[i].n_ids, w->items[i].adapter};
    int rc =
        t5_generator_run(w->options.generator, prompts, w->n, keep_answer, write_answered, w, err);
    free(prompts);
    int64_t failed = rc ? t5_generator_failed(w->options.generator) : -1;
    return failed < 0 ? rc : fail_at(w, &w->items[failed], err);
}

static int score(struct t5_window *w, struct t5_err *err)
{
    struct t5_pair *pairs = t5_alloc((size_t)w->n, sizeof *pairs, "a window", err);
    if (!pairs)
        return -1;
    for (int64_t i = 0; i < w->n; i++)
        pairs[i] = (struct t5_pair){ids_of(w, &w->items[i]), w->items[i].n_ids,
                                    w->items[i].n_labels, w->items[i].adapter};
    int rc = t5_scorer_run(w->options.scorer, pairs, w->n, keep_score, write_answered, w, err);
    free(pairs);
    return rc;
}

int t5_window_answer(struct t5_window *w, FILE *out, t5_window_progress *progress, void *context,
                     struct t5_err *err)
{
    w->out = out;
    w->progress = progress;
    w->context = context;
    int rc = w->options.scorer ? score(w, err) : generate(w, err);
    empty(w);
    return rc;
}
