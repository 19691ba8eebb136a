/* hash_behind.h - pieces of a tensor file are checksummed by a thread while their owner writes them
 * and computes the next: the checksum is slower than either. Pieces count in the order in which
 * they were put. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_HASH_BEHIND_H
#define T5_IO_HASH_BEHIND_H

#include "io/safetensors.h"

struct t5_hash_behind;

/* Pieces of up to `capacity` bytes go through buffers of its own. The writer is borrowed. */
int t5_hash_behind_open(struct t5_hash_behind **out, struct t5_safetensors_writer *writer,
                        size_t capacity, struct t5_err *err) T5_MUST_CHECK;
/* A free buffer of `capacity` bytes, after waiting for one; it stays the caller's until put. */
void *t5_hash_behind_buffer(struct t5_hash_behind *h);
/* Writes the first n bytes of the last buffer taken. */
int t5_hash_behind_put(struct t5_hash_behind *h, size_t n, struct t5_err *err) T5_MUST_CHECK;
/* Writes n bytes that lie elsewhere and stay there until close; mapped pages are dropped behind. */
int t5_hash_behind_put_borrowed(struct t5_hash_behind *h, const void *bytes, size_t n,
                                struct t5_err *err) T5_MUST_CHECK;
/* Waits for the thread and frees h; then the writer's checksum is complete. Takes NULL. */
void t5_hash_behind_close(struct t5_hash_behind *h);

#endif
