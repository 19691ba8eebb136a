/* peft_config.h - adapter_config.json. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_PEFT_CONFIG_H
#define T5_IO_PEFT_CONFIG_H

#include "base/buf.h"
#include "io/peft.h"

#define T5_ADAPTER_CONFIG "adapter_config.json"
#define T5_ADAPTER_WEIGHTS "adapter_model.safetensors"

/* What the config says about target_modules besides their text in adapter->targets. */
struct t5_peft_targets {
    int is_list;  /* names, each for every module that ends so; else a pattern or "all-linear" */
    int narrowed; /* layers_to_transform or exclude_modules: a name need not be everywhere */
};

/* Fills rank, alpha, dropout, rslora, base and targets. A key that changes the mathematics and is
 * not supported, known to us or not, is refused by name. */
int t5_peft_config_parse(struct t5_adapter *out, struct t5_peft_targets *targets, const char *text,
                         size_t n, struct t5_err *err) T5_MUST_CHECK;
/* Appends the JSON text. */
int t5_peft_config_print(struct t5_buf *out, const struct t5_adapter *adapter,
                         struct t5_err *err) T5_MUST_CHECK;

#endif
