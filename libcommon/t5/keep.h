/* keep.h - a list of projections ("wo,o") whose frozen weights stay wide where a device computes
 * in 8 bits: what --keep-bf16 takes. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_KEEP_H
#define T5_T5_KEEP_H

#include "base/err.h"

/* Refuses (T5_USAGE) names that no T5 has. NULL is a list of none. */
int t5_keep_check(const char *list, struct t5_err *err) T5_MUST_CHECK;
/* Whether the last component of an HF name without ".weight" is in the list. */
int t5_keep_names(const char *list, const char *name);

#endif
