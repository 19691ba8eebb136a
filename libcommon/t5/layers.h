/* layers.h - how a model lies in memory: its layers, its working memory, and one run over a batch.
 * Shared by the files of t5/ that make up the model; programs use model.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_LAYERS_H
#define T5_T5_LAYERS_H

#include "t5/model.h"

/* ---- layers ---- */

/* What one adapter adds to a product. */
struct t5_side {
    struct t5_lora lora[3]; /* one for each stacked matrix that it adapts */
    int64_t a[3], b[3];     /* offsets in the adapter's parameters */
    int n_lora;
};

/* One product: up to three HF matrices stacked along their rows (q, k, v; k, v; wi_0, wi_1). */
struct t5_linear {
    char names[3][96]; /* HF names without ".weight" */
    int n_parts;
    int64_t part_rows[3];
    int64_t rows, cols; /* (out, in) of the stack */
    struct t5_weight *w;
    float *dw;             /* in the flat gradients; NULL where frozen */
    uint32_t site;         /* of the first part's LoRA */
    struct t5_side *sides; /* (n_adapters of the model), owned */
    int64_t ranks;         /* most that a side's ranks sum to: width of u */
};

struct t5_norm {
    char name[96]; /* HF name */
    float *w;      /* device (D) */
    float *dw;     /* or NULL */
};

struct t5_block {
    struct t5_norm self_norm, cross_norm, ff_norm;
    struct t5_linear qkv, self_o;
    struct t5_linear cross_q, cross_kv, cross_o; /* decoder only */
    struct t5_linear wi, wo;
};

struct t5_stack {
    int is_decoder;
    int64_t n_blocks;
    struct t5_block *blocks;
    struct t5_norm final_norm;
    struct t5_norm
        bias; /* (buckets, H) of layer 0, serves every layer (arXiv:1910.10683 section 2.1) */
    int32_t *bucket; /* device (2 x max_distance + 1) */
};

/* ---- working memory ---- */

/* What a forward pass leaves for the backward pass. */
enum t5_keep {
    T5_KEEP_NONE,   /* inference: all blocks share one tape */
    T5_KEEP_ALL,    /* a tape a block, norms' outputs included */
    T5_KEEP_TAPES,  /* a tape a block without those */
    T5_KEEP_STREAM, /* the residual stream as each block got it; the backward pass makes the rest of
                       the tape again, block by block, to the same bits */
};

/* What one block keeps for its backward pass. */
struct t5_tape_block {
    float *x_self, *x_cross, *x_ff; /* residual stream as each norm saw it */
    act *y_self, *y_cross, *y_ff;   /* (N, D): the norm's output; NULL: in ws.y, for a while */
    act *qkv, *self_out;            /* (N, 3HK), (N, HK) */
    act *cross_q, *cross_kv, *cross_out;
    float *self_lse, *cross_lse; /* (N, H) */
    act *g;                      /* (N, F) or (N, 2F): before the activation */
    act *u_qkv, *u_self_o, *u_cross_q, *u_cross_kv, *u_cross_o, *u_wi, *u_wo; /* (N, ranks) */
};

struct t5_tape {
    struct t5_tape_block *blocks;
    float *x_final;
    act *hidden; /* after the final norm */
};

/* Tokens or rows that lie side by side and go through one adapter. */
struct t5_span {
    int64_t begin, n;
    int adapter; /* -1: none */
};

struct t5_packed { /* device arrays behind a t5_pack, and the ids */
    int32_t *offsets, *seq, *ids;
    uint32_t *record;
    struct t5_pack pack;
    struct t5_span *spans; /* host (seqs) */
    int64_t n_spans;       /* 0: the model's first adapter, where it has one, for all */
};

struct t5_workspace {
    struct t5_pass_limits limits;
    enum t5_keep keep;
    int64_t logit_rows; /* rows of logits at a time */
    void *memory;       /* the one allocation */
    struct t5_packed src, dst;
    int32_t *labels;
    struct t5_tape encoder, decoder;
    act *y, *delta, *h;             /* scratch: (N, D), (N, D), (N, max(F, HK)) */
    float *dx;                      /* (N, D): gradient of the residual stream */
    act *dy, *dbig, *dsmall, *denc; /* (N, D), (N, widest), (N, max(F, HK)), (N, D) */
    act *du;                        /* (N, most ranks) */
    float *logits, *nll;
    act *dlogits;
    double *loss;
    /* host: a batch as it goes up, in one piece, to the start of `memory` */
    char *staging;
    struct t5_packed host_src, host_dst;
    int32_t *host_labels;
    int64_t batch_bytes;
    struct t5_span *spans; /* host: src's and dst's */
};

/* ---- the model ---- */

struct t5_model {
    const struct t5_backend_handle *backend;
    const struct t5_backend *ops;
    struct t5_device *dev;
    size_t act_size;
    struct t5_config config;
    enum t5_model_mode mode;
    int64_t inner; /* H x K */
    struct t5_stack encoder, decoder;
    struct t5_linear shared, lm_head; /* lm_head.w is shared.w where tied */
    int tied;                         /* no lm_head.weight of its own */
    int n_adapters;                   /* sides of every product */
    float **added; /* device: parameters of each that t5_model_add_adapter brought; owned */
    int n_added;

    struct t5_linear **linears; /* every product with HF matrices, except shared and lm_head */
    int n_linears;
    struct t5_norm **norms; /* every vector, and the two bias tables */
    int n_norms;

    float *vectors; /* device: frozen norms and bias tables */
    float *params, *grads;
    int64_t n_params;
    struct t5_param *table;
    int n_table;

    struct t5_workspace ws;
};

/* The structure alone, on the host: names, shapes, ranks, the parameter table. Takes no device
 * memory. */
int t5_model_describe(struct t5_model *m, const struct t5_config *config, int has_lm_head,
                      const struct t5_adapter *adapter, enum t5_model_mode mode,
                      struct t5_err *err) T5_MUST_CHECK;
void t5_model_undescribe(struct t5_model *m);
/* Gives every product a side for one more adapter. *n_params: elements of its parameters, which lie
 * in the order of its modules, A before B. */
int t5_model_describe_adapter(struct t5_model *m, const struct t5_adapter *adapter,
                              int64_t *n_params, struct t5_err *err) T5_MUST_CHECK;
/* The parameter called so (exactly `name` + `suffix`), or NULL. */
const struct t5_param *t5_model_find_param(const struct t5_model *m, const char *name,
                                           const char *suffix);
int64_t t5_norm_size(const struct t5_model *m, const struct t5_norm *norm); /* elements */
unsigned t5_weight_use(const struct t5_model *m, const struct t5_linear *l);

/* ---- one run ---- */

struct t5_run {
    struct t5_model *m;
    act *delta; /* (N, D): where a sub-layer leaves what it adds to the stream */
    float dropout;
    uint32_t key[2];
};

/* Lays out working memory: with base NULL only counts. Returns bytes. */
int64_t t5_workspace_layout(struct t5_workspace *ws, const struct t5_model *m,
                            const struct t5_pass_limits *limits, char *base, int64_t *logit_bytes);
int t5_workspace_open(struct t5_workspace *ws, struct t5_model *m,
                      const struct t5_pass_limits *limits, struct t5_err *err) T5_MUST_CHECK;
void t5_workspace_close(struct t5_workspace *ws, struct t5_model *m);
/* Takes n_seqs sequences for p, into its host arrays; record may be NULL. shift: feed the decoder,
 * start token first. */
void t5_packed_fill(struct t5_packed *p, const struct t5_packed *host, const struct t5_model *m,
                    const int32_t *ids, const int32_t *offsets, const uint32_t *record,
                    int64_t n_seqs, int shift);
/* What was filled goes to the device. */
void t5_workspace_upload(const struct t5_workspace *ws, const struct t5_model *m);
/* Appends n tokens or rows that go through an adapter (-1: none). */
void t5_packed_span(struct t5_packed *p, int adapter, int64_t n);
/* The spans of n_seqs sequences; adapter NULL: the model's first for all. */
void t5_packed_spans(struct t5_packed *p, const int32_t *adapter, const int32_t *offsets,
                     int64_t n_seqs);

void t5_run_init(struct t5_run *run, struct t5_model *m, const struct t5_pass *pass);
/* y = x W^T (+ adapters) for the tokens or rows of `in`; u as in backend.h */
void t5_linear_run(const struct t5_run *run, struct t5_linear *l, act *y, int64_t ldy, act *u,
                   const act *x, int64_t ldx, const struct t5_packed *in);
struct t5_attention t5_attention_shape(const struct t5_run *run, const struct t5_stack *stack,
                                       int64_t layer, int cross, const struct t5_pack *q,
                                       const struct t5_pack *k);
struct t5_dropout t5_run_dropout(const struct t5_run *run, const struct t5_stack *stack,
                                 int64_t layer, int kind);
/* src through the encoder: tape->hidden; then dst through the decoder. */
void t5_encoder_forward(const struct t5_run *run);
void t5_decoder_forward(const struct t5_run *run);
/* T5_KEEP_STREAM: one block's tape again, from the stream it got. Overwrites ws.y and ws.dy. */
void t5_block_again(const struct t5_run *run, struct t5_stack *stack, int64_t layer,
                    struct t5_tape_block *tape, const struct t5_packed *in);
/* From the gradient of the decoder's hidden in ws.dy to all parameter gradients. */
void t5_backward(const struct t5_run *run);

static inline act *t5_at(const struct t5_model *m, const act *p, int64_t elements)
{
    return (char *)p + elements * (int64_t)m->act_size;
}
/* l's product as the reader of what an operator before it writes: alone where no adapter and no
 * gradient of the weight itself reads that too. */
static inline struct t5_reader t5_reader_of(const struct t5_linear *l)
{
    return (struct t5_reader){.w = l->w, .alone = l->ranks == 0 && !l->dw};
}
static inline enum t5_glu t5_glu_kind(const struct t5_config *c)
{
    return c->activation == T5_RELU   ? T5_GLU_RELU
           : c->activation == T5_SILU ? T5_GLU_SILU
                                      : T5_GLU_GELU_NEW;
}

#endif
