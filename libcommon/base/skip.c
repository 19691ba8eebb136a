/* skip.c - passing over bad records. */
/* SPDX-License-Identifier: MIT */
#include "base/skip.h"

#include "base/program.h"

#define NAMED 20

int t5_skip_bad(struct t5_skip *skip, const struct t5_err *err)
{
    if (!skip->on || !err->skippable)
        return 0;
    if (skip->skipped++ < NAMED)
        t5_warn(skip->program, "%s", err->text);
    return 1;
}

int t5_skip_end(const struct t5_skip *skip, int64_t good, struct t5_err *err)
{
    if (skip->skipped == 0)
        return 0;
    return t5_fail_as(err, T5_SKIPPED, "%lld of %lld records skipped", (long long)skip->skipped,
                      (long long)(good + skip->skipped));
}
