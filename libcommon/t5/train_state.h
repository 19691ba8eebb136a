/* train_state.h - checkpoints of a training run: numbered files in the output directory, written in
 * turn, so that the newest complete one is never touched. Each holds parameters, the optimiser's
 * state, position and everything that the bytes of the result depend on; a run continues only from
 * a checkpoint made with the same. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_TRAIN_STATE_H
#define T5_T5_TRAIN_STATE_H

#include "t5/trainer.h"

/* What the result depends on, as text: settings, base model, data. */
struct t5_identity_row {
    char key[32], value[T5_ESCAPED];
    int number; /* the value is one */
};
struct t5_identity {
    struct t5_identity_row rows[56];
    int n;
};
void t5_identity_add(struct t5_identity *identity, const char *key, const char *fmt, ...)
    T5_PRINTF(3, 4);

/* ---- the files of a directory ---- */

#define T5_SLOTS 100
#define T5_SLOT_EMPTY (-1)
#define T5_SLOT_DAMAGED (-2)
/* checkpoint.I.safetensors: the step it was written at, or one of the above. */
struct t5_train_slots {
    int64_t step[T5_SLOTS];
    int newest; /* slot; -1: none */
};
/* A checkpoint was written. */
static inline void t5_train_slots_put(struct t5_train_slots *slots, int slot, int64_t step)
{
    slots->step[slot] = step;
    slots->newest = slot;
}
/* Where the next one goes when n files, at least 2, are written in turn: an empty or damaged one,
 * or the oldest. */
int t5_train_slots_next(const struct t5_train_slots *slots, int n);
/* Removes all but the `keep` newest. */
int t5_train_slots_trim(struct t5_train_slots *slots, const char *dir, int keep,
                        struct t5_err *err) T5_MUST_CHECK;

/* A checkpoint found on disk. */
struct t5_train_state {
    struct t5_safetensors *file; /* owned; NULL: there is none */
    int slot;                    /* -1: none */
    struct t5_train_position position;
    int finished;      /* the run that wrote it was complete */
    char warning[401]; /* why another one was passed over; or empty */
};

/* Looks for the newest whole checkpoint in dir, verifying checksums. None at all is no error; only
 * damaged ones are. */
int t5_train_state_find(struct t5_train_state *out, struct t5_train_slots *slots, const char *dir,
                        struct t5_err *err) T5_MUST_CHECK;
void t5_train_state_free(struct t5_train_state *state);
/* Refuses, naming the first difference, a checkpoint of another run. Which batches are left out is
 * its caller's to compare. */
int t5_train_state_check(const struct t5_train_state *state, const char *dir,
                         const struct t5_identity *identity, struct t5_err *err) T5_MUST_CHECK;
/* A value of the identity it was made with, or NULL. */
const char *t5_train_state_value(const struct t5_train_state *state, const char *key);
/* Parameters, the optimiser's state and position into the trainer. */
int t5_train_state_load(const struct t5_train_state *state, struct t5_model *model,
                        struct t5_trainer *trainer, struct t5_err *err) T5_MUST_CHECK;

/* Writes the checkpoint of a slot atomically. Refuses (T5_NOT_FINITE) parameters that are not
 * finite. */
int t5_train_state_save(const char *dir, int slot, struct t5_model *model,
                        struct t5_trainer *trainer, const struct t5_identity *identity,
                        int finished, struct t5_err *err) T5_MUST_CHECK;
/* Bytes of one checkpoint, about; optimizer_bytes: of its state. */
int64_t t5_train_state_bytes(int64_t n_params, int64_t optimizer_bytes);

#endif
