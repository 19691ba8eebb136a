/* backend.h - the operator table: everything the model asks of a device.
 *
 * Three backends fill it: ref (plain loops, double accumulation: the definition of each operator),
 * cpu and cuda. The model in t5/ knows nothing else of a device.
 *
 * Rules for every operator
 * - Pointers are device addresses inside buffers from `alloc`; the host never follows them. `act *`
 *   stands for the device's activation type (float on ref and cpu; on cuda the compute type); `ld`
 *   is the distance between rows in elements.
 * - Work is queued in order; nothing allocates, synchronises or returns a status. The device keeps
 *   its first failure and `sync`, `download` and `check` report it; `recover` forgets some.
 * - Results do not depend on thread count, and row i of a product does not depend on which
 *   other rows stand beside it.
 * - Outputs are overwritten unless the comment says "added to". Outputs do not overlap inputs
 *   unless it says "may be".
 *
 * Shape letters: N tokens, B sequences, S source and T target length, D d_model, H heads, K d_kv,
 * F d_ff, V vocabulary, R LoRA rank. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BACKEND_BACKEND_H
#define T5_BACKEND_BACKEND_H

#include <stdint.h>

#include "base/err.h"
#include "base/matrix.h" /* struct t5_matrix: a weight on the host, of any type */

enum t5_compute { T5_COMPUTE_F32, T5_COMPUTE_BF16, T5_COMPUTE_INT8, T5_COMPUTE_FP8 };

/* f32, bf16, int8, fp8; anything else is f32, for the options that list them */
enum t5_compute t5_compute_named(const char *name);

struct t5_device; /* the backend's own: threads or stream, workspace, first failure */
struct t5_weight; /* the backend's own: a matrix (out, in) prepared for products */
struct t5_recording; /* the backend's own: work to be queued again */
struct t5_stacked; /* the backend's own: a decoder prepared for decode_stack */
typedef void act; /* elements of the device's activation type */

struct t5_device_options {
    int index;               /* which GPU */
    int threads;             /* 0: as many as the process may use */
    enum t5_compute compute; /* arithmetic inside products with frozen weights */
    const char *keep_wide;   /* or NULL: see t5_backend_handle */
    int tuning;              /* time algorithms for sizes that are new: pays in a run of many steps */
    int64_t max_memory;      /* bytes of its memory that may be taken in all; 0: all there are */
};

/* What a frozen weight is prepared for; or'ed. */
enum t5_weight_use {
    T5_USE_FORWARD = 1,    /* linear_fwd, logits_fwd */
    T5_USE_INPUT_GRAD = 2, /* linear_bwd_input */
    T5_USE_GATHER = 4,     /* embed_fwd */
    T5_USE_WIDE = 8,       /* not kept in 8 bits whatever the compute type: lm_head, sites that a
                              run names */
    T5_USE_STEP = 16,      /* decode steps: read again and again, for few rows */
    T5_USE_COMPACT = 64,   /* kept in no more bytes than it came in, and expanded for each product,
                              where the backend can: slower, the same results */
};

/* A packed batch: B sequences one behind the other, never padded. */
struct t5_pack {
    int64_t n_tokens, n_seqs; /* N, B */
    int64_t longest;          /* tokens of the longest sequence */
    const int32_t *offsets;   /* device (B+1): sequence b is tokens offsets[b] .. offsets[b+1]-1 */
    const int32_t *seq;       /* device (N): which sequence a token belongs to */
    const uint32_t *record;   /* device (B): record number, for dropout draws */
};

/* Inverted dropout (p 0: none). Element (record r, position t in the sequence, column c) survives
 * where bits c % 2 * 16 .. + 15 of philox7({r, t, c / 8, site}, key).v[c % 8 / 2] are not below
 * p x 2^16, rounded, and is then divided by 1 - p, the same p: dropout.h.
 * For attention weights (head h, query position t, key position s): c = h * 65536 + s. */
struct t5_dropout {
    float p;
    uint32_t key[2]; /* t5_rng_key(seed, T5_RNG_DROPOUT, epoch) */
    uint32_t site;   /* where in the model: see t5/sites.h */
};

/* One adapted projection beside a frozen one: y += scale x (drop(x) A^T) B^T. (arXiv:2106.09685;
 * peft LoRA) */
struct t5_lora {
    const float *a; /* device (R, K) */
    const float *b; /* device (N, R) */
    float *da, *db; /* device, added to; NULL in inference */
    int64_t rank;   /* R */
    int64_t rows;   /* N: columns of y it adds to */
    int64_t column; /* the first of them */
    float scale;
    struct t5_dropout dropout; /* on x, with its own site */
};

enum t5_glu { T5_GLU_RELU, T5_GLU_GELU_NEW, T5_GLU_SILU };

/* What norm_linear's product becomes: act; act through glu_fwd, gated; f32 logits */
enum t5_step_end { T5_STEP_ACT, T5_STEP_GATED, T5_STEP_LOGITS };

/* Softmax(q k^T + bias) v. T5 does not divide by sqrt(K). Query i of a sequence stands at position
 * i. */
struct t5_attention {
    int64_t heads, d_kv; /* H, K; head h is columns h*K .. h*K+K-1 */
    const struct t5_pack *q_pack,
        *k_pack;           /* sequence b of one attends to sequence b of the other */
    int causal;            /* keys after the query's position are hidden */
    const float *bias;     /* device (buckets, H) of layer 0, or NULL (cross-attention) */
    const int32_t *bucket; /* device (2 x max_distance + 1): bucket of key position - query
                              position, clamped to +-max_distance, at index max_distance + that */
    int64_t buckets, max_distance;
    struct t5_dropout dropout; /* on the weights after softmax */
};

/* One step of AdamW (arXiv:1711.05101, torch.optim.AdamW): g x clip coefficient first, where the
 * coefficient is min(1, clip / (sqrt(*sum_squares) + 1e-6)) as in torch clip_grad_norm_, 1 when
 * clip is 0. Nothing is changed when *sum_squares is not finite. */
struct t5_adamw {
    float lr, beta1, beta2, eps, weight_decay, clip;
    int64_t step; /* from 1 */
};

/* One step of Adafactor (arXiv:1804.04235) without first moment, as transformers' Adafactor with
 * scale_parameter and relative_step off: eps 1e-30, updates clipped to an RMS of 1. Gradients are
 * clipped as for AdamW, and nothing is changed when *sum_squares is not finite. */
struct t5_adafactor {
    float lr, decay; /* decay: 1 - step^-0.8 */
    float weight_decay, clip;
};
#define T5_ADAFACTOR_EPS 1e-30

#define T5_BLOCK8 256 /* elements that share a scale in 8-bit optimiser states */
#define T5_MAP 256    /* values of a code */

/* The product that reads an operator's result next, nothing else being asked of the device in
 * between: with w, linear_fwd or linear_add of it, or linear_bwd_input where it is a gradient.
 * alone: nobody reads the result after that product either; a backend that keeps it in the type of
 * the product's operands need not write the result itself, whose memory then holds anything.
 * lasting: other weights' products of the same rows will follow, at any time before the result is
 * written again, which only an operator with a lasting reader does. One result at a time. */
struct t5_reader {
    const struct t5_weight *w;
    int alone, lasting;
};

/* Rows of a decode step; all arrays on the device. */
struct t5_decode_rows {
    int64_t n_rows;
    int64_t length;          /* positions a slot holds: T */
    const int32_t *slot;     /* (rows): where this row writes its key and value */
    const int32_t *position; /* (rows): its position t; it sees positions 0..t */
    const int32_t *history;  /* (rows, T): the slot that holds position s of this row, for s < t */
    const int32_t *source_begin, *source_count; /* (rows): its tokens among the encoded ones */
    int64_t longest_source; /* at least the largest source_count */
    int64_t sharing;        /* about how many neighbouring rows have the same source: a hint */
};

/* A decoder's layer as a step goes through it; all that is not a weight lies on the device. */
struct t5_decode_layer {
    const struct t5_weight *qkv, *self_o, *cross_q, *cross_o, *wi, *wo;
    const float *self_norm, *cross_norm, *ff_norm; /* (D) */
    act *k_cache, *v_cache;                        /* as decode_self has them */
    const act *cross_kv;                           /* as decode_cross has it */
};
struct t5_decode_stack {
    const struct t5_decode_layer *layers; /* host (n_layers), borrowed for the call */
    int64_t n_layers, d_model, d_ff;
    struct t5_attention self;     /* of every layer; heads and d_kv are cross-attention's, too */
    enum t5_glu kind;             /* gated: wi is (2F, D) */
    float eps, scale;             /* scale: of the logits */
    const float *final_norm;      /* (D) */
    const struct t5_weight *head; /* (V, D) */
};
/* Clock readings that a step leaves if asked: at its start, then for each of 6 products a layer and
 * the head when its input is there and when it is done. */
#define T5_STACK_STAMPS(n_layers) (2 * (6 * (n_layers) + 1) + 1)

#define T5_LATER_SLOTS 2
#define T5_LATER_BYTES 64

/* The largest passes that are to come: what scratch memory depends on. */
struct t5_work {
    int64_t tokens, seqs;
    int64_t heads;
    int64_t widest;  /* rows or columns of a product */
    int64_t lasting; /* columns of the result that has a lasting reader */
    int64_t ranks;   /* that the adapters of a product sum to */
    int64_t compact; /* elements of the largest weight frozen with T5_USE_COMPACT */
};

struct t5_backend {
    uint64_t build; /* a shared object's: of the headers it was made of, and the program must be */
    const char *name;

    /* ---- device and memory ---- */
    int (*open)(struct t5_device **out, const struct t5_device_options *options,
                struct t5_err *err);
    void (*close)(struct t5_device *dev);
    size_t (*activation_size)(const struct t5_device *dev);
    int (*alloc)(struct t5_device *dev, void **out, size_t bytes, const char *what,
                 struct t5_err *err);                /* aligned to 256 bytes, contents undefined */
    void (*release)(struct t5_device *dev, void *p); /* takes NULL */
    void (*upload)(struct t5_device *dev, void *dst, const void *host, size_t bytes);
    int (*download)(struct t5_device *dev, void *host, const void *src, size_t bytes,
                    struct t5_err *err); /* waits */
    /* The same in two parts, a few bytes that are waited for later than other work is queued: the
     * first queues the copy into one of T5_LATER_SLOTS places, the second waits for that copy alone.
     * NULL where nothing runs behind the host's back. */
    void (*download_later)(struct t5_device *dev, const void *src, size_t bytes, int slot);
    int (*fetch)(struct t5_device *dev, void *host, size_t bytes, int slot, struct t5_err *err);
    void (*zero)(struct t5_device *dev, void *dst, size_t bytes);
    int (*sync)(struct t5_device *dev, struct t5_err *err);
    /* Whether anything has failed as far as is known without waiting; 0: nothing has. */
    int (*check)(struct t5_device *dev, struct t5_err *err);
    /* Where the first failure was one of memory, waits for what is queued and forgets it: the device
     * goes on, and what was queued since the failure has left nothing of use. -1: another failure. */
    int (*recover)(struct t5_device *dev, struct t5_err *err);
    /* Bytes that can still be had, max_memory considered. */
    int64_t (*memory_free)(struct t5_device *dev);
    /* Bytes the backend takes for itself, for the memory plan: *now, what it has taken by opening
     * (the driver's share included), and, returned, that and what such work will add. */
    int64_t (*memory_own)(struct t5_device *dev, int64_t *now, const struct t5_work *work);

    /* ---- weights ---- */
    /* parts stacked along rows into one (sum of rows, cols); prepared for `use`. Host data may go
     * afterwards. A type that the backend does not know is an error. */
    int (*weight_freeze)(struct t5_device *dev, struct t5_weight **out,
                         const struct t5_matrix *parts, int n_parts, unsigned use,
                         struct t5_err *err);
    /* A view of rows x cols trainable floats at `values` (device), which must outlive it. */
    int (*weight_bind)(struct t5_device *dev, struct t5_weight **out, const float *values,
                       int64_t rows, int64_t cols, struct t5_err *err);
    /* After the values behind a bound weight changed. */
    void (*weight_refresh)(struct t5_device *dev, struct t5_weight *w);
    void (*weight_free)(struct t5_device *dev, struct t5_weight *w); /* takes NULL */
    /* Bytes weight_freeze will keep for a (rows, cols) matrix that comes as `type`: for the memory
     * plan. */
    int64_t (*weight_bytes)(const struct t5_device *dev, enum t5_dtype type, int64_t rows,
                            int64_t cols, unsigned use);

    /* ---- forward; reader: of the result, or NULL ---- */
    /* x = drop(table[ids]);  x f32 (N, D), ids (N) */
    void (*embed_fwd)(struct t5_device *dev, float *x, const struct t5_weight *table,
                      const int32_t *ids, const struct t5_pack *pack,
                      const struct t5_dropout *drop);
    /* x_out = x_in + drop_delta(delta);  y = drop_y(x_out x rsqrt(mean(x_out^2) + eps) x w)
     * x f32 (N, D), may be the same; delta act (N, D) or NULL; y act (N, D); w f32 (D).
     * pack may be NULL where neither dropout is active. RMSNorm: arXiv:1910.07467, HF T5LayerNorm.
     */
    void (*norm_fwd)(struct t5_device *dev, float *x_out, act *y, const float *x_in,
                     const act *delta, const float *w, int64_t n, int64_t d, float eps,
                     const struct t5_pack *pack, const struct t5_dropout *drop_delta,
                     const struct t5_dropout *drop_y, const struct t5_reader *reader);
    /* y = x w^T;  y act (n, rows of w), x act (n, cols of w) */
    void (*linear_fwd)(struct t5_device *dev, act *y, int64_t ldy, const act *x, int64_t ldx,
                       const struct t5_weight *w, int64_t n);
    /* The same product times `scale`, into float: logits (n, V) */
    void (*logits_fwd)(struct t5_device *dev, float *logits, const act *x, int64_t ldx,
                       const struct t5_weight *w, int64_t n, float scale);
    /* For each lora i: u_i = drop_i(x) a_i^T;  y[:, column_i ...] added to: scale_i u_i b_i^T
     * u act (n, sum of ranks), kept for the backward pass. pack may be NULL without dropout. */
    void (*lora_fwd)(struct t5_device *dev, act *y, int64_t ldy, act *u, const act *x, int64_t ldx,
                     int64_t cols, const struct t5_lora *lora, int n_lora, int64_t n,
                     const struct t5_pack *pack);
    /* out act (Nq, H*K); lse f32 (Nq, H): log-sum-exp of each row's scores, or NULL in inference */
    void (*attention_fwd)(struct t5_device *dev, act *out, float *lse, const act *q, int64_t ldq,
                          const act *k, int64_t ldk, const act *v, int64_t ldv,
                          const struct t5_attention *shape);
    /* h = drop(f(g0) x g1), gated: g act (n, 2F) = [wi_0 x | wi_1 x]; or h = drop(f(g)), g act (n,
     * F).  h act (n, F) */
    void (*glu_fwd)(struct t5_device *dev, act *h, const act *g, int64_t n, int64_t f,
                    enum t5_glu kind, int gated, const struct t5_pack *pack,
                    const struct t5_dropout *drop, const struct t5_reader *reader);
    /* nll[i] = logsumexp(logits[i]) - q . logits[i];  dlogits = scale x (softmax - q), act (n, V),
     * or NULL for none; may be the logits' own memory where act is float. nll f32 (n). q is the
     * label's one hot x (1 - smoothing) + smoothing / V (arXiv:1512.00567 7, HF LabelSmoother). */
    void (*cross_entropy)(struct t5_device *dev, float *nll, act *dlogits, const float *logits,
                          const int32_t *labels, int64_t n, int64_t v, float scale,
                          float smoothing);

    /* ---- backward; reader: of dg or ddelta, or NULL ---- */
    /* dtable f32 (V, D), added to: drop'(dx) at row ids[i] */
    void (*embed_bwd)(struct t5_device *dev, float *dtable, const float *dx, const int32_t *ids,
                      int64_t v, int64_t d, const struct t5_pack *pack,
                      const struct t5_dropout *drop);
    /* dx f32 (N, D), added to: the norm's input gradient; then ddelta act = drop_delta'(dx), or
     * NULL for none. x: norm_fwd's x_out. dy act (N, D). dw f32 (D), added to, or NULL. */
    void (*norm_bwd)(struct t5_device *dev, float *dx, act *ddelta, float *dw, const act *dy,
                     const float *x, const float *w, int64_t n, int64_t d, float eps,
                     const struct t5_pack *pack, const struct t5_dropout *drop_delta,
                     const struct t5_dropout *drop_y, const struct t5_reader *reader);
    /* dx (= or, with accumulate, +=) dy w;  dx act (n, cols), dy act (n, rows) */
    void (*linear_bwd_input)(struct t5_device *dev, act *dx, int64_t lddx, const act *dy,
                             int64_t lddy, const struct t5_weight *w, int64_t n, int accumulate);
    /* dw f32 (rows, cols), added to: dy^T x */
    void (*linear_bwd_weight)(struct t5_device *dev, float *dw, const act *dy, int64_t lddy,
                              const act *x, int64_t ldx, int64_t rows, int64_t cols, int64_t n);
    /* For each i: du = scale dy b;  db += scale dy^T u;  da += du^T drop(x);  dx += drop'(du a).
     * dx NULL: not wanted. work: act (n, sum of ranks) of scratch. */
    void (*lora_bwd)(struct t5_device *dev, act *dx, int64_t lddx, act *work, const act *dy,
                     int64_t lddy, const act *u, const act *x, int64_t ldx, int64_t cols,
                     const struct t5_lora *lora, int n_lora, int64_t n, const struct t5_pack *pack);
    /* dq, dk, dv as q, k, v; dbias f32 (buckets, H), added to, or NULL */
    void (*attention_bwd)(struct t5_device *dev, act *dq, int64_t lddq, act *dk, int64_t lddk,
                          act *dv, int64_t lddv, float *dbias, const act *dout, const act *out,
                          const float *lse, const act *q, int64_t ldq, const act *k, int64_t ldk,
                          const act *v, int64_t ldv, const struct t5_attention *shape);
    /* dg act, as g */
    void (*glu_bwd)(struct t5_device *dev, act *dg, const act *dh, const act *g, int64_t n,
                    int64_t f, enum t5_glu kind, int gated, const struct t5_pack *pack,
                    const struct t5_dropout *drop, const struct t5_reader *reader);

    /* ---- whole buffers ---- */
    /* *out f64 on the device = (accumulate ? *out : 0) + sum of x, in a fixed order */
    void (*sum)(struct t5_device *dev, double *out, const float *x, int64_t n, int accumulate);
    void (*sum_squares)(struct t5_device *dev, double *out, const float *x, int64_t n);
    /* *value (f64 on the device) = NaN where *guard is not finite or above `most` */
    void (*spoil)(struct t5_device *dev, double *value, const double *guard, double most);
    /* p, m, v f32 (n) updated; see struct t5_adamw */
    void (*adamw)(struct t5_device *dev, float *p, const float *g, float *m, float *v, int64_t n,
                  const struct t5_adamw *how, const double *sum_squares);
    /* p f32 (rows, cols) updated; row f32 (rows) and col f32 (cols): running means of the squared
     * gradients over rows and columns. col NULL: row is (rows, cols), each element's own. */
    void (*adafactor)(struct t5_device *dev, float *p, const float *g, float *row, float *col,
                      int64_t rows, int64_t cols, const struct t5_adafactor *how,
                      const double *sum_squares);
    /* AdamW with its moments in 8 bits (arXiv:2110.02861): m, v codes (n), m_scale, v_scale f32
     * (blocks of T5_BLOCK8); maps f32 (2, T5_MAP): t5_dynamic_maps. All zeros at the start. */
    void (*adamw8)(struct t5_device *dev, float *p, const float *g, uint8_t *m, uint8_t *v,
                   float *m_scale, float *v_scale, int64_t n, const float *maps,
                   const struct t5_adamw *how, const double *sum_squares);

    /* ---- decode step ---- */
    /* Writes row r's key and value at (slot[r], position[r]) of the caches act (slots, T, H*K),
     * then out act (rows, H*K) = attention over its positions, with the causal bias of shape. qkv
     * act (rows, 3*H*K). */
    void (*decode_self)(struct t5_device *dev, act *out, act *k_cache, act *v_cache, const act *qkv,
                        const struct t5_decode_rows *rows, const struct t5_attention *shape);
    /* out act (rows, H*K): attention of q act (rows, H*K) over the row's own source tokens in kv
     * act (N, 2*H*K) = [k | v]; no bias */
    void (*decode_cross)(struct t5_device *dev, act *out, const act *q, const act *kv,
                         const struct t5_decode_rows *rows, const struct t5_attention *shape);
    /* Operators taken together, for few rows: the same but for rounding, as fewer results are stored
     * in between. NULL on backends that gain nothing by it. They return 0, with nothing queued,
     * where a product is none of theirs; a weight with LoRA is the caller's to keep away. next: the
     * weight that is multiplied by after this one, or NULL: a hint, to fetch it early.
     * y = end(scale x norm(x) w^T): norm_fwd, linear_fwd and glu_fwd, or logits_fwd; x f32 (n, D) */
    int (*norm_linear)(struct t5_device *dev, void *y, const float *x, const float *norm, float eps,
                       const struct t5_weight *w, int64_t n, enum t5_step_end end,
                       enum t5_glu kind, float scale, const struct t5_weight *next);
    /* x f32 (n, rows) += a w^T, a act (n, cols): linear_fwd and norm_fwd's first half */
    int (*linear_add)(struct t5_device *dev, float *x, const act *a, const struct t5_weight *w,
                      int64_t n, const struct t5_weight *next);
    /* All of a step's layers and its logits in one piece; NULL on backends that gain nothing by it.
     * decode_stack_open keeps what it needs in `memory`, device memory of decode_stack_bytes, which
     * the caller frees after decode_stack_close. NULL: not a decoder for it. */
    int64_t (*decode_stack_bytes)(const struct t5_device *dev, int64_t n_layers, int64_t d_model,
                                  int64_t inner, int64_t d_ff);
    struct t5_stacked *(*decode_stack_open)(struct t5_device *dev, void *memory,
                                            const struct t5_decode_stack *stack);
    void (*decode_stack_close)(struct t5_device *dev, struct t5_stacked *stacked);
    /* x f32 (n, D), embedded; undefined afterwards. logits f32 (n, V). stamps: device
     * (T5_STACK_STAMPS), or NULL. 0, with nothing queued, where it takes no such rows: cuda takes one
     * at a time. */
    int (*decode_stack)(struct t5_device *dev, struct t5_stacked *stacked, float *x, float *logits,
                        const struct t5_decode_rows *rows, int64_t *stamps);
    /* logits[row[i]][id[i]] = -inf, or, with penalty not 0, x penalty where negative, / penalty
     * where not. (row, id) pairs are distinct; arrays on the device, (n). */
    void (*logits_edit)(struct t5_device *dev, float *logits, int64_t v, const int32_t *row,
                        const int32_t *id, int64_t n, float penalty);
    /* value, id (rows, k): the k largest logits of each row, larger first, equal ones by smaller
     * id; lse (rows): the row's log-sum-exp */
    void (*topk)(struct t5_device *dev, float *value, int32_t *id, float *lse, const float *logits,
                 int64_t n_rows, int64_t v, int64_t k);

    /* ---- the same work again; NULL where a backend cannot ---- */
    /* What is queued from record_begin to record_end is kept, not run. It must have run once before
     * with the same sizes; no upload, download or sync in between. record_end: NULL where it
     * failed, which is the device's failure. */
    void (*record_begin)(struct t5_device *dev);
    struct t5_recording *(*record_end)(struct t5_device *dev);
    /* Queues it once more, with the same addresses and numbers; 0 where those are out of date: then
     * nothing was queued, and it is to be recorded anew. */
    int (*replay)(struct t5_device *dev, struct t5_recording *recording);
    void (*recording_free)(struct t5_device *dev, struct t5_recording *recording); /* takes NULL */
};

/* The table of a backend: "ref" (built in), "cpu", "cuda" (shared objects beside the programs:
 * ../lib, ../lib/t5-tools). device: "auto", "cpu", "cuda", "cuda:N", "ref". Nothing falls back to
 * another: a missing backend is an error. What is opened is the caller's: t5_backend_close. */
struct t5_backend_handle {
    struct t5_backend ops;
    struct t5_device *dev;
    void *library;
    const char *keep_wide; /* projections ("wo,o") whose frozen weights no compute type narrows to 8
                              bits; borrowed, or NULL */
    int compact; /* weights are frozen with T5_USE_COMPACT; set before a model is opened */
};
/* What "auto" stands for: "cuda" where there are an NVIDIA driver and t5-cuda.so, else "cpu". Other
 * names are returned as they are. */
const char *t5_device_resolve(const char *device);
/* Whether that is a GPU, which is made for bf16. */
int t5_device_is_gpu(const char *device);
int t5_backend_open(struct t5_backend_handle *out, const char *device,
                    const struct t5_device_options *options, struct t5_err *err) T5_MUST_CHECK;
void t5_backend_close(struct t5_backend_handle *handle);

/* What each backend exports, and the only symbol looked up: t5_backend_cpu, t5_backend_cuda. */
extern const struct t5_backend t5_backend_ref;

#endif
