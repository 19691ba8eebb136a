/* sha256.h - SHA-256 as text, on top of nettle. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_SHA256_H
#define T5_BASE_SHA256_H

#include <nettle/sha2.h>
#include <stddef.h>

#define T5_SHA256_TEXT (2 * SHA256_DIGEST_SIZE + 1) /* 64 hexadecimal digits and NUL */

/* Ends the sum: out is its digest in lower case. */
void t5_sha256_end(char out[T5_SHA256_TEXT], struct sha256_ctx *sha);
/* The digest of n bytes. */
void t5_sha256(char out[T5_SHA256_TEXT], const void *bytes, size_t n);

#endif
