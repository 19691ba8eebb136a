/* skip.h - --skip-bad: bad records are named on standard error (the first 20, then only counted)
 * and passed over, and the program ends with status 3. Only tools/ calls this. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_SKIP_H
#define T5_BASE_SKIP_H

#include <stdint.h>

#include "base/err.h"

struct t5_skip {
    const char *program;
    int on; /* the flag --skip-bad */
    int64_t skipped;
};

/* 1: the record is passed over, go on with the next; 0: the error stands (skipping is off, or it is
 * not one record's). */
int t5_skip_bad(struct t5_skip *skip, const struct t5_err *err);
/* After the last record: 0, or -1 with T5_SKIPPED and "N of M records skipped", M counting both
 * kinds. */
int t5_skip_end(const struct t5_skip *skip, int64_t good, struct t5_err *err) T5_MUST_CHECK;

#endif
