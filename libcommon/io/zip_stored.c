/* zip_stored.c - APPNOTE.TXT 6.3 as far as stored members go: the end record, its zip64 form, the
 * central directory and the local headers, which must all tell the same story. */
/* SPDX-License-Identifier: MIT */
#include "io/zip_stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/crc32.h"
#include "io/mapping.h"

#define MAX_MEMBERS 65536
#define MAX_NAME 512
#define LOCAL 30 /* bytes of each record without its variable parts */
#define CENTRAL 46
#define END 22
#define END64 56
#define LOCATOR 20
#define ALL16 0xffffu /* "see the zip64 field" */
#define ALL32 0xffffffffu

struct archive {
    const unsigned char *bytes;
    size_t n;
    const char *shown;
    uint64_t begin, end, entries; /* of the central directory */
    struct t5_err *err;
};

static uint64_t get(const unsigned char *p, int n)
{
    uint64_t v = 0;
    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

static int wrong(const struct archive *a, uint64_t at, const char *what)
{
    return t5_fail(a->err, "%s: byte %llu: %s", a->shown, (unsigned long long)at, what);
}

static int member_wrong(const struct archive *a, const struct t5_zip_member *m, uint64_t at,
                        const char *what)
{
    char name[T5_ESCAPED];
    return t5_fail(a->err, "%s: byte %llu: member '%s': %s", a->shown, (unsigned long long)at,
                   t5_escape(name, m->name, m->name_n), what);
}

/* The zip64 end record that the locator before the end record at `end` names. */
static int read_end64(struct archive *a, size_t end)
{
    const unsigned char *e = a->bytes + end;
    size_t locator = end - LOCATOR, at = locator - END64;
    const unsigned char *p = a->bytes + at;
    if (locator < END64 || get(a->bytes + locator + 8, 8) != at || get(p, 4) != 0x06064b50 ||
        get(p + 4, 8) != END64 - 12)
        return wrong(a, locator, "the zip64 end record is not where its locator says");
    if (get(a->bytes + locator + 4, 4) != 0 || get(a->bytes + locator + 16, 4) > 1 ||
        get(p + 16, 8) != 0 || get(p + 24, 8) != get(p + 32, 8))
        return wrong(a, at, "an archive in several parts");
    a->entries = get(p + 32, 8);
    a->begin = get(p + 48, 8);
    a->end = at;
    if (get(p + 40, 8) != a->end - a->begin || a->begin > a->end)
        return wrong(a, at, "the directory is not where the zip64 end record says");
    if ((get(e + 10, 2) != ALL16 && get(e + 10, 2) != a->entries) ||
        (get(e + 12, 4) != ALL32 && get(e + 12, 4) != a->end - a->begin) ||
        (get(e + 16, 4) != ALL32 && get(e + 16, 4) != a->begin))
        return wrong(a, end, "the two end records differ");
    return 0;
}

/* The end record stands at the very end: with a comment behind it, or none, what is the directory
 * would be a matter of opinion. */
static int read_end(struct archive *a)
{
    if (a->n < END || get(a->bytes + a->n - END, 4) != 0x06054b50)
        return wrong(a, a->n, "no end of a zip archive (cut, or bytes follow it)");
    size_t end = a->n - END;
    const unsigned char *e = a->bytes + end;
    if (get(e + 20, 2) != 0)
        return wrong(a, end, "a comment in the zip's end record");
    if (get(e + 4, 4) != 0 || get(e + 8, 2) != get(e + 10, 2))
        return wrong(a, end, "an archive in several parts");
    if (end >= LOCATOR && get(e - LOCATOR, 4) == 0x07064b50)
        return read_end64(a, end);
    a->entries = get(e + 10, 2);
    a->begin = get(e + 16, 4);
    a->end = end;
    if (a->begin > a->end || get(e + 12, 4) != a->end - a->begin)
        return wrong(a, end, "the directory is not where the end record says");
    return 0;
}

/* Values that did not fit into the entry, from its extra fields. */
static int read_extra(struct archive *a, const unsigned char *p, size_t n, uint64_t *const *wide,
                      int n_wide)
{
    int found = 0;
    uint64_t at = (uint64_t)(p - a->bytes);
    while (n >= 4) {
        size_t k = get(p + 2, 2);
        if (k > n - 4)
            return wrong(a, at, "an extra field longer than its room");
        if (get(p, 2) == 1) {
            if (found++ || k < 8 * (size_t)n_wide)
                return wrong(a, at, "a zip64 field of the wrong size");
            for (int i = 0; i < n_wide; i++)
                *wide[i] = get(p + 4 + 8 * i, 8);
        }
        p += 4 + k;
        n -= 4 + k;
    }
    if (n)
        return wrong(a, at, "an extra field longer than its room");
    return n_wide && !found ? wrong(a, at, "the zip64 field is missing") : 0;
}

static int check_name(struct archive *a, const struct t5_zip_member *m, uint64_t at)
{
    int slashes = 0;
    if (m->name_n == 0 || m->name_n > MAX_NAME || memchr(m->name, 0, m->name_n))
        return wrong(a, at, "a member's name is not 1 to 512 bytes without NUL");
    for (size_t i = 0, part = 0; i <= m->name_n; i++) {
        if (i < m->name_n && m->name[i] != '/')
            continue;
        size_t k = i - part;
        if (k == 0 || (k <= 2 && memcmp(m->name + part, "..", k) == 0))
            return member_wrong(a, m, at, "not a name within the archive");
        slashes += i < m->name_n;
        part = i + 1;
    }
    return slashes <= 8 ? 0 : member_wrong(a, m, at, "more than 8 folders deep");
}

/* The header in front of the data agrees with the entry p of the directory. */
static int read_local(struct archive *a, struct t5_zip_member *m, const unsigned char *p)
{
    uint64_t at = m->header;
    if (at > a->begin || a->begin - at < LOCAL)
        return member_wrong(a, m, (uint64_t)(p - a->bytes), "begins behind the last member");
    const unsigned char *l = a->bytes + at;
    uint64_t name_n = get(l + 26, 2), extra_n = get(l + 28, 2);
    if (get(l, 4) != 0x04034b50)
        return member_wrong(a, m, at, "no local header here");
    if (a->begin - at - LOCAL < name_n + extra_n ||
        m->bytes > a->begin - at - LOCAL - name_n - extra_n)
        return member_wrong(a, m, at, "reaches beyond the last member's end");
    int later = get(l + 6, 2) & 8; /* sizes and sum follow the data: then they may be 0 here */
    if (name_n != m->name_n || memcmp(l + LOCAL, m->name, name_n) != 0)
        return member_wrong(a, m, at, "the local header has another name");
    if (get(l + 6, 4) != get(p + 8, 4))
        return member_wrong(a, m, at, "the local header has other flags or another method");
    for (int i = 18; i <= 22; i += 4) {
        uint64_t size = get(l + i, 4);
        if (size != m->bytes && size != ALL32 && !(later && size == 0))
            return member_wrong(a, m, at, "the local header has another size");
    }
    if (get(l + 14, 4) != m->crc && !(later && get(l + 14, 4) == 0))
        return member_wrong(a, m, at, "the local header has another checksum");
    m->data = l + LOCAL + name_n + extra_n;
    return 0;
}

/* The entry at *at, which moves behind it. */
static int read_entry(struct archive *a, struct t5_zip_member *m, uint64_t *at)
{
    const unsigned char *p = a->bytes + *at;
    uint64_t *wide[3], room = a->end - *at;
    int n_wide = 0;
    if (room < CENTRAL || get(p, 4) != 0x02014b50)
        return wrong(a, *at, "no entry of the directory here");
    uint64_t stored = get(p + 20, 4), size = get(p + 24, 4), extra_n = get(p + 30, 2),
             length = CENTRAL + get(p + 28, 2) + extra_n + get(p + 32, 2);
    if (length > room)
        return wrong(a, *at, "an entry longer than the directory");
    m->name = (const char *)p + CENTRAL;
    m->name_n = get(p + 28, 2);
    m->crc = (uint32_t)get(p + 16, 4);
    m->header = get(p + 42, 4);
    if (check_name(a, m, *at))
        return -1;
    if (get(p + 8, 2) & ~0x0808u)
        return member_wrong(a, m, *at, get(p + 8, 2) & 1 ? "encrypted" : "flags not known");
    if (get(p + 10, 2) != 0)
        return member_wrong(a, m, *at, "compressed; only stored members are read");
    if (get(p + 34, 2) != 0)
        return member_wrong(a, m, *at, "lies in another part of the archive");
    if (size == ALL32)
        wide[n_wide++] = &size;
    if (stored == ALL32)
        wide[n_wide++] = &stored;
    if (m->header == ALL32)
        wide[n_wide++] = &m->header;
    if (read_extra(a, p + CENTRAL + m->name_n, extra_n, wide, n_wide))
        return -1;
    if (size != stored)
        return member_wrong(a, m, *at, "stored, but its two sizes differ");
    m->bytes = size;
    *at += length;
    return read_local(a, m, p);
}

static int order_headers(const void *a, const void *b)
{
    uint64_t x = ((const struct t5_zip_member *)a)->header,
             y = ((const struct t5_zip_member *)b)->header;
    return (x > y) - (x < y);
}

static int compare(const char *a, size_t a_n, const char *b, size_t b_n)
{
    int order = memcmp(a, b, a_n < b_n ? a_n : b_n);
    return order ? order : (a_n > b_n) - (a_n < b_n);
}

static int order_names(const void *a, const void *b)
{
    const struct t5_zip_member *x = a, *y = b;
    return compare(x->name, x->name_n, y->name, y->name_n);
}

/* No member within another, nothing before the first, no name twice. Leaves them sorted by name. */
static int check_together(struct archive *a, const struct t5_zip *zip)
{
    const struct t5_zip_member *m = zip->members;
    if (zip->n == 0)
        return wrong(a, a->begin, "an empty archive");
    qsort(zip->members, (size_t)zip->n, sizeof *m, order_headers);
    if (m[0].header != 0)
        return wrong(a, 0, "bytes before the first member");
    for (int i = 1; i < zip->n; i++)
        if (m[i].header < (uint64_t)(m[i - 1].data - a->bytes) + m[i - 1].bytes)
            return member_wrong(a, &m[i], m[i].header, "overlaps the member before it");
    qsort(zip->members, (size_t)zip->n, sizeof *m, order_names);
    for (int i = 1; i < zip->n; i++)
        if (order_names(&m[i - 1], &m[i]) == 0)
            return member_wrong(a, &m[i], m[i].header, "a second member of this name");
    return 0;
}

int t5_zip_open(struct t5_zip *out, const unsigned char *bytes, size_t n, const char *shown,
                struct t5_err *err)
{
    struct archive a = {.bytes = bytes, .n = n, .shown = shown, .err = err};
    *out = (struct t5_zip){0};
    if (read_end(&a))
        return -1;
    if (a.entries > MAX_MEMBERS)
        return wrong(&a, a.end, "more than 65536 members");
    if (a.entries > (a.end - a.begin) / CENTRAL)
        return wrong(&a, a.end, "more members than the directory has room for");
    out->members = t5_alloc_zeroed((size_t)a.entries, sizeof *out->members, "an archive", err);
    if (!out->members)
        return -1;
    uint64_t at = a.begin;
    for (; out->n < (int)a.entries; out->n++)
        if (read_entry(&a, &out->members[out->n], &at))
            goto fail;
    if (at != a.end) {
        wrong(&a, at, "bytes behind the last entry of the directory");
        goto fail;
    }
    if (check_together(&a, out) == 0)
        return 0;
fail:
    t5_zip_free(out);
    return -1;
}

void t5_zip_free(struct t5_zip *zip)
{
    free(zip->members);
    *zip = (struct t5_zip){0};
}

const struct t5_zip_member *t5_zip_find(const struct t5_zip *zip, const char *name, size_t n)
{
    const struct t5_zip_member key = {.name = name, .name_n = n};
    return bsearch(&key, zip->members, (size_t)zip->n, sizeof key, order_names);
}

int t5_zip_verify(const struct t5_zip *zip, const char *shown, struct t5_err *err)
{
    const size_t piece = (size_t)16 << 20;
    char name[T5_ESCAPED];
    for (int i = 0; i < zip->n; i++) {
        const struct t5_zip_member *m = &zip->members[i];
        uint32_t crc = 0;
        for (size_t at = 0; at < m->bytes; at += piece) {
            size_t n = m->bytes - at < piece ? m->bytes - at : piece;
            crc = t5_crc32(crc, m->data + at, n);
            if (m->bytes > piece) /* the whole of a large model need not stay in memory */
                t5_mapping_drop(m->data + at, n);
        }
        if (crc != m->crc)
            return t5_fail(
                err, "%s: byte %llu: member '%s': damaged (CRC-32 %08x expected, found %08x)",
                shown, (unsigned long long)m->header, t5_escape(name, m->name, m->name_n), m->crc,
                crc);
    }
    return 0;
}
