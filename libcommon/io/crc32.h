/* crc32.h - the checksum of zip members (ISO 3309, reflected, 0xedb88320), and Castagnoli's, that of
 * TFRecords (reflected, 0x82f63b78). */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_CRC32_H
#define T5_IO_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 at the start) over n bytes. */
uint32_t t5_crc32(uint32_t crc, const void *bytes, size_t n);
/* Of n bytes; for small ones, a bit at a time. */
uint32_t t5_crc32c(const void *bytes, size_t n);

#endif
