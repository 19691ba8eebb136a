/* spike.c - mean and deviation of a window of losses, summed anew each time and in one order, so
 * that a resumed run decides alike. */
/* SPDX-License-Identifier: MIT */
#include "t5/spike.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Losses that are all alike differ by rounding, which is no spike. */
#define LEAST 1e-6

int t5_spike_init(struct t5_spike *s, double z, int64_t size, struct t5_err *err)
{
    *s = (struct t5_spike){.z = z, .size = z > 0 ? size : 0};
    s->losses = t5_alloc((size_t)s->size, sizeof *s->losses, "a window of losses", err);
    return s->losses ? 0 : -1;
}

void t5_spike_free(struct t5_spike *s)
{
    free(s->losses);
    *s = (struct t5_spike){0};
}

static void moments(const struct t5_spike *s, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < s->n; i++)
        sum += s->losses[i];
    *mean = sum / (double)s->n;
    for (int64_t i = 0; i < s->n; i++)
        squares += (s->losses[i] - *mean) * (s->losses[i] - *mean);
    *deviation = fmax(sqrt(squares / (double)(s->n - 1)), LEAST * fabs(*mean));
}

double t5_spike_limit(const struct t5_spike *s)
{
    double mean, deviation;
    if (s->size == 0 || s->n < s->size)
        return INFINITY;
    moments(s, &mean, &deviation);
    return mean + s->z * deviation;
}

double t5_spike_score(const struct t5_spike *s, double loss)
{
    double mean, deviation;
    moments(s, &mean, &deviation);
    return (loss - mean) / deviation;
}

void t5_spike_add(struct t5_spike *s, double loss)
{
    if (s->size == 0 || !isfinite(loss))
        return;
    if (s->n == s->size)
        memmove(s->losses, s->losses + 1, (size_t)--s->n * sizeof *s->losses);
    s->losses[s->n++] = loss;
}

int t5_spike_print(struct t5_buf *out, const struct t5_spike *s, struct t5_err *err)
{
    int rc = t5_buf_printf(out, err, "%s", ""); /* ended, where there are none */
    for (int64_t i = 0; rc == 0 && i < s->n; i++)
        rc = t5_buf_printf(out, err, "%s%.17g", i ? " " : "", s->losses[i]);
    return rc;
}

int t5_spike_parse(struct t5_spike *s, const char *text, struct t5_err *err)
{
    s->n = 0;
    for (char *end; *text; text = end + (*end == ' ')) {
        double loss = strtod(text, &end);
        if (end == text || (*end && *end != ' ') || !isfinite(loss) || s->n == s->size)
            return t5_fail(err, "a window of losses: '%.32s' does not belong there", text);
        s->losses[s->n++] = loss;
    }
    return 0;
}
