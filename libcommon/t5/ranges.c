/* ranges.c - reading, writing and asking sets of numbers. */
/* SPDX-License-Identifier: MIT */
#include "t5/ranges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits and nothing else. *text goes behind them. */
static int read_number(int64_t *out, const char **text)
{
    size_t n = strspn(*text, "0123456789");
    if (n == 0 || n > 9)
        return -1;
    *out = strtoll(*text, NULL, 10);
    *text += n;
    return *out >= 1 ? 0 : -1;
}

/* Keeps order and gaps: what it touches becomes one with it. */
static int add(struct t5_ranges *r, int64_t first, int64_t last)
{
    int at = 0, end;
    while (at < r->n && r->last[at] + 1 < first)
        at++;
    for (end = at; end < r->n && r->first[end] <= last + 1; end++) {
        first = r->first[end] < first ? r->first[end] : first;
        last = r->last[end] > last ? r->last[end] : last;
    }
    int n = r->n - (end - at) + 1;
    if (n > T5_RANGES)
        return -1;
    memmove(r->first + at + 1, r->first + end, (size_t)(r->n - end) * sizeof *r->first);
    memmove(r->last + at + 1, r->last + end, (size_t)(r->n - end) * sizeof *r->last);
    r->first[at] = first;
    r->last[at] = last;
    r->n = n;
    return 0;
}

int t5_ranges_parse(struct t5_ranges *r, const char *text, const char *what, struct t5_err *err)
{
    char shown[T5_ESCAPED];
    int64_t first, last;
    r->n = 0;
    t5_escape(shown, text, strlen(text));
    for (const char *at = text;; at++) {
        int bad = read_number(&first, &at);
        last = first;
        if (!bad && *at == '-') {
            at++;
            bad = read_number(&last, &at) || last < first;
        }
        if (bad || (*at && *at != ','))
            return t5_fail_as(err, T5_USAGE,
                              "%s: expected ranges of numbers, as 120-135,200, found '%s'", what,
                              shown);
        if (add(r, first, last))
            return t5_fail_as(err, T5_USAGE, "%s: more than %d ranges: '%s'", what, T5_RANGES,
                              shown);
        if (!*at)
            return 0;
    }
}

char *t5_ranges_print(char out[T5_RANGES_TEXT], const struct t5_ranges *r, int64_t most)
{
    int n = 0;
    out[0] = 0;
    for (int i = 0; i < r->n && r->first[i] <= most; i++) {
        int64_t last = r->last[i] < most ? r->last[i] : most;
        n += snprintf(out + n, (size_t)(T5_RANGES_TEXT - n), "%s%lld", i ? "," : "",
                      (long long)r->first[i]);
        if (last > r->first[i])
            n += snprintf(out + n, (size_t)(T5_RANGES_TEXT - n), "-%lld", (long long)last);
    }
    return out;
}

int t5_ranges_have(const struct t5_ranges *r, int64_t number)
{
    for (int i = 0; i < r->n; i++)
        if (number >= r->first[i] && number <= r->last[i])
            return 1;
    return 0;
}
