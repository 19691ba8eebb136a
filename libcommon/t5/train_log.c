/* train_log.c - metrics as JSONL. Figures are written so that they read back as the same double. */
/* SPDX-License-Identifier: MIT */
#include "t5/train_log.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/program.h"

void t5_train_log_start(struct t5_train_log *log, int fd)
{
    *log = (struct t5_train_log){.fd = fd, .started = t5_now()};
    log->last = log->started;
}

static void put(struct t5_train_log *log, const char *text, size_t n)
{
    while (n > 0 && !log->failure) {
        ssize_t done = write(log->fd, text, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            log->failure = errno;
            return;
        }
        text += done;
        n -= (size_t)done;
    }
}

int t5_train_log_events(struct t5_train_log *log, const char *dir, int64_t first_step,
                        struct t5_err *err)
{
    return t5_event_file_open(&log->events, dir, first_step, err);
}

/* The first failure stays. */
void t5_train_log_close(struct t5_train_log *log)
{
    struct t5_err err = {0};
    if (t5_event_file_close(log->events, &err) && !log->events_failure.text[0])
        log->events_failure = err;
    log->events = NULL;
}

static void put_scalars(struct t5_train_log *log, int64_t step, const struct t5_scalar *scalars,
                        int n)
{
    struct t5_err err = {0};
    if (log->events && !log->events_failure.text[0] &&
        t5_event_file_add(log->events, step, scalars, n, &err))
        log->events_failure = err;
}

/* JSON has no NaN: null. */
static const char *number(char out[32], double value)
{
    if (!isfinite(value))
        return "null";
    for (int digits = 6; digits <= 17; digits++) { /* the shortest that reads back */
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    return out;
}

static int put_strings(struct t5_buf *line, const char *event, const struct t5_train_head *h,
                       struct t5_err *err)
{
    const struct {
        const char *key, *value;
    } rows[] = {{"event", event},      {"version", t5_version}, {"model", h->model},
                {"output", h->output}, {"mode", h->mode},       {"device", h->device}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].value)
            continue;
        if (t5_buf_printf(line, err, "%s\"%s\":", i ? "," : "", rows[i].key) ||
            t5_json_quote(line, rows[i].value, strlen(rows[i].value), err))
            return -1;
    }
    return 0;
}

static int put_settings(struct t5_buf *line, const struct t5_identity *id, struct t5_err *err)
{
    int rc = t5_buf_printf(line, err, ",\"settings\":{");
    for (int i = 0; rc == 0 && i < id->n; i++) {
        const struct t5_identity_row *row = &id->rows[i];
        rc = t5_buf_printf(line, err, "%s\"%s\":", i ? "," : "", row->key) ||
             (row->number ? t5_buf_append(line, row->value, strlen(row->value), err)
                          : t5_json_quote(line, row->value, strlen(row->value), err));
    }
    return rc || t5_buf_printf(line, err, "}") ? -1 : 0;
}

int t5_train_log_head(struct t5_train_log *log, const char *event, const struct t5_train_head *h,
                      const struct t5_train_plan *p, struct t5_err *err)
{
    static const char *const recompute[] = {[T5_RECOMPUTE_NONE] = "",
                                            [T5_RECOMPUTE_NORMS] = "\"recompute\":\"norms\",",
                                            [T5_RECOMPUTE_BLOCKS] = "\"recompute\":\"blocks\","};
    struct t5_buf line = {0};
    int rc =
        t5_buf_printf(&line, err, "{") || put_strings(&line, event, h, err) ||
        t5_buf_printf(&line, err,
                      ",\"trainable\":%lld,\"parameters\":%lld,\"trainable_percent\":%.4f,"
                      "\"records\":%lld,\"eval_records\":%lld,\"steps\":%lld,"
                      "\"steps_per_epoch\":%lld,\"micro_tokens\":%lld,\"input_tokens\":%lld,"
                      "\"label_tokens\":%lld,%s%s\"checkpoint_bytes\":%lld,\"memory\":{",
                      (long long)p->trainable, (long long)p->parameters,
                      100 * (double)p->trainable / (double)p->parameters, (long long)h->records,
                      (long long)h->eval_records, (long long)h->steps, (long long)h->epoch_steps,
                      (long long)p->micro_tokens, (long long)p->limits.input_tokens,
                      (long long)p->limits.label_tokens, p->compact ? "\"compact\":true," : "",
                      recompute[p->limits.recompute], (long long)h->checkpoint_bytes);
    for (int i = 0; rc == 0 && i < p->n_rows; i++)
        rc =
            t5_buf_printf(&line, err, "\"%s\":%lld,", p->rows[i].what, (long long)p->rows[i].bytes);
    rc = rc || t5_buf_printf(&line, err, "\"total\":%lld,\"free\":%lld}", (long long)p->bytes,
                             (long long)p->free_bytes);
    rc = rc || put_settings(&line, h->settings, err);
    rc = rc || t5_buf_printf(&line, err, ",\"seconds\":%.3f", t5_now() - log->started);
    if (h->resumed >= 0)
        rc = rc || t5_buf_printf(&line, err, ",\"resumed_from_step\":%lld", (long long)h->resumed);
    rc = rc || t5_buf_printf(&line, err, "}\n");
    if (rc == 0)
        put(log, line.data, line.n);
    t5_buf_free(&line);
    log->last = t5_now();
    return rc ? -1 : 0;
}

static void put_spike(struct t5_train_log *log, const struct t5_step_report *r)
{
    char text[200], loss[32], z[32];
    int n = snprintf(text, sizeof text,
                     "{\"event\":\"spike\",\"step\":%lld,\"loss\":%s,\"z\":%s,"
                     "\"passed_over\":%s,\"seconds\":%.3f}\n",
                     (long long)r->step, number(loss, r->loss), number(z, r->z),
                     r->passed_over ? "true" : "false", t5_now() - log->started);
    put(log, text, (size_t)n);
}

void t5_train_log_step(struct t5_train_log *log, const struct t5_step_report *r)
{
    char text[512], loss[32], lr[32], norm[32], epoch[32];
    double now = t5_now(), spent = now - log->last;
    int n = snprintf(
        text, sizeof text,
        "{\"step\":%lld,\"epoch\":%s,\"loss\":%s,\"lr\":%s,\"grad_norm\":%s,"
        "\"tokens\":%lld,\"label_tokens\":%lld,%s\"tokens_per_s\":%.1f,\"seconds\":%.3f}\n",
        (long long)r->step, number(epoch, r->epoch), number(loss, r->loss), number(lr, r->lr),
        number(norm, r->grad_norm), (long long)r->tokens, (long long)r->label_tokens,
        r->skipped       ? "\"skipped\":true,"
        : r->passed_over ? "\"passed_over\":true,"
                         : "",
        (double)r->tokens / (spent > 1e-9 ? spent : 1e-9), now - log->started);
    log->last = now;
    put(log, text, (size_t)n);
    if (r->spike)
        put_spike(log, r);
    if (r->skipped)
        return;
    const struct t5_scalar scalars[] = {
        {"train/loss", r->loss},
        {"train/learning_rate", r->lr},
        {"train/grad_norm", r->grad_norm},
        {"train/epoch", r->epoch},
        {"train/tokens_per_second", (double)r->tokens / (spent > 1e-9 ? spent : 1e-9)}};
    put_scalars(log, r->step, scalars, (int)(sizeof scalars / sizeof *scalars));
}

/* ,"eval_rouge1":50.4... in percent, as rouge prints it */
static void rouge_text(char *text, size_t size, const struct t5_eval_report *r)
{
    int n = 0;
    for (int k = 0; r->judged && k < T5_JUDGE_MEASURES; k++)
        n += snprintf(text + n, size - (size_t)n, "\"eval_%s\":%.4f,", t5_judge_names[k],
                      100 * r->rouge.f[k]);
}

static void put_eval_scalars(struct t5_train_log *log, const struct t5_eval_report *r)
{
    static const char *const tags[T5_JUDGE_MEASURES] = {"eval/rouge1", "eval/rouge2", "eval/rougeL",
                                                        "eval/rougeLsum"};
    struct t5_scalar scalars[1 + T5_JUDGE_MEASURES] = {{"eval/loss", r->loss}};
    for (int k = 0; k < T5_JUDGE_MEASURES; k++)
        scalars[1 + k] = (struct t5_scalar){tags[k], 100 * r->rouge.f[k]};
    put_scalars(log, r->step, scalars, r->judged ? 1 + T5_JUDGE_MEASURES : 1);
}

void t5_train_log_eval(struct t5_train_log *log, const struct t5_eval_report *r)
{
    char text[512], rouge[256] = "", a[32], b[32];
    rouge_text(rouge, sizeof rouge, r);
    int n = snprintf(text, sizeof text,
                     "{\"step\":%lld,\"epoch\":%s,\"eval_loss\":%s,\"eval_tokens\":%lld,%s%s"
                     "\"eval_seconds\":%.3f,\"seconds\":%.3f}\n",
                     (long long)r->step, number(a, r->epoch), number(b, r->loss),
                     (long long)r->label_tokens, rouge, r->best ? "\"best\":true," : "", r->seconds,
                     t5_now() - log->started);
    put(log, text, (size_t)n);
    log->last = t5_now();
    put_eval_scalars(log, r);
}

void t5_train_log_cut(struct t5_train_log *log, int64_t step, int64_t pass_tokens)
{
    char text[160];
    int n = snprintf(text, sizeof text,
                     "{\"event\":\"out_of_memory\",\"step\":%lld,\"micro_tokens\":%lld,"
                     "\"seconds\":%.3f}\n",
                     (long long)step, (long long)pass_tokens, t5_now() - log->started);
    put(log, text, (size_t)n);
}

void t5_train_log_end(struct t5_train_log *log, const char *event, int64_t step)
{
    char text[128];
    int n = snprintf(text, sizeof text, "{\"event\":\"%s\",\"step\":%lld,\"seconds\":%.3f}\n",
                     event, (long long)step, t5_now() - log->started);
    put(log, text, (size_t)n);
}
