/* memory.h - how much memory this machine can still give. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_MEMORY_H
#define T5_BASE_MEMORY_H

#include <stdint.h>

/* Bytes that can be had without swapping, page cache that would be dropped included. */
int64_t t5_memory_available(void);

#endif
