/* memory.h - how much memory this machine can still give, and how much was taken. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_MEMORY_H
#define T5_BASE_MEMORY_H

#include <stdint.h>

/* Bytes that can be had without swapping, page cache that would be dropped included. */
int64_t t5_memory_available(void);
/* What is resident now, bytes. */
int64_t t5_memory_resident(void);
/* The most that was resident at a time in this program, bytes; mapped files' pages count. */
int64_t t5_memory_peak(void);

#endif
