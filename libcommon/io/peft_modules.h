/* peft_modules.h - the modules that LoRA can be put on. Inside io/ only. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_PEFT_MODULES_H
#define T5_IO_PEFT_MODULES_H

#include "io/peft.h"

/* Index of the last component among q k v o wi wi_0 wi_1 wo, or -1. */
int t5_peft_leaf(const char *module);
/* All of a model, in HF's order, a and b NULL. Caller frees the array. */
int t5_peft_modules(struct t5_lora_module **out, int *n, const struct t5_config *config,
                    struct t5_err *err) T5_MUST_CHECK;

#endif
