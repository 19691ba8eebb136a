/* decode_stack.h - a decoder as the kernel of decode_stack.cu goes through it: what
 * decode_stack_open.cu prepares, once, and what changes with each step. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_DECODE_STACK_H
#define T5_CUDA_DECODE_STACK_H

#include "decode_attention.h"

#define STACK_WARPS (ATTEND_THREADS / 32)
#define STACK_QUAD 4       /* rows of a matrix that a warp takes together */
#define STACK_SEGMENT 1024 /* bytes of each that lie in a slot of the ring */
#define STACK_SLOT (STACK_QUAD * STACK_SEGMENT)
#define STACK_SLOTS 6  /* of a warp */
#define STACK_STEP 512 /* bytes of a row that a warp takes at a time */
#define STACK_STEPS (STACK_SEGMENT / STACK_STEP)

/* A layer's products, in their order, and the one behind the last layer. */
enum stack_kind { QKV, SELF_O, CROSS_Q, CROSS_O, WI, WO, HEAD, STACK_KINDS };
#define STACK_LAYER HEAD /* products of a layer */

enum stack_type { STACK_INT8, STACK_E4M3, STACK_BF16 };

/* What products of a kind have in common. Quad q is rows `stride` q, + 1, + apart, + apart + 1. */
struct stack_shape {
    int rows, cols, quads, stride, apart;
};

struct stack_product {
    const char *w;      /* (rows, cols) */
    const float *scale; /* (rows) or NULL */
    const float *norm;  /* of the next product, where this one adds to the stream */
    int type, pad;
};

struct stack_caches { /* of a layer */
    bf16 *k, *v;
    const bf16 *cross;
};

/* Vectors between blocks (words.h), of bf16 pairs. */
struct stack_words {
    unsigned long long *launches; /* blocks that have ever started, from gridDim.x */
    uint64_t *stream;             /* (3D/4): x g, D/2 words, and sums of squares of x by quads */
    uint64_t *qkv, *query, *attended, *hidden; /* (3HK/2), (HK/2), (HK/2), (F/2) */
};

struct stack_args {
    stack_shape shape[STACK_KINDS];
    stack_words words;
    const stack_product *products; /* (n_products): STACK_LAYER a layer, and the head */
    const stack_caches *caches;    /* (layers) */
    const float *norm;             /* of the first product */
    int n_products, pitch;         /* pitch: bytes that x has room for */
    float eps, scale;
    t5_glu glu;
    float *x, *logits; /* of the step from here on */
    self_view self;
    const int32_t *begin, *count; /* source tokens */
    int64_t *stamps;
};

/* Where what lies in a block's shared memory begins. */
struct stack_room {
    size_t staged, full, products, bytes;
};
__host__ __device__ inline stack_room stack_layout(int pitch, int n_products)
{
    stack_room r;
    r.staged = (size_t)STACK_WARPS * STACK_SLOTS * STACK_SLOT;
    r.full = r.staged + (size_t)pitch;
    r.products = r.full + STACK_WARPS * STACK_SLOTS * sizeof(uint64_t);
    r.bytes = r.products + (size_t)n_products * sizeof(stack_product);
    return r;
}
/* Floats that attention's scores may take of x's room, behind its other arrays. */
__host__ __device__ inline int stack_scores(int pitch, int d_kv)
{
    return (pitch - 4 * d_kv * (int)sizeof(bf16)) / (int)sizeof(float) - ATTEND_WARPS * d_kv;
}

/* Blocks of which all can run at the same time; 0: the device cannot. */
int t5_cuda_stack_blocks(const t5_device *dev, const stack_args *a);
void t5_cuda_stack_launch(t5_device *dev, const stack_args *a, int blocks);

#endif
