/* config.h - the geometry of a T5 model, from HF's config.json. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_CONFIG_H
#define T5_T5_CONFIG_H

#include <stdint.h>

#include "base/err.h"

enum t5_activation { T5_RELU, T5_GELU_NEW, T5_SILU };

struct t5_config {
    int64_t d_model;      /* D */
    int64_t d_kv;         /* K */
    int64_t d_ff;         /* F */
    int64_t n_heads;      /* H; H x K need not be D */
    int64_t n_encoder;    /* num_layers */
    int64_t n_decoder;    /* num_decoder_layers, num_layers where absent */
    int64_t vocab;        /* V */
    int64_t buckets;      /* relative_attention_num_buckets */
    int64_t max_distance; /* relative_attention_max_distance */
    float eps;            /* layer_norm_epsilon */
    float dropout;        /* dropout_rate */
    enum t5_activation activation;
    int gated; /* wi_0 and wi_1 instead of wi */
    int tied;  /* tie_word_embeddings: lm_head is shared.weight where the file has no lm_head */
    int scale_output; /* decoder output x D^-0.5 before lm_head: scale_decoder_outputs where
                         present, else tied */
    int32_t pad, eos, decoder_start;
};

/* Reads config.json text (n bytes). Every value is bounded before it is used; err names the key. */
int t5_config_parse(struct t5_config *out, const char *text, int64_t n,
                    struct t5_err *err) T5_MUST_CHECK;

#endif
