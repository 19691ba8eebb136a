/* test_gpu_model.c - test_model.c on the CUDA backend, in f32. cuBLASLt may sum in another order
 * for another number of rows, hence the wider bounds between a batch and a record alone. Gradients
 * of the golden model with dropout magnify the last bit: those of ref and cpu differ by 2e-4. */
/* SPDX-License-Identifier: MIT */
#define TEST_DEVICES "cuda"
#define ALONE 1e-5
#define MICRO 1e-3
#include "../unit/test_model.c"
