/* write_behind.h - a thread that checksums and writes while its owner computes the next piece. Pieces
 * are written in the order in which they were put. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_WRITE_BEHIND_H
#define T5_IO_WRITE_BEHIND_H

#include "io/safetensors.h"

struct t5_write_behind;

/* Pieces of up to `capacity` bytes go through buffers of its own. The writer is borrowed. */
int t5_write_behind_open(struct t5_write_behind **out, struct t5_safetensors_writer *writer, size_t capacity,
                         struct t5_err *err) T5_MUST_CHECK;
/* A free buffer of `capacity` bytes, after waiting for one; it stays the caller's until put. NULL when
 * writing failed: t5_write_behind_close tells why. */
void *t5_write_behind_buffer(struct t5_write_behind *w);
/* Writes the first n bytes of the last buffer taken. */
void t5_write_behind_put(struct t5_write_behind *w, size_t n);
/* Writes n bytes that lie elsewhere and stay there until close; mapped pages are dropped behind. -1 when
 * writing failed. */
int t5_write_behind_put_borrowed(struct t5_write_behind *w, const void *bytes, size_t n) T5_MUST_CHECK;
/* Waits for all and frees w. 0, or -1 with the first error. Takes NULL. */
int t5_write_behind_close(struct t5_write_behind *w, struct t5_err *err) T5_MUST_CHECK;

#endif
