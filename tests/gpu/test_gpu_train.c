/* test_gpu_train.c - test_train_golden.c on the CUDA backend, in f32. */
/* SPDX-License-Identifier: MIT */
#define FAST_DEVICE "cuda"
#include "../unit/test_train_golden.c"
