/* choices.h - what was found out by trial and is kept for the next run: key -> value, in
 * $XDG_CACHE_HOME/t5-tools (or ~/.cache/t5-tools). A file stands for one identity: the device and
 * the versions that the answers hold for. Every line carries a checksum; damaged ones are as if
 * they were not there. Whichever process answers a key first is believed by all. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_IO_CHOICES_H
#define T5_IO_CHOICES_H

#include <stddef.h>

#include "base/err.h"

struct t5_choices; /* one file as it was last read */

/* what: the beginning of the file's name. Fails where there is no directory to keep anything in; a
 * file that is not there yet, or damaged, is an empty one. */
int t5_choices_open(struct t5_choices **out, const char *what, const char *identity,
                    struct t5_err *err) T5_MUST_CHECK;
void t5_choices_close(struct t5_choices *choices); /* takes NULL */

/* 1 and value[size], or 0: not known. */
int t5_choices_find(char *value, size_t size, const struct t5_choices *choices, const char *key);
/* Writes it down. value becomes what the file says, which may be another process's. 1, or 0: it
 * cannot be kept. Keys and values are words without tabs and newlines. */
int t5_choices_keep(char *value, size_t size, struct t5_choices *choices, const char *key);

#endif
