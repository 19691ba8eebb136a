/* finite.h - whether a checkpoint's values are all numbers. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_FINITE_H
#define T5_T5_FINITE_H

#include "io/checkpoint.h"

/* Refuses a checkpoint with a value that is NaN or infinite, naming the tensor and the element: its
 * loss would be too, some steps later. Reads all floating-point data. */
int t5_checkpoint_check_finite(const struct t5_checkpoint *checkpoint,
                               struct t5_err *err) T5_MUST_CHECK;

#endif
