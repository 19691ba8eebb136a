/* tokenize_unk.c - which characters became <unk>: a count each, in pages of 256, so that memory
 * follows the scripts that occur. One a thread, added up at the end. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "text/tokenize_inside.h"

struct t5_unk_count {
    int64_t times, records;
    int64_t last; /* number of the record that was last counted, from 1 */
};

static struct t5_unk_count *count_of(struct t5_unk *unk, uint32_t c, struct t5_err *err)
{
    struct t5_unk_count **page = &unk->pages[c >> 8];
    if (!*page)
        *page = t5_alloc_zeroed(256, sizeof **page, "counts of unknown characters", err);
    return *page ? &(*page)[c & 255] : NULL;
}

int t5_unk_add(struct t5_unk *unk, const struct t5_unknown *found, size_t n, struct t5_err *err)
{
    int64_t record = unk->records + 1;
    for (size_t i = 0; i < n; i++) {
        if (found[i].character == T5_NO_CHARACTER)
            continue;
        struct t5_unk_count *c = count_of(unk, found[i].character, err);
        if (!c)
            return -1;
        c->times++;
        c->records += c->last != record;
        c->last = record;
        unk->records = record;
    }
    return 0;
}

int t5_unk_merge(struct t5_unk *into, const struct t5_unk *from, struct t5_err *err)
{
    into->records += from->records;
    for (uint32_t c = 0; c < T5_UNK_PAGES * 256; c++) {
        if (!from->pages[c >> 8] || !from->pages[c >> 8][c & 255].times)
            continue;
        struct t5_unk_count *to = count_of(into, c, err);
        if (!to)
            return -1;
        to->times += from->pages[c >> 8][c & 255].times;
        to->records += from->pages[c >> 8][c & 255].records;
    }
    return 0;
}

/* ---- the report --------------------------------------------------------------------------- */

struct row {
    uint32_t character;
    int64_t times, records;
};

static int by_times(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->times != y->times)
        return x->times < y->times ? 1 : -1;
    return (x->character > y->character) - (x->character < y->character);
}

static size_t put_utf8(char *out, uint32_t c)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(n == 1 ? c : lead[n] | c);
    return n;
}

int t5_unk_print(struct t5_buf *out, const struct t5_unk *unk, struct t5_err *err)
{
    struct t5_buf rows = {0};
    int rc = 0;
    for (uint32_t c = 0; c < T5_UNK_PAGES * 256 && rc == 0; c++) {
        const struct t5_unk_count *page = unk->pages[c >> 8];
        if (page && page[c & 255].times) {
            struct row row = {c, page[c & 255].times, page[c & 255].records};
            rc = t5_buf_append(&rows, &row, sizeof row, err);
        }
    }
    struct row *row = (struct row *)rows.data;
    size_t n = rows.n / sizeof *row;
    if (n)
        qsort(row, n, sizeof *row, by_times);
    for (size_t i = 0; i < n && rc == 0; i++) {
        char text[4];
        rc = t5_buf_append(out, "{\"character\":", 13, err) ||
                     t5_json_quote(out, text, put_utf8(text, row[i].character), err) ||
                     t5_buf_printf(out, err, ",\"code\":\"U+%04X\",\"count\":%lld,\"records\":%lld}\n",
                                   row[i].character, (long long)row[i].times,
                                   (long long)row[i].records)
                 ? -1
                 : 0;
    }
    t5_buf_free(&rows);
    return rc;
}

void t5_unk_free(struct t5_unk *unk)
{
    for (size_t i = 0; i < T5_UNK_PAGES; i++)
        free(unk->pages[i]);
    *unk = (struct t5_unk){0};
}
