/* keep.c - which projections a list names. */
/* SPDX-License-Identifier: MIT */
#include "t5/keep.h"

#include <string.h>

#include "backend/backend.h"

static int is(const char *item, size_t n, const char *name)
{
    return strlen(name) == n && strncmp(item, name, n) == 0;
}

int t5_keep_check(const char *list, const char *compute, const char *device, struct t5_err *err)
{
    const enum t5_compute with = compute ? t5_compute_named(compute) : T5_COMPUTE_BF16;
    if (list && !(t5_device_is_gpu(device) && (with == T5_COMPUTE_INT8 || with == T5_COMPUTE_FP8)))
        return t5_fail_as(err, T5_USAGE, "--keep-bf16 goes with --compute int8 or fp8 on a GPU");
    static const char *const known[] = {"q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"};
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t n = strcspn(at, ","), i = 0;
        while (i < sizeof known / sizeof *known && !is(at, n, known[i]))
            i++;
        if (i == sizeof known / sizeof *known)
            return t5_fail_as(
                err, T5_USAGE,
                "--keep-bf16: '%.*s' not known (q, k, v, o, wi, wi_0, wi_1 or wo expected)",
                (int)(n < 60 ? n : 60), at);
    }
    return 0;
}

int t5_keep_names(const char *list, const char *name)
{
    const char *leaf = strrchr(name, '.');
    leaf = leaf ? leaf + 1 : name;
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t n = strcspn(at, ",");
        if (is(at, n, leaf) || (is(at, n, "wi") && strncmp(leaf, "wi_", 3) == 0))
            return 1;
    }
    return 0;
}
