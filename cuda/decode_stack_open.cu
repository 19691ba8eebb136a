/* decode_stack_open.cu - which decoders decode_stack.cu takes, the tables that its kernel reads,
 * and a step. The memory that the caller gives holds vectors between blocks, then the tables. */
/* SPDX-License-Identifier: MIT */
#include <cstdlib>

#include "decode_stack.h"

extern "C" {
#include "base/buf.h"
}

struct t5_stacked {
    stack_args args;
    int blocks;
};

#define COLUMNS_LEAST 8192 /* that x has room for: attention's scores lie there, too */
#define HEADER 256         /* bytes in front of the vectors: the counter */

/* Sets the addresses of what lies in memory; returns its bytes. */
static int64_t lay(stack_args *a, char *memory, int64_t layers, int64_t d, int64_t inner,
                   int64_t d_ff)
{
    uint64_t *words = (uint64_t *)(memory + HEADER);
    a->words.launches = (unsigned long long *)memory;
    a->words.stream = words, words += d / 4 * 3;
    a->words.qkv = words, words += 3 * inner / 2;
    a->words.query = words, words += inner / 2;
    a->words.attended = words, words += inner / 2;
    a->words.hidden = words, words += d_ff / 2;
    stack_product *products = (stack_product *)words;
    a->products = products, products += STACK_LAYER * layers + 1;
    stack_caches *caches = (stack_caches *)products;
    a->caches = caches, caches += layers;
    return (int64_t)((char *)caches - memory);
}

int64_t t5_cuda_decode_stack_bytes(const t5_device *, int64_t layers, int64_t d, int64_t inner,
                                   int64_t d_ff)
{
    stack_args a;
    return lay(&a, nullptr, layers, d, inner, d_ff);
}

/* Whether w is a (rows, cols) matrix that the kernel can read; p becomes its entry. */
static bool enter(stack_product *p, const t5_weight *w, const float *norm, int64_t rows,
                  int64_t cols)
{
    p->type = w->q ? STACK_INT8 : w->e4m3 ? STACK_E4M3 : STACK_BF16;
    p->w = w->q ? (const char *)w->q : w->e4m3 ? (const char *)w->e4m3 : (const char *)w->values;
    p->scale = w->scale;
    p->norm = norm;
    return w->few && w->rows == rows && w->cols == cols && p->w &&
           (p->type != STACK_BF16 || cols * (int64_t)sizeof(bf16) % STACK_STEP == 0);
}

static bool enter_layer(stack_product *p, stack_caches *c, const t5_decode_layer *l,
                        const float *next, int64_t d, int64_t inner, int64_t d_ff)
{
    c->k = (bf16 *)l->k_cache, c->v = (bf16 *)l->v_cache, c->cross = (const bf16 *)l->cross_kv;
    return enter(p + QKV, l->qkv, nullptr, 3 * inner, d) &&
           enter(p + SELF_O, l->self_o, l->cross_norm, d, inner) &&
           enter(p + CROSS_Q, l->cross_q, nullptr, inner, d) &&
           enter(p + CROSS_O, l->cross_o, l->ff_norm, d, inner) &&
           enter(p + WI, l->wi, nullptr, 2 * d_ff, d) && enter(p + WO, l->wo, next, d, d_ff);
}

static stack_shape shape_of(int64_t rows, int64_t cols)
{
    return {(int)rows, (int)cols, (int)(rows / STACK_QUAD), STACK_QUAD, 2};
}

static void set_args(stack_args *a, const t5_decode_stack *s)
{
    int64_t d = s->d_model, inner = s->self.heads * s->self.d_kv, widest = COLUMNS_LEAST;
    widest = d > widest ? d : widest;
    widest = inner > widest ? inner : widest;
    widest = s->d_ff > widest ? s->d_ff : widest;
    a->shape[QKV] = shape_of(3 * inner, d);
    a->shape[SELF_O] = a->shape[CROSS_O] = shape_of(d, inner);
    a->shape[CROSS_Q] = shape_of(inner, d);
    a->shape[WI] = shape_of(2 * s->d_ff, d);
    a->shape[WI].stride = 2, a->shape[WI].apart = (int)s->d_ff;
    a->shape[WO] = shape_of(d, s->d_ff);
    a->shape[HEAD] = shape_of(s->head->rows, d);
    a->norm = s->n_layers ? s->layers[0].self_norm : nullptr;
    a->n_products = (int)(STACK_LAYER * s->n_layers + 1);
    a->pitch = (int)((widest + STACK_STEP - 1) / STACK_STEP * STACK_STEP * (int64_t)sizeof(bf16));
    a->eps = s->eps, a->scale = s->scale, a->glu = s->kind;
}

/* Sizes alone: quads, words and pieces must come out even, and rows fit 32 bits. */
static bool fits(const t5_device *dev, const t5_decode_stack *s)
{
    int64_t inner = s->self.heads * s->self.d_kv, most = (int64_t)1 << 24;
    return dev->bf16 && dev->overlaps && s->n_layers > 0 && s->n_layers < 256 &&
           whole_head(&s->self) && s->d_model % 16 == 0 && inner % 16 == 0 && s->d_ff % 16 == 0 &&
           s->head->rows % STACK_QUAD == 0 && s->d_model < most && 3 * inner < most &&
           2 * s->d_ff < most && s->head->rows < most;
}

t5_stacked *t5_cuda_decode_stack_open(t5_device *dev, void *memory, const t5_decode_stack *s)
{
    int64_t layers = s->n_layers, d = s->d_model, inner = s->self.heads * s->self.d_kv;
    t5_err err;
    if (!fits(dev, s))
        return nullptr;
    size_t bytes = (size_t)t5_cuda_decode_stack_bytes(dev, layers, d, inner, s->d_ff);
    t5_stacked *stacked = (t5_stacked *)t5_alloc_zeroed(1, sizeof *stacked, "a decoder", &err);
    char *host = (char *)t5_alloc_zeroed(1, bytes, "a decoder", &err);
    bool good = stacked && host;
    if (good) {
        stack_args *a = &stacked->args, at = {};
        lay(&at, host, layers, d, inner, s->d_ff);
        stack_product *p = const_cast<stack_product *>(at.products);
        stack_caches *c = const_cast<stack_caches *>(at.caches);
        for (int64_t l = 0; l < layers && good; l++)
            good = enter_layer(p + STACK_LAYER * l, c + l, &s->layers[l],
                               l + 1 < layers ? s->layers[l + 1].self_norm : s->final_norm, d,
                               inner, s->d_ff);
        good = good && enter(p + STACK_LAYER * layers, s->head, nullptr, s->head->rows, d);
        lay(a, (char *)memory, layers, d, inner, s->d_ff);
        set_args(a, s);
        stacked->blocks = good ? t5_cuda_stack_blocks(dev, a) : 0;
        *at.words.launches = (unsigned long long)stacked->blocks;
    }
    if (good && stacked->blocks) {
        t5_cuda_upload(dev, memory, host, bytes);
        stacked->args.self.heads = (int)s->self.heads, stacked->args.self.d_kv = (int)s->self.d_kv;
        stacked->args.self.max_distance = (int)s->self.max_distance;
        stacked->args.self.bucket = s->self.bucket, stacked->args.self.bias = s->self.bias;
    } else {
        free(stacked);
        stacked = nullptr;
    }
    free(host);
    return stacked;
}

void t5_cuda_decode_stack_close(t5_device *dev, t5_stacked *stacked)
{
    if (stacked)
        cudaStreamSynchronize(dev->stream);
    free(stacked);
}

int t5_cuda_decode_stack(t5_device *dev, t5_stacked *stacked, float *x, float *logits,
                         const t5_decode_rows *rows, int64_t *stamps)
{
    stack_args a = stacked->args;
    int64_t longest = rows->longest_source > rows->length ? rows->longest_source : rows->length;
    if (rows->n_rows != 1 || longest > stack_scores(a.pitch, a.self.d_kv))
        return 0;
    a.x = x, a.logits = logits, a.stamps = stamps;
    a.self.length = (int)rows->length, a.self.slot = rows->slot;
    a.self.position = rows->position, a.self.history = rows->history;
    a.begin = rows->source_begin, a.count = rows->source_count;
    t5_cuda_stack_launch(dev, &a, stacked->blocks);
    return 1;
}
