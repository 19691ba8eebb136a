/* err.c - filling and prefixing error texts. Does not print: see program.c. */
/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static int fail_v(struct t5_err *err, enum t5_status status, const char *fmt, va_list ap)
{
    err->status = status;
    err->skippable = err->out_of_memory = 0;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    return -1;
}

int t5_fail(struct t5_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_v(err, T5_BAD_INPUT, fmt, ap);
    va_end(ap);
    return -1;
}

int t5_fail_as(struct t5_err *err, enum t5_status status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_v(err, status, fmt, ap);
    va_end(ap);
    return -1;
}

int t5_fail_errno(struct t5_err *err, const char *fmt, ...)
{
    int code = errno;
    va_list ap;
    va_start(ap, fmt);
    fail_v(err, T5_ENVIRONMENT, fmt, ap);
    va_end(ap);
    size_t n = strlen(err->text);
    snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(code));
    return -1;
}

int t5_fail_memory(struct t5_err *err, size_t bytes, const char *what)
{
    t5_fail_as(err, T5_ENVIRONMENT, "out of memory (asked %zu bytes for %s)", bytes, what);
    err->out_of_memory = 1;
    return -1;
}

int t5_err_at(struct t5_err *err, const char *fmt, ...)
{
    char place[sizeof err->text], text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(place, sizeof place, fmt, ap);
    va_end(ap);
    memcpy(text, err->text, sizeof text);
    size_t n = strlen(place);
    if (n > sizeof err->text - 3)
        n = sizeof err->text - 3;
    memcpy(err->text, place, n);
    snprintf(err->text + n, sizeof err->text - n, ": %.*s", (int)(sizeof err->text - n - 3), text);
    return -1;
}

char *t5_escape(char out[T5_ESCAPED], const char *bytes, size_t n)
{
    size_t shown = n < 64 ? n : 64, at = 0;
    for (size_t i = 0; i < shown;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t len = t5_utf8_length(bytes + i, shown - i);
        if (len == 0 || c < 0x20 || c == 0x7f) {
            at += (size_t)sprintf(out + at, "\\x%02x", c);
            i++;
        } else {
            memcpy(out + at, bytes + i, len);
            at += len;
            i += len;
        }
    }
    if (shown < n) {
        memcpy(out + at, "...", 3);
        at += 3;
    }
    out[at] = 0;
    return out;
}
