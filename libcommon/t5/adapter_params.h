/* adapter_params.h - an adapter's first values, and the values a model was trained to. Files:
 * io/peft.h. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_ADAPTER_PARAMS_H
#define T5_T5_ADAPTER_PARAMS_H

#include "t5/model.h"

/* As peft starts: A uniform in +-1/sqrt(in) (torch kaiming_uniform_ with a = sqrt 5), B zero. The
 * draws are keyed by seed and the module's name, so a module starts alike whatever stands beside
 * it. */
void t5_adapter_start(struct t5_adapter *adapter, uint64_t seed);
/* Copies a T5_TRAIN_LORA model's parameters into the adapter it was opened with. */
int t5_adapter_fetch(struct t5_adapter *adapter, const struct t5_model *model,
                     struct t5_err *err) T5_MUST_CHECK;

#endif
