/* optimizer_state.c - which tensors an optimiser keeps of each parameter, and where. */
/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t5/optimizer.h"

#define SMALLEST8 4096 /* elements of a tensor whose moments are worth 8 bits: bitsandbytes' */
#define ALIGNMENT 256

/* Parts of the state that one parameter tensor may have. */
struct part {
    const char *kind; /* "m"; NULL: none */
    enum t5_dtype type;
    int rank;
    int64_t shape[2];
};
#define PARTS 4

/* transformers has bitsandbytes keep what nn.Embedding holds in 32 bits. */
static int is_embedding(const char *name)
{
    return strcmp(name, "shared.weight") == 0 || strstr(name, "relative_attention_bias") != NULL;
}

static void parts_of(struct part parts[PARTS], enum t5_optimizer_kind kind, const char *name,
                     int64_t rows, int64_t cols, int vector)
{
    int64_t n = rows * cols, blocks = (n + T5_BLOCK8 - 1) / T5_BLOCK8;
    int rank = vector ? 1 : 2;
    memset(parts, 0, PARTS * sizeof *parts);
    if (kind == T5_ADAFACTOR && !vector) {
        parts[0] = (struct part){"row", T5_F32, 1, {rows, 1}};
        parts[1] = (struct part){"col", T5_F32, 1, {cols, 1}};
    } else if (kind == T5_ADAFACTOR) {
        parts[0] = (struct part){"v", T5_F32, 1, {n, 1}};
    } else if (kind == T5_ADAMW8 && n >= SMALLEST8 && !is_embedding(name)) {
        parts[0] = (struct part){"m", T5_U8, rank, {rows, cols}};
        parts[1] = (struct part){"v", T5_U8, rank, {rows, cols}};
        parts[2] = (struct part){"m_scale", T5_F32, 1, {blocks, 1}};
        parts[3] = (struct part){"v_scale", T5_F32, 1, {blocks, 1}};
    } else {
        parts[0] = (struct part){"m", T5_F32, rank, {rows, cols}};
        parts[1] = (struct part){"v", T5_F32, rank, {rows, cols}};
    }
}

static int64_t part_bytes(const struct part *p)
{
    return p->shape[0] * p->shape[1] * (int64_t)t5_dtype_size(p->type);
}

static int64_t take(int64_t *used, const struct part *p)
{
    int64_t at = *used;
    *used = (at + part_bytes(p) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

size_t t5_optimizer_tensor_bytes(const struct t5_optimizer_tensor *t)
{
    return (size_t)t->elements * t5_dtype_size(t->type);
}

/* The parts of one parameter behind what is used already. */
static void place(struct t5_optimizer *o, int64_t *used, const struct t5_param *p)
{
    struct part parts[PARTS];
    int64_t at[PARTS] = {-1, -1, -1, -1};
    parts_of(parts, o->settings.kind, p->name, p->rows, p->cols, p->vector);
    for (int k = 0; k < PARTS && parts[k].kind; k++) {
        struct t5_optimizer_tensor *t = &o->tensors[o->n_tensors++];
        at[k] = take(used, &parts[k]);
        *t = (struct t5_optimizer_tensor){.type = parts[k].type,
                                          .rank = parts[k].rank,
                                          .shape = {parts[k].shape[0], parts[k].shape[1]},
                                          .elements = parts[k].shape[0] * parts[k].shape[1],
                                          .offset = at[k]};
        snprintf(t->name, sizeof t->name, "%s.%s", parts[k].kind, p->name);
    }
    o->places[p - t5_model_param(o->model, 0)] =
        (struct t5_optimizer_place){at[0], at[1], at[2], at[3]};
}

/* AdamW's moments lie as the parameters do, first m, then v, so that one call updates many. */
static void place_flat(struct t5_optimizer *o, int64_t *used)
{
    static const char *const kinds[] = {"m", "v"};
    int count = t5_model_param_count(o->model);
    int64_t n = t5_model_n_params(o->model);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < count; i++) {
            const struct t5_param *p = t5_model_param(o->model, i);
            struct t5_optimizer_tensor *t = &o->tensors[o->n_tensors++];
            *t = (struct t5_optimizer_tensor){.type = T5_F32,
                                              .rank = p->vector ? 1 : 2,
                                              .shape = {p->rows, p->cols},
                                              .elements = p->rows * p->cols,
                                              .offset = 4 * (k * n + p->offset)};
            snprintf(t->name, sizeof t->name, "%s.%s", kinds[k], p->name);
            o->places[i] = (struct t5_optimizer_place){4 * p->offset, 4 * (n + p->offset), -1, -1};
        }
    *used = 2 * n * (int64_t)sizeof(float);
}

int t5_optimizer_describe(struct t5_optimizer *o, int64_t *bytes, struct t5_err *err)
{
    size_t count = (size_t)t5_model_param_count(o->model);
    *bytes = 0;
    o->tensors = t5_alloc_zeroed(PARTS * count, sizeof *o->tensors, "the optimiser", err);
    o->places = t5_alloc_zeroed(count, sizeof *o->places, "the optimiser", err);
    if (!o->tensors || !o->places)
        return -1;
    if (o->settings.kind == T5_ADAMW)
        place_flat(o, bytes);
    else
        for (size_t i = 0; i < count; i++)
            place(o, bytes, t5_model_param(o->model, (int)i));
    return 0;
}

int t5_optimizer_plan(int64_t *bytes, enum t5_optimizer_kind kind, const struct t5_config *config,
                      struct t5_err *err)
{
    struct t5_layout_entry *layout;
    struct part parts[PARTS];
    int n;
    *bytes = 0;
    if (t5_layout(&layout, &n, config, err))
        return -1;
    for (int i = 0; i < n; i++) {
        const struct t5_layout_entry *e = &layout[i];
        int vector = e->rank == 1;
        parts_of(parts, kind, e->name, e->shape[0], vector ? 1 : e->shape[1], vector);
        for (int k = 0; k < PARTS && parts[k].kind; k++)
            take(bytes, &parts[k]);
    }
    free(layout);
    return 0;
}
