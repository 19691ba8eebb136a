/* train_state_inside.h - what train_state.c and train_state_read.c share. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAIN_STATE_INSIDE_H
#define T5_T5_TRAIN_STATE_INSIDE_H

#include <limits.h>

#include "t5/train_state.h"

#define T5_STATE_FORMAT "t5-train checkpoint"
#define T5_STATE_LAYOUT "3" /* of these files; a reader refuses what it does not know */

/* The metadata that hold the position. */
struct t5_position_row {
    const char *key;
    size_t offset; /* of an int64_t in struct t5_train_position */
};
#define T5_POSITION_ROWS 8
extern const struct t5_position_row t5_position_rows[T5_POSITION_ROWS];

/* Rows of a checkpoint's metadata: its head, its position, the identity. */
struct t5_state_rows {
    struct t5_metadata rows[80];
    int n;
    char numbers[T5_POSITION_ROWS + 1][32];
    char digest[65]; /* SHA-256 over all keys and values, keys ascending */
};
void t5_state_rows_add(struct t5_state_rows *rows, const char *key, const char *value);
/* Sorts them and fills in digest. */
void t5_state_rows_digest(struct t5_state_rows *rows);

int t5_slot_path(char path[PATH_MAX], const char *dir, int slot, struct t5_err *err) T5_MUST_CHECK;

#endif
