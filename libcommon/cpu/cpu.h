/* cpu.h - what the files of the CPU backend share. Not for others.
 *
 * act is float. Work is split over OpenMP threads into pieces whose borders depend on sizes alone,
 * and each element of a result is computed by one thread in one order: results do not depend on the
 * number of threads. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CPU_CPU_H
#define T5_CPU_CPU_H

#include <omp.h>

#include "backend/backend.h"
#include "backend/dropout.h"
#include "cpu/gemm.h"
#include "cpu/rows.h"

struct t5_device {
    enum t5_compute compute;
    int64_t max_memory; /* 0: none */
    int threads;
    const struct t5_rows_isa *rows;
    struct t5_gemm_scratch scratch; /* rows converted for products; made when weights are */
    float *work;                    /* cpu_work's memory, owned */
    size_t work_floats;
    struct t5_err failure; /* the first one; text[0] == 0: none */
};

struct t5_weight {
    int64_t rows, cols;
    const float *values;      /* bound: (rows, cols), borrowed; NULL where frozen */
    struct t5_packed forward; /* frozen for T5_USE_FORWARD */
    struct t5_packed input;   /* frozen for T5_USE_INPUT_GRAD */
    void *table;              /* frozen for T5_USE_GATHER: (rows, cols) as it came, owned */
    enum t5_dtype table_type;
    float *table_scale; /* (rows), I8 only, owned */
};

/* Parallel regions of one device use its threads; tiny ones run where they are. */
#define CPU_PRAGMA(text) _Pragma(#text)
#define CPU_PARALLEL_FOR(device, worth)                                                            \
    CPU_PRAGMA(omp parallel for schedule(dynamic, 1) num_threads((device)->threads) if (worth))

/* Memory that lives until the next call: `floats` for each of `parts` (threads, or 1). Grows on
 * first use of a size; NULL, with the failure noted, where there is none. Part i begins at i x the
 * rounded size, which *stride receives. */
float *cpu_work(struct t5_device *dev, int parts, size_t floats, size_t *stride);

/* A row's dropout place: row i of a packed batch. pack may be NULL where drop is inactive. */
static inline struct t5_place cpu_place(const struct t5_pack *pack, int64_t i)
{
    const int32_t b = pack->seq[i];
    return (struct t5_place){pack->record[b], (uint32_t)(i - pack->offsets[b]), 0};
}

int cpu_weight_freeze(struct t5_device *dev, struct t5_weight **out, const struct t5_matrix *parts,
                      int n_parts, unsigned use, struct t5_err *err);
int cpu_weight_bind(struct t5_device *dev, struct t5_weight **out, const float *values,
                    int64_t rows, int64_t cols, struct t5_err *err);
void cpu_weight_refresh(struct t5_device *dev, struct t5_weight *w);
void cpu_weight_free(struct t5_device *dev, struct t5_weight *w);
int64_t cpu_weight_bytes(const struct t5_device *dev, enum t5_dtype type, int64_t rows,
                         int64_t cols, unsigned use);

void cpu_linear_fwd(struct t5_device *dev, act *y, int64_t ldy, const act *x, int64_t ldx,
                    const struct t5_weight *w, int64_t n);
void cpu_logits_fwd(struct t5_device *dev, float *logits, const act *x, int64_t ldx,
                    const struct t5_weight *w, int64_t n, float scale);
void cpu_linear_bwd_input(struct t5_device *dev, act *dx, int64_t lddx, const act *dy, int64_t lddy,
                          const struct t5_weight *w, int64_t n, int accumulate);
void cpu_linear_bwd_weight(struct t5_device *dev, float *dw, const act *dy, int64_t lddy,
                           const act *x, int64_t ldx, int64_t rows, int64_t cols, int64_t n);

void cpu_lora_fwd(struct t5_device *dev, act *y, int64_t ldy, act *u, const act *x, int64_t ldx,
                  int64_t cols, const struct t5_lora *lora, int n_lora, int64_t n,
                  const struct t5_pack *pack);
void cpu_lora_bwd(struct t5_device *dev, act *dx, int64_t lddx, act *work, const act *dy,
                  int64_t lddy, const act *u, const act *x, int64_t ldx, int64_t cols,
                  const struct t5_lora *lora, int n_lora, int64_t n, const struct t5_pack *pack);

void cpu_embed_fwd(struct t5_device *dev, float *x, const struct t5_weight *table,
                   const int32_t *ids, const struct t5_pack *pack, const struct t5_dropout *drop);
void cpu_embed_bwd(struct t5_device *dev, float *dtable, const float *dx, const int32_t *ids,
                   int64_t v, int64_t d, const struct t5_pack *pack, const struct t5_dropout *drop);

void cpu_norm_fwd(struct t5_device *dev, float *x_out, act *y, const float *x_in, const act *delta,
                  const float *w, int64_t n, int64_t d, float eps, const struct t5_pack *pack,
                  const struct t5_dropout *drop_delta, const struct t5_dropout *drop_y,
                  const struct t5_reader *reader);
void cpu_norm_bwd(struct t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                  const float *x, const float *w, int64_t n, int64_t d, float eps,
                  const struct t5_pack *pack, const struct t5_dropout *drop_delta,
                  const struct t5_dropout *drop_y, const struct t5_reader *reader);

void cpu_glu_fwd(struct t5_device *dev, act *h, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader);
void cpu_glu_bwd(struct t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader);

void cpu_attention_fwd(struct t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                       const act *k, int64_t ldk, const act *v, int64_t ldv,
                       const struct t5_attention *shape);
void cpu_attention_bwd(struct t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk, act *dv,
                       int64_t lddv, float *dbias, const act *dout, const act *out,
                       const float *lse, const act *q, int64_t ldq, const act *k, int64_t ldk,
                       const act *v, int64_t ldv, const struct t5_attention *shape);
/* line[i] = the head's bias for key position - query position = first + i, i < n; zeros without
 * bias */
void cpu_bias_line(float *line, const struct t5_attention *shape, int64_t head, int64_t first,
                   int64_t n);

void cpu_cross_entropy(struct t5_device *dev, float *nll, act *dlogits, const float *logits,
                       const int32_t *labels, int64_t n, int64_t v, float scale, float smoothing);
void cpu_logits_edit(struct t5_device *dev, float *logits, int64_t v, const int32_t *row,
                     const int32_t *id, int64_t n, float penalty);
void cpu_topk(struct t5_device *dev, float *value, int32_t *id, float *lse, const float *logits,
              int64_t n_rows, int64_t v, int64_t k);

void cpu_sum(struct t5_device *dev, double *out, const float *x, int64_t n, int accumulate);
void cpu_sum_squares(struct t5_device *dev, double *out, const float *x, int64_t n);
void cpu_spoil(struct t5_device *dev, double *value, const double *guard, double most);
void cpu_adamw(struct t5_device *dev, float *p, const float *g, float *m, float *v, int64_t n,
               const struct t5_adamw *how, const double *sum_squares);
void cpu_adafactor(struct t5_device *dev, float *p, const float *g, float *row, float *col,
                   int64_t rows, int64_t cols, const struct t5_adafactor *how,
                   const double *sum_squares);
void cpu_adamw8(struct t5_device *dev, float *p, const float *g, uint8_t *m, uint8_t *v,
                float *m_scale, float *v_scale, int64_t n, const float *maps,
                const struct t5_adamw *how, const double *sum_squares);

void cpu_decode_self(struct t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                     const struct t5_decode_rows *rows, const struct t5_attention *shape);
void cpu_decode_cross(struct t5_device *dev, act *out, const act *q, const act *kv,
                      const struct t5_decode_rows *rows, const struct t5_attention *shape);

extern const struct t5_backend t5_backend_cpu;

#endif
