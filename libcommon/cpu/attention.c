/* attention.c - packed attention with T5's relative-position bias, forward and backward.
 *   s[i][j] = q_i . k_j + bias(j - i),  p = softmax(s),  out_i = sum_j drop(p)[i][j] v_j
 * A task is one head of one sequence. It takes BLOCK query rows at a time: their scores against
 * every key are one product, so are their outputs; between them each row's softmax. Nothing of size
 * S x T is kept: the backward pass makes the weights again from the saved log-sum-exp. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

enum { BLOCK = 96 };

/* One head of one sequence. */
struct head {
    const struct t5_attention *shape;
    int64_t head, record;
    int64_t q0, nq, k0, nk; /* its tokens: first and count */
    const float *line;      /* bias by key position - query position, from -(nq - 1) */
};

void cpu_bias_line(float *line, const struct t5_attention *shape, int64_t head, int64_t first,
                   int64_t n)
{
    const int64_t far = shape->max_distance;
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = first + i, near = r < -far ? -far : r > far ? far : r;
        line[i] = shape->bias ? shape->bias[shape->bucket[far + near] * shape->heads + head] : 0;
    }
}

static int64_t padded(int64_t n)
{
    return (n + 15) / 16 * 16;
}

/* Floats of workspace for one task: `tiles` blocks of scores, a mask row and a bias line. */
static size_t task_floats(const struct t5_attention *shape, int tiles)
{
    const int64_t nk = padded(shape->k_pack->longest), nq = padded(shape->q_pack->longest);
    return (size_t)(tiles * BLOCK * nk + nk + (nq + nk));
}

static struct head head_init(const struct t5_attention *shape, int64_t b, int64_t h, float *line)
{
    const int32_t *q = shape->q_pack->offsets + b, *k = shape->k_pack->offsets + b;
    struct head at = {
        shape,       h,           shape->q_pack->record ? shape->q_pack->record[b] : 0,
        q[0],        q[1] - q[0], k[0],
        k[1] - k[0], line};
    cpu_bias_line(line, shape, h, -(at.nq - 1), at.nq + at.nk - 1);
    return at;
}

/* Keys that query i sees. */
static int64_t seen(const struct head *at, int64_t i)
{
    return at->shape->causal && i + 1 < at->nk ? i + 1 : at->nk;
}

static struct t5_view rows_of(const float *x, int64_t ld)
{
    return (struct t5_view){x, ld, 1};
}
static struct t5_view turned(const float *x, int64_t ld)
{
    return (struct t5_view){x, 1, ld};
}

static struct t5_place mask_place(const struct head *at, int64_t i)
{
    return (struct t5_place){(uint32_t)at->record, (uint32_t)i, (uint32_t)at->head << 16};
}

/* Query rows from..from+m: p (m, ld) weights after dropout over n keys, zeros where hidden. */
static void block_weights(struct t5_device *dev, float *p, int64_t ld, float *lse,
                          const struct head *at, int64_t from, int64_t m, int64_t n)
{
    const struct t5_rows_isa *rows = dev->rows;
    for (int64_t i = from; i < from + m; i++, p += ld) {
        const int64_t visible = seen(at, i);
        if (at->shape->bias)
            rows->add(p, p, at->line + (at->nq - 1) - i, visible);
        const float top = rows->max(p, visible);
        const float sum = rows->exp_sum(p, p, top, visible);
        rows->scale(p, p, 1 / sum, visible);
        if (t5_dropout_active(&at->shape->dropout))
            rows->drop(p, p, visible, &at->shape->dropout, mask_place(at, i));
        memset(p + visible, 0, (size_t)(n - visible) * sizeof *p);
        if (lse)
            lse[i * at->shape->heads] = top + logf(sum);
    }
}

void cpu_attention_fwd(struct t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                       const act *k, int64_t ldk, const act *v, int64_t ldv,
                       const struct t5_attention *shape)
{
    const int64_t heads = shape->heads, d = shape->d_kv, width = heads * d;
    const int64_t ld = padded(shape->k_pack->longest);
    size_t stride;
    float *work = cpu_work(dev, dev->threads, task_floats(shape, 1), &stride);
    if (!work)
        return;
    CPU_PARALLEL_FOR(dev, shape->q_pack->n_tokens * width > 4096)
    for (int64_t task = 0; task < shape->q_pack->n_seqs * heads; task++) {
        float *p = work + (size_t)omp_get_thread_num() * stride;
        const int64_t h = task % heads;
        const struct head at = head_init(shape, task / heads, h, p + BLOCK * ld + ld);
        const float *qh = (const float *)q + at.q0 * ldq + h * d;
        const float *kh = (const float *)k + at.k0 * ldk + h * d;
        const float *vh = (const float *)v + at.k0 * ldv + h * d;
        for (int64_t i = 0; i < at.nq; i += BLOCK) {
            const int64_t m = at.nq - i < BLOCK ? at.nq - i : BLOCK, n = seen(&at, i + m - 1);
            t5_gemm(p, ld, rows_of(qh + i * ldq, ldq), turned(kh, ldk), m, n, d, 0, 1);
            block_weights(dev, p, ld, lse ? lse + at.q0 * heads + h : NULL, &at, i, m, n);
            t5_gemm((float *)out + (at.q0 + i) * width + h * d, width, rows_of(p, ld),
                    rows_of(vh, ldv), m, d, n, 0, 1);
        }
    }
}

/* What one head's backward pass reads and writes, all at the head's first row and column. */
struct grads {
    const float *q, *k, *v, *dout, *out, *lse;
    float *dq, *dk, *dv;
    int64_t ldq, ldk, ldv, lddq, lddk, lddv;
};

/* From scores in p and dout v^T in dp to p mask and ds, row by row:
 *   ds_j = p_j (dp_j mask_j - sum_j p_j dp_j mask_j), and that sum is dout . out */
static void block_gradients(struct t5_device *dev, float *p, float *dp, int64_t ld, float *mask,
                            const struct head *at, const struct grads *g, int64_t from, int64_t m,
                            int64_t n)
{
    const struct t5_rows_isa *rows = dev->rows;
    const int64_t heads = at->shape->heads, d = at->shape->d_kv, width = heads * d;
    const int dropped = t5_dropout_active(&at->shape->dropout);
    for (int64_t i = from; i < from + m; i++, p += ld, dp += ld) {
        const int64_t visible = seen(at, i);
        const float mean = rows->dot(g->dout + i * width, g->out + i * width, d);
        if (at->shape->bias)
            rows->add(p, p, at->line + (at->nq - 1) - i, visible);
        rows->exp_sum(p, p, g->lse[i * heads], visible);
        if (dropped)
            rows->drop(mask, NULL, visible, &at->shape->dropout, mask_place(at, i));
        rows->softmax_grad(p, dp, dropped ? mask : NULL, mean, visible);
        memset(p + visible, 0, (size_t)(n - visible) * sizeof *p);
        memset(dp + visible, 0, (size_t)(n - visible) * sizeof *dp);
    }
}

static void add_bias_gradient(float *dbias, const float *ds, int64_t ld, const struct head *at,
                              int64_t from, int64_t m)
{
    const struct t5_attention *shape = at->shape;
    const int64_t far = shape->max_distance;
    for (int64_t i = from; i < from + m; i++, ds += ld)
        for (int64_t j = 0; j < seen(at, i); j++) {
            const int64_t r = j - i, near = r < -far ? -far : r > far ? far : r;
            dbias[shape->bucket[far + near] * shape->heads + at->head] += ds[j];
        }
}

static void head_backward(struct t5_device *dev, float *work, int64_t ld, float *dbias,
                          const struct head *at, const struct grads *g)
{
    const int64_t d = at->shape->d_kv, width = at->shape->heads * d;
    float *p = work, *dp = work + BLOCK * ld, *mask = dp + BLOCK * ld;
    for (int64_t j = 0; j < at->nk; j++) {
        memset(g->dk + j * g->lddk, 0, (size_t)d * sizeof(float));
        memset(g->dv + j * g->lddv, 0, (size_t)d * sizeof(float));
    }
    for (int64_t i = 0; i < at->nq; i += BLOCK) {
        const int64_t m = at->nq - i < BLOCK ? at->nq - i : BLOCK, n = seen(at, i + m - 1);
        const struct t5_view qi = rows_of(g->q + i * g->ldq, g->ldq);
        const struct t5_view douti = rows_of(g->dout + i * width, width);
        t5_gemm(p, ld, qi, turned(g->k, g->ldk), m, n, d, 0, 1);
        t5_gemm(dp, ld, douti, turned(g->v, g->ldv), m, n, d, 0, 1);
        block_gradients(dev, p, dp, ld, mask, at, g, i, m, n);
        if (dbias)
            add_bias_gradient(dbias, dp, ld, at, i, m);
        t5_gemm(g->dq + i * g->lddq, g->lddq, rows_of(dp, ld), rows_of(g->k, g->ldk), m, d, n, 0,
                1);
        t5_gemm(g->dk, g->lddk, turned(dp, ld), qi, n, d, m, 1, 1);
        t5_gemm(g->dv, g->lddv, turned(p, ld), douti, n, d, m, 1, 1);
    }
}

void cpu_attention_bwd(struct t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk, act *dv,
                       int64_t lddv, float *dbias, const act *dout, const act *out,
                       const float *lse, const act *q, int64_t ldq, const act *k, int64_t ldk,
                       const act *v, int64_t ldv, const struct t5_attention *shape)
{
    const int64_t heads = shape->heads, d = shape->d_kv, width = heads * d;
    const int64_t ld = padded(shape->k_pack->longest), seqs = shape->q_pack->n_seqs;
    size_t stride;
    float *work = cpu_work(dev, dev->threads, task_floats(shape, 2), &stride);
    if (!work)
        return;
    /* a head's bias gradient adds up over the sequences in order, so then one task has them all */
    const int64_t together = dbias ? seqs : 1;
    CPU_PARALLEL_FOR(dev, shape->q_pack->n_tokens * width > 4096)
    for (int64_t task = 0; task < (dbias ? heads : seqs * heads); task++) {
        float *mine = work + (size_t)omp_get_thread_num() * stride;
        const int64_t h = task % heads, first = task / heads;
        for (int64_t b = first; b < first + together; b++) {
            const struct head at = head_init(shape, b, h, mine + 2 * BLOCK * ld + ld);
            const struct grads g = {
                .q = (const float *)q + at.q0 * ldq + h * d,
                .k = (const float *)k + at.k0 * ldk + h * d,
                .v = (const float *)v + at.k0 * ldv + h * d,
                .dout = (const float *)dout + at.q0 * width + h * d,
                .out = (const float *)out + at.q0 * width + h * d,
                .lse = lse + at.q0 * heads + h,
                .dq = (float *)dq + at.q0 * lddq + h * d,
                .dk = (float *)dk + at.k0 * lddk + h * d,
                .dv = (float *)dv + at.k0 * lddv + h * d,
                .ldq = ldq,
                .ldk = ldk,
                .ldv = ldv,
                .lddq = lddq,
                .lddk = lddk,
                .lddv = lddv,
            };
            head_backward(dev, mine, ld, dbias, &at, &g);
        }
    }
}
