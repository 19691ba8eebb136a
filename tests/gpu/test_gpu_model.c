/* test_gpu_model.c - test_model.c on the CUDA backend, in f32. cuBLASLt may sum in another order
 * for another number of rows, hence the wider bound between a batch and a record alone. */
/* SPDX-License-Identifier: MIT */
#define TEST_DEVICES "cuda"
#define ALONE 1e-5
#define MICRO 2e-5
#include "../unit/test_model.c"
