/* keep.h - a list of projections ("wo,o") whose frozen weights stay wide where a device computes
 * in 8 bits: what --keep-bf16 takes. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_KEEP_H
#define T5_T5_KEEP_H

#include "base/err.h"

/* Refuses (T5_USAGE) a list without what it goes with, 8-bit arithmetic on a GPU, and names that no
 * T5 has. NULL is a list of none. compute: as --compute gives it, or NULL. */
int t5_keep_check(const char *list, const char *compute, const char *device,
                  struct t5_err *err) T5_MUST_CHECK;
/* Whether the last component of an HF name without ".weight" is in the list; "wi" names the two
 * parts of a gated one, too. */
int t5_keep_names(const char *list, const char *name);

#endif
