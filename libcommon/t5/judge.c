/* judge.c - greedy answers, decoded and scored as they come. */
/* SPDX-License-Identifier: MIT */
#include "t5/judge.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "t5/decoder.h"
#include "t5/generator.h"
#include "text/decode.h"
#include "text/rouge.h"

const char *const t5_judge_names[T5_JUDGE_MEASURES] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};
static const struct t5_rouge_options rouge_options = {
    .measures = {T5_JUDGE_MEASURES, {1, 2, T5_ROUGE_L, T5_ROUGE_LSUM}}, .stem = 1};

struct t5_judge {
    const struct t5_dataset *data;
    struct t5_spiece spiece;
    struct t5_rouge *rouge;
    int64_t max_new;
    struct t5_buf references, answer;
    size_t *reference_at;      /* (n + 1) byte offsets */
    struct t5_prompt *prompts; /* (n) */
    /* of the evaluation at hand */
    struct t5_rouge_total total;
    const volatile sig_atomic_t *stop;
};

static int check_vocab(const struct t5_spiece *spiece, const char *path, int64_t vocab,
                       struct t5_err *err)
{
    char shown[T5_ESCAPED];
    if (spiece->n <= vocab)
        return 0;
    return t5_fail(err, "%s: %d pieces, the model has %lld tokens",
                   t5_escape(shown, path, strlen(path)), spiece->n, (long long)vocab);
}

static int write_references(struct t5_judge *j, struct t5_err *err)
{
    const struct t5_dataset *d = j->data;
    for (int64_t i = 0; i < d->n; i++) {
        j->reference_at[i] = j->references.n;
        if (t5_decode_ids(&j->references, &j->spiece, d->labels + d->label_offsets[i],
                          (size_t)t5_dataset_labels(d, i), err))
            return -1;
    }
    j->reference_at[d->n] = j->references.n;
    return 0;
}

int t5_judge_open(struct t5_judge **out, const char *spiece, const struct t5_dataset *data,
                  int64_t vocab, int64_t max_new, struct t5_err *err)
{
    struct t5_judge *j = t5_alloc_zeroed(1, sizeof *j, "evaluation", err);
    size_t n = (size_t)data->n;
    *out = NULL;
    if (!j)
        return -1;
    j->data = data;
    j->max_new = max_new;
    if (t5_spiece_load(&j->spiece, spiece, err) || check_vocab(&j->spiece, spiece, vocab, err) ||
        t5_rouge_open(&j->rouge, &rouge_options, err) || t5_buf_reserve(&j->references, 1, err) ||
        t5_buf_reserve(&j->answer, 1, err) ||
        !(j->reference_at = t5_alloc(n + 1, sizeof *j->reference_at, "references", err)) ||
        !(j->prompts = t5_alloc(n, sizeof *j->prompts, "references", err)) ||
        write_references(j, err)) {
        t5_judge_close(j);
        return -1;
    }
    *out = j;
    return 0;
}

void t5_judge_close(struct t5_judge *j)
{
    if (!j)
        return;
    t5_rouge_close(j->rouge);
    t5_spiece_free(&j->spiece);
    t5_buf_free(&j->references);
    t5_buf_free(&j->answer);
    free(j->reference_at);
    free(j->prompts);
    free(j);
}

void t5_judge_digest(char out[65], const struct t5_judge *j)
{
    t5_sha256(out, j->spiece.bytes, j->spiece.n_bytes);
}

static int score_answer(void *context, int64_t which, const struct t5_hypothesis *hypothesis,
                        struct t5_err *err)
{
    struct t5_judge *j = context;
    struct t5_rouge_scores scores;
    size_t from = j->reference_at[which];
    j->answer.n = 0;
    if (t5_decode_ids(&j->answer, &j->spiece, hypothesis->ids, (size_t)hypothesis->n, err) ||
        t5_rouge_score(&scores, j->rouge, j->references.data + from,
                       j->reference_at[which + 1] - from, j->answer.data, j->answer.n, err))
        return -1;
    t5_rouge_total_add(&j->total, &scores);
    return 0;
}

/* Behind each batch. Leaves err empty, since stopping is no failure. */
static int stop_between(void *context, struct t5_err *err)
{
    const struct t5_judge *j = context;
    (void)err;
    return j->stop && *j->stop ? -1 : 0;
}

/* The generator's batches then hold no more source tokens than a pass of training. */
static int64_t batch_tokens(const struct t5_pass_limits *limits, int64_t max_new)
{
    return limits->input_tokens + max_new;
}

int t5_judge_run(struct t5_judge *j, struct t5_judgement *out, struct t5_model *model, int adapter,
                 const struct t5_pass_limits *limits, const volatile sig_atomic_t *stop,
                 struct t5_err *err)
{
    struct t5_search_options greedy = {
        .kind = T5_GREEDY, .returned = 1, .max_new = j->max_new, .repetition_penalty = 1};
    const struct t5_dataset *d = j->data;
    struct t5_generator *generator;
    j->total = (struct t5_rouge_total){0};
    j->stop = stop;
    for (int64_t i = 0; i < d->n; i++)
        j->prompts[i] = (struct t5_prompt){.ids = d->input + d->input_offsets[i],
                                           .n = t5_dataset_inputs(d, i),
                                           .adapter = adapter ? 0 : -1};
    if (t5_generator_open(&generator, model, &greedy, batch_tokens(limits, j->max_new), err))
        return -1;
    err->text[0] = 0;
    int rc = t5_generator_run(generator, j->prompts, d->n, score_answer, stop_between, j, err);
    t5_generator_close(generator);
    if (rc)
        return err->text[0] ? -1 : 0;
    struct t5_rouge_scores mean = t5_rouge_total_mean(&j->total);
    for (int k = 0; k < T5_JUDGE_MEASURES; k++)
        out->f[k] = mean.of[k].fmeasure;
    return 1;
}

int t5_judge_plan(int64_t *bytes, const struct t5_train_shape *s, int64_t max_new,
                  const struct t5_pass_limits *limits, struct t5_err *err)
{
    int64_t sources = batch_tokens(limits, max_new) / (max_new + 1);
    struct t5_decoder_limits room = {.rows = sources,
                                     .slots = sources,
                                     .length = max_new,
                                     .sources = sources,
                                     .source_tokens = limits->input_tokens,
                                     .candidates = 1024};
    return t5_decoder_plan(bytes, s->backend, s->checkpoint, s->config, s->adapter, s->mode, &room,
                           err);
}
