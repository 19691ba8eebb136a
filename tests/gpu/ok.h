/* ok.h - calls that must not fail, in the tests of the card. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_TEST_GPU_OK_H
#define T5_TEST_GPU_OK_H

#include "../unit/compare.h"
#include "base/err.h"

/* A call that fills `err`, which is its own. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        struct t5_err err = {0};                                                                   \
        if (call)                                                                                  \
            fail_msg("%s", err.text);                                                              \
    } while (0)

#endif
