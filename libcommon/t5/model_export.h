/* model_export.h - a trained model as an HF directory that transformers loads: config.json and
 * model.safetensors. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_MODEL_EXPORT_H
#define T5_T5_MODEL_EXPORT_H

#include "t5/model.h"

/* Writes a T5_TRAIN_FULL model's parameters as `type` (T5_F32 or T5_BF16) into dir, which exists.
 * config: the text of the config.json it was made from; its torch_dtype is set to the type. The
 * weights' metadata carry what is known of the tokens it was trained on. Both files atomically, the
 * weights first. */
int t5_model_export(const char *dir, const struct t5_model *model, const char *config,
                    int64_t config_n, enum t5_dtype type, const struct t5_token_settings *tokens,
                    struct t5_err *err) T5_MUST_CHECK;

#endif
