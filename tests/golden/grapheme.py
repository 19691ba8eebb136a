#!/usr/bin/env python3
"""Writes libcommon/text/grapheme_table.h from the Unicode data in the `regex` package.
Run: python3 tests/golden/grapheme.py > libcommon/text/grapheme_table.h   (regex 2026.11.15, Unicode 17)"""
import regex

CLASSES = [("JOIN", ["Extend", "SpacingMark", "ZWJ"]), ("BREAK", ["Control", "CR", "LF"]), ("PREPEND", ["Prepend"])]
rows = []
for name, props in CLASSES:
    pattern = regex.compile("|".join(r"\p{GCB=%s}" % p for p in props))
    start = None
    for c in range(0x110001):
        hit = c < 0x110000 and not 0xD800 <= c < 0xE000 and pattern.match(chr(c))
        if hit and start is None:
            start = c
        if not hit and start is not None:
            rows.append((start, c - 1, name))
            start = None
rows.sort()
print("/* grapheme_table.h - made by tests/golden/grapheme.py: ranges of Grapheme_Cluster_Break (UAX #29). */")
print("/* SPDX-License-Identifier: MIT */")
line = "   "
for a, b, name in rows:
    item = " {0x%X, 0x%X, %s}," % (a, b, name)
    if len(line) + len(item) > 100:
        print(line)
        line = "   "
    line += item
print(line)
