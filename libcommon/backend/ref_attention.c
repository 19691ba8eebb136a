/* ref_attention.c - the reference definition of packed attention and its decode-step forms.
 *   s[i][j] = q_i . k_j + bias(j - i),  p = softmax(s),  out_i = sum_j drop(p)[i][j] v_j
 * (arXiv:1706.03762 without the 1/sqrt(K); bias: arXiv:1910.10683 section 2.1). */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ref.h"

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* The row of the bias table for key position - query position, or -1 where there is no bias. */
static int64_t bucket_row(const struct t5_attention *s, int64_t relative)
{
    if (!s->bias)
        return -1;
    int64_t far = s->max_distance;
    relative = relative < -far ? -far : relative > far ? far : relative;
    return s->bucket[far + relative];
}

static double bias_at(const struct t5_attention *s, int64_t relative, int64_t head)
{
    int64_t row = bucket_row(s, relative);
    return row < 0 ? 0 : (double)s->bias[row * s->heads + head];
}

static double mask_at(const struct t5_attention *s, int64_t b, int64_t head, int64_t i, int64_t j)
{
    if (!t5_dropout_active(&s->dropout))
        return 1;
    return (double)t5_dropout_factor(&s->dropout, s->q_pack->record[b], (uint32_t)i,
                                     (uint32_t)(head << 16 | j));
}

/* Scores of one query against n keys into p, and their log-sum-exp. */
static double scores(double *p, const float *q, const float *k, int64_t ldk, int64_t n, int64_t i,
                     int64_t head, const struct t5_attention *s)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        p[j] = dot(q, k + j * ldk, s->d_kv) + bias_at(s, j - i, head);
        top = p[j] > top ? p[j] : top;
    }
    for (int64_t j = 0; j < n; j++)
        sum += exp(p[j] - top);
    return top + log(sum);
}

static int64_t keys_seen(const struct t5_attention *s, int64_t i, int64_t n)
{
    return s->causal && i + 1 < n ? i + 1 : n;
}

void ref_attention_fwd(struct t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                       const act *k, int64_t ldk, const act *v, int64_t ldv,
                       const struct t5_attention *s)
{
    int64_t width = s->heads * s->d_kv;
    int starved = dev->calls_left-- <= 0 && s->q_pack->n_tokens > dev->most_tokens;
    double *p = starved ? NULL : malloc((size_t)(s->k_pack->longest + 1) * sizeof *p);
    if (!p) {
        t5_fail_memory(&dev->failure, (size_t)s->k_pack->longest * sizeof *p, "attention");
        return;
    }
    for (int64_t b = 0; b < s->q_pack->n_seqs; b++) {
        int64_t q0 = s->q_pack->offsets[b], nq = s->q_pack->offsets[b + 1] - q0;
        int64_t k0 = s->k_pack->offsets[b], nk = s->k_pack->offsets[b + 1] - k0;
        for (int64_t h = 0; h < s->heads; h++) {
            const float *kh = (const float *)k + k0 * ldk + h * s->d_kv;
            const float *vh = (const float *)v + k0 * ldv + h * s->d_kv;
            for (int64_t i = 0; i < nq; i++) {
                int64_t n = keys_seen(s, i, nk);
                const float *qi = (const float *)q + (q0 + i) * ldq + h * s->d_kv;
                float *o = (float *)out + (q0 + i) * width + h * s->d_kv;
                double log_sum = scores(p, qi, kh, ldk, n, i, h, s);
                for (int64_t j = 0; j < n; j++)
                    p[j] = exp(p[j] - log_sum) * mask_at(s, b, h, i, j);
                for (int64_t c = 0; c < s->d_kv; c++) {
                    double sum = 0;
                    for (int64_t j = 0; j < n; j++)
                        sum += p[j] * vh[j * ldv + c];
                    o[c] = (float)sum;
                }
                if (lse)
                    lse[(q0 + i) * s->heads + h] = (float)log_sum;
            }
        }
    }
    free(p);
}

static void zero_rows(float *x, int64_t ld, int64_t n, int64_t width)
{
    for (int64_t i = 0; i < n; i++)
        memset(x + i * ld, 0, (size_t)width * sizeof *x);
}

/* dp_j = dout . v_j x mask;  ds_j = p_j (dp_j - sum_j p_j dp_j);  dq += ds_j k_j;  dk_j += ds_j q;
 * dv_j += p_j mask dout */
void ref_attention_bwd(struct t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk, act *dv,
                       int64_t lddv, float *dbias, const act *dout, const act *out,
                       const float *lse, const act *q, int64_t ldq, const act *k, int64_t ldk,
                       const act *v, int64_t ldv, const struct t5_attention *s)
{
    (void)dev;
    int64_t K = s->d_kv, width = s->heads * K;
    zero_rows(dq, lddq, s->q_pack->n_tokens, width);
    zero_rows(dk, lddk, s->k_pack->n_tokens, width);
    zero_rows(dv, lddv, s->k_pack->n_tokens, width);
    for (int64_t b = 0; b < s->q_pack->n_seqs; b++) {
        int64_t q0 = s->q_pack->offsets[b], nq = s->q_pack->offsets[b + 1] - q0;
        int64_t k0 = s->k_pack->offsets[b], nk = s->k_pack->offsets[b + 1] - k0;
        for (int64_t h = 0; h < s->heads; h++) {
            for (int64_t i = 0; i < nq; i++) {
                const float *qi = (const float *)q + (q0 + i) * ldq + h * K;
                const float *doi = (const float *)dout + (q0 + i) * width + h * K;
                float *dqi = (float *)dq + (q0 + i) * lddq + h * K;
                double log_sum = (double)lse[(q0 + i) * s->heads + h];
                /* sum_j p_j dp_j = dout . out: the row of out already has the masks in it */
                double mean = dot(doi, (const float *)out + (q0 + i) * width + h * K, K);
                for (int64_t j = 0; j < keys_seen(s, i, nk); j++) {
                    const float *kj = (const float *)k + (k0 + j) * ldk + h * K;
                    const float *vj = (const float *)v + (k0 + j) * ldv + h * K;
                    float *dkj = (float *)dk + (k0 + j) * lddk + h * K;
                    float *dvj = (float *)dv + (k0 + j) * lddv + h * K;
                    double p = exp(dot(qi, kj, K) + bias_at(s, j - i, h) - log_sum);
                    double mask = mask_at(s, b, h, i, j);
                    double ds = p * (dot(doi, vj, K) * mask - mean);
                    for (int64_t c = 0; c < K; c++) {
                        dqi[c] += (float)(ds * kj[c]);
                        dkj[c] += (float)(ds * qi[c]);
                        dvj[c] += (float)(p * mask * doi[c]);
                    }
                    if (dbias)
                        dbias[bucket_row(s, j - i) * s->heads + h] += (float)ds;
                }
            }
        }
    }
}

/* One row's attention over n keys found through key(j); the caller gives arrays of row pointers. */
static void attend(float *out, const float *q, const float *const *k, const float *const *v,
                   int64_t n, int64_t i, int64_t head, double *p, const struct t5_attention *s)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        p[j] = dot(q, k[j], s->d_kv) + bias_at(s, j - i, head);
        top = p[j] > top ? p[j] : top;
    }
    for (int64_t j = 0; j < n; j++)
        sum += p[j] = exp(p[j] - top);
    for (int64_t c = 0; c < s->d_kv; c++) {
        double o = 0;
        for (int64_t j = 0; j < n; j++)
            o += p[j] / sum * v[j][c];
        out[c] = (float)o;
    }
}

struct work {
    const float **k, **v;
    double *p;
};

static int work_init(struct work *w, int64_t n, struct t5_device *dev)
{
    w->k = malloc((size_t)n * sizeof *w->k);
    w->v = malloc((size_t)n * sizeof *w->v);
    w->p = malloc((size_t)n * sizeof *w->p);
    if (w->k && w->v && w->p)
        return 0;
    return t5_fail_memory(&dev->failure, (size_t)n * sizeof *w->p, "attention");
}

static void work_free(struct work *w)
{
    free(w->k);
    free(w->v);
    free(w->p);
}

void ref_decode_self(struct t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                     const struct t5_decode_rows *rows, const struct t5_attention *s)
{
    int64_t width = s->heads * s->d_kv, T = rows->length;
    float *kc = k_cache, *vc = v_cache;
    struct work w;
    if (work_init(&w, T, dev) == 0) {
        for (int64_t r = 0; r < rows->n_rows; r++) {
            int64_t at = rows->slot[r] * T + rows->position[r];
            const float *x = (const float *)qkv + r * 3 * width;
            memcpy(kc + at * width, x + width, (size_t)width * sizeof(float));
            memcpy(vc + at * width, x + 2 * width, (size_t)width * sizeof(float));
        }
        for (int64_t r = 0; r < rows->n_rows; r++)
            for (int64_t h = 0; h < s->heads; h++) {
                int64_t t = rows->position[r];
                for (int64_t j = 0; j <= t; j++) {
                    int64_t slot = j < t ? rows->history[r * T + j] : rows->slot[r];
                    w.k[j] = kc + (slot * T + j) * width + h * s->d_kv;
                    w.v[j] = vc + (slot * T + j) * width + h * s->d_kv;
                }
                attend((float *)out + r * width + h * s->d_kv,
                       (const float *)qkv + r * 3 * width + h * s->d_kv, w.k, w.v, t + 1, t, h, w.p,
                       s);
            }
    }
    work_free(&w);
}

void ref_decode_cross(struct t5_device *dev, act *out, const act *q, const act *kv,
                      const struct t5_decode_rows *rows, const struct t5_attention *s)
{
    int64_t width = s->heads * s->d_kv, longest = 1;
    for (int64_t r = 0; r < rows->n_rows; r++)
        longest = rows->source_count[r] > longest ? rows->source_count[r] : longest;
    struct work w;
    if (work_init(&w, longest, dev) == 0)
        for (int64_t r = 0; r < rows->n_rows; r++)
            for (int64_t h = 0; h < s->heads; h++) {
                for (int64_t j = 0; j < rows->source_count[r]; j++) {
                    w.k[j] =
                        (const float *)kv + (rows->source_begin[r] + j) * 2 * width + h * s->d_kv;
                    w.v[j] = w.k[j] + width;
                }
                attend((float *)out + r * width + h * s->d_kv,
                       (const float *)q + r * width + h * s->d_kv, w.k, w.v, rows->source_count[r],
                       0, h, w.p, s);
            }
    work_free(&w);
}
