/* rouge_worst.c - a short list kept in order: see rouge_worst.h. */
/* SPDX-License-Identifier: MIT */
#include "text/rouge_worst.h"

#include <stdlib.h>
#include <string.h>

int t5_rouge_worst_add(struct t5_rouge_worst *worst, double score, const struct t5_buf *text,
                       struct t5_err *err)
{
    size_t at = worst->n;
    struct t5_rouge_worst_line line;
    if (!worst->lines &&
        !(worst->lines = t5_alloc_zeroed(worst->limit, sizeof *worst->lines, "lines", err)))
        return -1;
    while (at > 0 && worst->lines[at - 1].score > score)
        at--;
    if (at == worst->limit)
        return 0;
    if (worst->n < worst->limit)
        worst->n++;
    line = worst->lines[worst->n - 1]; /* the best of a full list gives up its place and buffer */
    memmove(worst->lines + at + 1, worst->lines + at, (worst->n - 1 - at) * sizeof line);
    line.score = score;
    line.text.n = 0;
    int rc = t5_buf_append(&line.text, text->data, text->n, err);
    worst->lines[at] = line;
    return rc;
}

void t5_rouge_worst_free(struct t5_rouge_worst *worst)
{
    for (size_t i = 0; i < worst->n; i++)
        t5_buf_free(&worst->lines[i].text);
    free(worst->lines);
    worst->lines = NULL;
    worst->n = 0;
}
