/* charsmap.c - the normaliser's double array: checked once, unit by unit, then looked up. */
/* SPDX-License-Identifier: MIT */
#include "text/spiece.h"

#include <string.h>

static uint32_t little(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t unit_at(const struct t5_charsmap *map, uint32_t i)
{
    return little(map->units + 4 * (size_t)i);
}

/* A unit holds either a value (top bit set) or: label in bits 0-7, bit 8 "a value hangs here", and
 * the offset of its children in bits 10-30, eight bits to the left where bit 9 is set. */
static int is_value(uint32_t unit) { return unit >> 31; }
static int has_value(uint32_t unit) { return unit >> 8 & 1; }
static uint32_t label(uint32_t unit) { return unit & 0x800000ffu; }
static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

int t5_charsmap_init(struct t5_charsmap *out, const void *blob, size_t n, struct t5_err *err)
{
    const unsigned char *p = blob;
    *out = (struct t5_charsmap){0};
    if (n == 0)
        return 0;
    uint32_t size = n >= 4 ? little(p) : 0;
    if (n < 4 || size >= n - 4 || size % 4 || size == 0)
        return t5_fail(err, "precompiled_charsmap: %u bytes of units in %zu bytes", size, n);
    struct t5_charsmap map = {p + 4, size / 4, (const char *)p + 4 + size, (uint32_t)(n - 4 - size)};
    if (map.strings[map.n_strings - 1] != 0)
        return t5_fail(err, "precompiled_charsmap: the last string does not end");
    for (uint32_t i = 0; i < map.n_units; i++) {
        uint32_t unit = unit_at(&map, i);
        if (is_value(unit)) {
            if ((unit & 0x7fffffffu) >= map.n_strings)
                return t5_fail(err, "precompiled_charsmap: unit %u points behind the strings", i);
            continue;
        }
        uint32_t base = i ^ offset(unit); /* children lie at base ^ byte */
        if (base >= map.n_units || (base | 0xff) >= map.n_units)
            return t5_fail(err, "precompiled_charsmap: unit %u points outside the array", i);
        if (has_value(unit) && !is_value(unit_at(&map, base)))
            return t5_fail(err, "precompiled_charsmap: unit %u has no value", i);
    }
    if (is_value(unit_at(&map, 0)))
        return t5_fail(err, "precompiled_charsmap: no root");
    *out = map;
    return 0;
}

const char *t5_charsmap_find(const struct t5_charsmap *map, const char *key, size_t n)
{
    if (!map->units)
        return NULL;
    uint32_t at = offset(unit_at(map, 0));
    for (size_t i = 0; i < n && key[i]; i++) {
        unsigned char c = (unsigned char)key[i];
        at ^= c;
        uint32_t unit = unit_at(map, at);
        if (label(unit) != c)
            return NULL;
        at ^= offset(unit);
        if (has_value(unit))
            return map->strings + (unit_at(map, at) & 0x7fffffffu);
    }
    return NULL;
}

int t5_charsmap_starts(const struct t5_charsmap *map, unsigned char byte)
{
    return map->units && label(unit_at(map, offset(unit_at(map, 0)) ^ byte)) == byte;
}
