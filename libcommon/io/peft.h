/* peft.h - LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors
 * (adapter_model.bin is read too, never written). PEFT loads what this writes and this loads what
 * PEFT writes; features not supported here (DoRA, rank_pattern, modules_to_save, bias,
 * fan_in_fan_out, other peft_types) are refused by name. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_PEFT_H
#define T5_IO_PEFT_H

#include "io/checkpoint.h"
#include "io/token_settings.h"

struct t5_lora_module {
    char module[96]; /* "encoder.block.0.layer.0.SelfAttention.q": the base tensor's name without
                        ".weight" */
    int64_t in, out;
    float *a; /* (R, in) */
    float *b; /* (out, R) */
};

struct t5_adapter {
    int64_t rank; /* R, the same for all modules */
    double alpha;
    double dropout;
    int rslora;                /* scale alpha / sqrt(R) instead of alpha / R */
    char base[256];            /* base_model_name_or_path */
    char base_fingerprint[65]; /* t5_checkpoint_fingerprint of the base it was trained on, "" where
                                  unknown */
    char base_norms[65];       /* t5_checkpoint_norms of it, likewise */
    struct t5_token_settings tokens; /* what it was trained on; owned */
    char *targets; /* comma-separated target_modules as in the config, or PEFT's pattern; owned */
    struct t5_lora_module *modules; /* owned, sorted by HF's model order (encoder, decoder; block;
                                       layer; q k v o wi wo) */
    int n_modules;
};

double t5_adapter_scale(const struct t5_adapter *adapter);
/* Reads and checks every module against the base's shapes. The a and b arrays are owned by the
 * adapter. */
int t5_adapter_load(struct t5_adapter *out, const char *dir, const struct t5_checkpoint *base,
                    struct t5_err *err) T5_MUST_CHECK;
/* 1: the adapter was trained on another base, as far as norms tell: the same weights in other types
 * are no other base. Where an adapter says nothing of its norms, its fingerprint decides. 0: not
 * known to be. */
int t5_adapter_foreign(const struct t5_adapter *adapter, const struct t5_checkpoint *base,
                       struct t5_err *err) T5_MUST_CHECK;
/* Writes both files atomically into dir (created if needed), then reads them back and compares. */
int t5_adapter_save(const struct t5_adapter *adapter, const char *dir,
                    struct t5_err *err) T5_MUST_CHECK;
/* The modules that `targets` (comma-separated leaf names: q,k,v,o,wi,wi_0,wi_1,wo, or "all") select
 * in a model; a and b allocated and zero. A target that selects nothing is a usage error. lm_head
 * is never selected. */
int t5_adapter_init(struct t5_adapter *out, const char *targets, int64_t rank, double alpha,
                    double dropout, int rslora, const struct t5_config *config,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_adapter_free(struct t5_adapter *adapter);

#endif
