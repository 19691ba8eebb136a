/* ref_ops.c - the reference definition of embedding, norm, gated activation, loss, optimiser and
 * token selection. Products and memory: backend_ref.c. Attention: ref_attention.c. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "backend/ref.h"

void ref_embed_fwd(struct t5_device *dev, float *x, const struct t5_weight *table,
                   const int32_t *ids, const struct t5_pack *pack, const struct t5_dropout *drop)
{
    (void)dev;
    int64_t d = table->cols;
    for (int64_t i = 0; i < pack->n_tokens; i++)
        for (int64_t c = 0; c < d; c++)
            x[i * d + c] = (float)(table->values[ids[i] * d + c] * ref_mask(drop, pack, i, c));
}

void ref_embed_bwd(struct t5_device *dev, float *dtable, const float *dx, const int32_t *ids,
                   int64_t v, int64_t d, const struct t5_pack *pack, const struct t5_dropout *drop)
{
    (void)dev;
    (void)v;
    for (int64_t i = 0; i < pack->n_tokens; i++)
        for (int64_t c = 0; c < d; c++)
            dtable[ids[i] * d + c] += (float)(dx[i * d + c] * ref_mask(drop, pack, i, c));
}

static double inverse_rms(const float *x, int64_t d, float eps)
{
    double sum = 0;
    for (int64_t c = 0; c < d; c++)
        sum += (double)x[c] * x[c];
    return 1 / sqrt(sum / (double)d + (double)eps);
}

void ref_norm_fwd(struct t5_device *dev, float *x_out, act *y, const float *x_in, const act *delta,
                  const float *w, int64_t n, int64_t d, float eps, const struct t5_pack *pack,
                  const struct t5_dropout *drop_delta, const struct t5_dropout *drop_y,
                  const struct t5_reader *reader)
{
    (void)dev;
    (void)reader;
    for (int64_t i = 0; i < n; i++) {
        float *x = x_out + i * d, *yi = (float *)y + i * d;
        for (int64_t c = 0; c < d; c++) {
            double add =
                delta ? ((const float *)delta)[i * d + c] * ref_mask(drop_delta, pack, i, c) : 0;
            x[c] = (float)(x_in[i * d + c] + add);
        }
        double r = inverse_rms(x, d, eps);
        for (int64_t c = 0; c < d; c++)
            yi[c] = (float)(x[c] * r * w[c] * ref_mask(drop_y, pack, i, c));
    }
}

/* y = w x r with r = (mean(x^2) + eps)^-1/2:  dx = r w dy - x r^3 / d sum(dy w x);  dw = sum x r dy
 */
void ref_norm_bwd(struct t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                  const float *x, const float *w, int64_t n, int64_t d, float eps,
                  const struct t5_pack *pack, const struct t5_dropout *drop_delta,
                  const struct t5_dropout *drop_y, const struct t5_reader *reader)
{
    (void)dev;
    (void)reader;
    for (int64_t i = 0; i < n; i++) {
        const float *xi = x + i * d, *dyi = (const float *)dy + i * d;
        double r = inverse_rms(xi, d, eps), sum = 0;
        for (int64_t c = 0; c < d; c++)
            sum += dyi[c] * ref_mask(drop_y, pack, i, c) * w[c] * xi[c];
        for (int64_t c = 0; c < d; c++) {
            double g = dyi[c] * ref_mask(drop_y, pack, i, c);
            dx[i * d + c] += (float)(r * w[c] * g - xi[c] * r * r * r / (double)d * sum);
            if (dw)
                dw[c] += (float)(xi[c] * r * g);
            if (ddelta)
                ((float *)ddelta)[i * d + c] =
                    (float)(dx[i * d + c] * ref_mask(drop_delta, pack, i, c));
        }
    }
}

#define SQRT_2_OVER_PI 0.79788456080286535588

/* gelu_new: arXiv:1606.08415's tanh form. silu: x sigmoid(x). */
static double activate(double x, enum t5_glu kind)
{
    switch (kind) {
    case T5_GLU_RELU:
        return x > 0 ? x : 0;
    case T5_GLU_GELU_NEW:
        return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)));
    case T5_GLU_SILU:
        return x / (1 + exp(-x));
    }
    return NAN;
}

static double activate_slope(double x, enum t5_glu kind)
{
    double t, s;
    switch (kind) {
    case T5_GLU_RELU:
        return x > 0 ? 1 : 0;
    case T5_GLU_GELU_NEW:
        t = tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x);
    case T5_GLU_SILU:
        s = 1 / (1 + exp(-x));
        return s * (1 + x * (1 - s));
    }
    return NAN;
}

void ref_glu_fwd(struct t5_device *dev, act *h, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader)
{
    (void)dev;
    (void)reader;
    for (int64_t i = 0; i < n; i++) {
        const float *gi = (const float *)g + i * f * (gated ? 2 : 1);
        for (int64_t c = 0; c < f; c++)
            ((float *)h)[i * f + c] =
                (float)(activate((double)gi[c], kind) * (gated ? (double)gi[f + c] : 1) *
                        ref_mask(drop, pack, i, c));
    }
}

void ref_glu_bwd(struct t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader)
{
    (void)dev;
    (void)reader;
    int64_t ld = f * (gated ? 2 : 1);
    for (int64_t i = 0; i < n; i++) {
        const float *gi = (const float *)g + i * ld;
        float *dgi = (float *)dg + i * ld;
        for (int64_t c = 0; c < f; c++) {
            double d = ((const float *)dh)[i * f + c] * ref_mask(drop, pack, i, c);
            double gate = (double)gi[c], up = gated ? (double)gi[f + c] : 1;
            dgi[c] = (float)(d * up * activate_slope(gate, kind));
            if (gated)
                dgi[f + c] = (float)(d * activate(gate, kind));
        }
    }
}

static double log_sum_exp(const float *x, int64_t n)
{
    double top = -INFINITY, sum = 0;
    for (int64_t c = 0; c < n; c++)
        top = (double)x[c] > top ? (double)x[c] : top;
    for (int64_t c = 0; c < n; c++)
        sum += exp(x[c] - top);
    return top + log(sum);
}

void ref_cross_entropy(struct t5_device *dev, float *nll, act *dlogits, const float *logits,
                       const int32_t *labels, int64_t n, int64_t v, float scale, float smoothing)
{
    (void)dev;
    float *dl = dlogits;
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * v;
        double lse = log_sum_exp(row, v);
        double others = (double)smoothing / (double)v, label = 1 - (double)smoothing, loss = lse;
        loss -= label * (double)row[labels[i]];
        for (int64_t c = 0; smoothing != 0 && c < v; c++)
            loss -= others * (double)row[c];
        nll[i] = (float)loss;
        for (int64_t c = 0; dl && c < v; c++) {
            double q = others + (c == labels[i] ? label : 0);
            dl[i * v + c] = (float)(scale * (exp(row[c] - lse) - q));
        }
    }
}

void ref_sum(struct t5_device *dev, double *out, const float *x, int64_t n, int accumulate)
{
    (void)dev;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    *out = (accumulate ? *out : 0) + sum;
}

void ref_spoil(struct t5_device *dev, double *value, const double *guard, double most)
{
    (void)dev;
    if (!isfinite(*guard) || *guard > most)
        *value = NAN;
}

void ref_sum_squares(struct t5_device *dev, double *out, const float *x, int64_t n)
{
    (void)dev;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    *out = sum;
}

void ref_adamw(struct t5_device *dev, float *p, const float *g, float *m, float *v, int64_t n,
               const struct t5_adamw *how, const double *sum_squares)
{
    (void)dev;
    if (!isfinite(*sum_squares))
        return;
    double coefficient = 1;
    if (how->clip > 0)
        coefficient = fmin(1, how->clip / (sqrt(*sum_squares) + 1e-6));
    double correct1 = 1 - pow((double)how->beta1, (double)how->step);
    double correct2 = 1 - pow((double)how->beta2, (double)how->step);
    for (int64_t i = 0; i < n; i++) {
        double gi = g[i] * coefficient;
        m[i] = (float)(how->beta1 * (double)m[i] + (1 - (double)how->beta1) * gi);
        v[i] = (float)(how->beta2 * (double)v[i] + (1 - (double)how->beta2) * gi * gi);
        double decayed = p[i] * (1 - (double)how->lr * how->weight_decay);
        p[i] = (float)(decayed - how->lr / correct1 * m[i] /
                                     (sqrt((double)v[i]) / sqrt(correct2) + (double)how->eps));
    }
}

void ref_logits_edit(struct t5_device *dev, float *logits, int64_t v, const int32_t *row,
                     const int32_t *id, int64_t n, float penalty)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++) {
        float *x = logits + row[i] * v + id[i];
        *x = penalty == 0 ? -INFINITY : *x < 0 ? *x * penalty : *x / penalty;
    }
}

void ref_topk(struct t5_device *dev, float *value, int32_t *id, float *lse, const float *logits,
              int64_t n_rows, int64_t v, int64_t k)
{
    (void)dev;
    for (int64_t r = 0; r < n_rows; r++) {
        const float *x = logits + r * v;
        lse[r] = (float)log_sum_exp(x, v);
        /* each pass takes the largest that stands behind the last one taken */
        for (int64_t i = 0; i < k; i++) {
            int64_t best = -1;
            for (int64_t c = 0; c < v; c++) {
                if (i > 0) {
                    float last = value[r * k + i - 1];
                    if (x[c] > last || (x[c] == last && c <= id[r * k + i - 1]))
                        continue;
                }
                if (best < 0 || x[c] > x[best])
                    best = c;
            }
            value[r * k + i] = best < 0 ? -INFINITY : x[best];
            id[r * k + i] = best < 0 ? 0 : (int32_t)best;
        }
    }
}
