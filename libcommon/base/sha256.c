/* sha256.c - digests as hexadecimal digits. */
/* SPDX-License-Identifier: MIT */
#include "base/sha256.h"

#include <stdio.h>

void t5_sha256_end(char out[T5_SHA256_TEXT], struct sha256_ctx *sha)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void t5_sha256(char out[T5_SHA256_TEXT], const void *bytes, size_t n)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, n, bytes);
    t5_sha256_end(out, &sha);
}
