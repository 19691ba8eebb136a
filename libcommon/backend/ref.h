/* ref.h - what the files of the reference backend share. Not for others. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BACKEND_REF_H
#define T5_BACKEND_REF_H

#include "backend/backend.h"
#include "backend/dropout.h"

struct t5_device {
    int64_t max_memory;    /* 0: none */
    struct t5_err failure; /* the first one; text[0] == 0: none */
    /* For tests of memory that runs out, by the environment: T5_REF_ALLOC=BYTES, no allocation is
     * larger; T5_REF_SCRATCH=CALLS:TOKENS, after so many calls an attention of more query tokens
     * finds no scratch, as on a card that another program has filled. */
    size_t most_bytes;
    int64_t calls_left, most_tokens;
};

struct t5_weight {
    const float *values; /* (rows, cols) */
    float *owned;        /* the same, where frozen; NULL where bound */
    int64_t rows, cols;
};

/* What row i of a packed batch multiplies its column c by; 1 where drop is inactive. */
static inline double ref_mask(const struct t5_dropout *drop, const struct t5_pack *pack, int64_t i,
                              int64_t c)
{
    if (!t5_dropout_active(drop))
        return 1;
    int32_t b = pack->seq[i];
    return (double)t5_dropout_factor(drop, pack->record[b], (uint32_t)(i - pack->offsets[b]),
                                     (uint32_t)c);
}

void ref_attention_fwd(struct t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                       const act *k, int64_t ldk, const act *v, int64_t ldv,
                       const struct t5_attention *shape);
void ref_attention_bwd(struct t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk, act *dv,
                       int64_t lddv, float *dbias, const act *dout, const act *out,
                       const float *lse, const act *q, int64_t ldq, const act *k, int64_t ldk,
                       const act *v, int64_t ldv, const struct t5_attention *shape);
void ref_decode_self(struct t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                     const struct t5_decode_rows *rows, const struct t5_attention *shape);
void ref_decode_cross(struct t5_device *dev, act *out, const act *q, const act *kv,
                      const struct t5_decode_rows *rows, const struct t5_attention *shape);

void ref_embed_fwd(struct t5_device *dev, float *x, const struct t5_weight *table,
                   const int32_t *ids, const struct t5_pack *pack, const struct t5_dropout *drop);
void ref_norm_fwd(struct t5_device *dev, float *x_out, act *y, const float *x_in, const act *delta,
                  const float *w, int64_t n, int64_t d, float eps, const struct t5_pack *pack,
                  const struct t5_dropout *drop_delta, const struct t5_dropout *drop_y,
                  const struct t5_reader *reader);
void ref_glu_fwd(struct t5_device *dev, act *h, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader);
void ref_cross_entropy(struct t5_device *dev, float *nll, act *dlogits, const float *logits,
                       const int32_t *labels, int64_t n, int64_t v, float scale, float smoothing);
void ref_embed_bwd(struct t5_device *dev, float *dtable, const float *dx, const int32_t *ids,
                   int64_t v, int64_t d, const struct t5_pack *pack, const struct t5_dropout *drop);
void ref_norm_bwd(struct t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                  const float *x, const float *w, int64_t n, int64_t d, float eps,
                  const struct t5_pack *pack, const struct t5_dropout *drop_delta,
                  const struct t5_dropout *drop_y, const struct t5_reader *reader);
void ref_glu_bwd(struct t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader);
void ref_sum(struct t5_device *dev, double *out, const float *x, int64_t n, int accumulate);
void ref_spoil(struct t5_device *dev, double *value, const double *guard, double most);
void ref_sum_squares(struct t5_device *dev, double *out, const float *x, int64_t n);
void ref_adamw(struct t5_device *dev, float *p, const float *g, float *m, float *v, int64_t n,
               const struct t5_adamw *how, const double *sum_squares);
void ref_adafactor(struct t5_device *dev, float *p, const float *g, float *row, float *col,
                   int64_t rows, int64_t cols, const struct t5_adafactor *how,
                   const double *sum_squares);
void ref_adamw8(struct t5_device *dev, float *p, const float *g, uint8_t *m, uint8_t *v,
                float *m_scale, float *v_scale, int64_t n, const float *maps,
                const struct t5_adamw *how, const double *sum_squares);
void ref_logits_edit(struct t5_device *dev, float *logits, int64_t v, const int32_t *row,
                     const int32_t *id, int64_t n, float penalty);
void ref_topk(struct t5_device *dev, float *value, int32_t *id, float *lse, const float *logits,
              int64_t n_rows, int64_t v, int64_t k);

#endif
