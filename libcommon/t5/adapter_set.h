/* adapter_set.h - the adapters of one run and their names, and which of them a record asks for.
 * Attaching them is t5_model_add_adapter's. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_T5_ADAPTER_SET_H
#define T5_T5_ADAPTER_SET_H

#include "io/peft.h"
#include "io/tokens.h"

struct t5_adapter_set {
    struct t5_adapter *adapters; /* owned */
    char (*names)[65];           /* "" for the one without a name */
    int n;
    int32_t unnamed;    /* its index, or -1 */
    struct t5_buf name; /* a record's, for t5_adapter_choose */
};

/* Loads each of args: "NAME=DIR", or a DIR by itself, which at most one may be: the adapter of the
 * records that name none. NAME is letters, digits, '_', '.', '-', at most 64; an argument that is
 * itself a directory is a DIR, whatever its name. */
int t5_adapter_set_load(struct t5_adapter_set *out, const char *const *args, int n,
                        const struct t5_checkpoint *base, struct t5_err *err) T5_MUST_CHECK;
void t5_adapter_set_free(struct t5_adapter_set *set);

/* The index that a record's "adapter" names; without that member the unnamed one's, or -1, none;
 * null is -1. Where no adapter has a name the member means nothing here and the answer is always
 * the unnamed one. An unknown name or another type: -1 returned, skippable. */
int t5_adapter_choose(int32_t *which, struct t5_adapter_set *set,
                      const struct t5_token_record *record, struct t5_err *err) T5_MUST_CHECK;

#endif
