#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes libcommon/text/grapheme_table.h: which characters the fast tokenizer takes into one cluster. Versions of Unicode differ, so
marks and prepended characters are found by asking the tokenizer, with a probe whose result tells: a cluster of less than 6 bytes that starts
with one half becomes "1/2" and loses its acute accent, a longer one keeps it; so does a trade mark sign that a joiner glues to a pictograph. Controls and which
marks are spacing come from the `regex` package.
Run: python3 tests/golden/grapheme.py > libcommon/text/grapheme_table.h   (tokenizers 0.23.3, regex 2026.11.15)"""
import regex
from transformers import T5TokenizerFast

normalize = T5TokenizerFast.from_pretrained("testdata/golden/tokenizer").backend_tokenizer.normalizer.normalize_str
HALF, ACUTE, JOINER, SIGN = "\u00bd", "\u0301", "\u200d", "\u2122"
spacing = regex.compile(r"\p{GCB=SpacingMark}")
control = regex.compile(r"\p{GCB=Control}|\p{GCB=CR}|\p{GCB=LF}")
assert normalize("x" + JOINER + SIGN + ACUTE) == "x" + normalize(JOINER) + "TM"
assert normalize(HALF + ACUTE + "x") == "1\u20442x" and normalize(HALF + ACUTE + ACUTE) == "1\u20442" + 2 * ACUTE


def kind(c):
    if control.match(c):
        return "BREAK"
    if ord(c) < 0x80:
        return None
    alone = normalize(c)
    if normalize(HALF + ACUTE + c) == "1\u20442" + ACUTE + alone:
        return "SPACING" if spacing.match(c) else "JOIN"
    if normalize(c + HALF + ACUTE) == alone + "1\u20442" + ACUTE:
        return "PREPEND"
    if normalize(c + JOINER + SIGN + ACUTE) == alone + normalize(JOINER) + normalize(SIGN) + ACUTE:
        return "PICTURE"
    return None


rows, start, now = [], 0, None
for code in range(0x110001):
    new = kind(chr(code)) if code < 0x110000 and not 0xD800 <= code < 0xE000 else None
    if new != now:
        if now:
            rows.append((start, code - 1, now))
        start, now = code, new
print("/* grapheme_table.h - made by tests/golden/grapheme.py: the characters that end, join, begin or glue grapheme")
print(" * clusters (UAX #29) in the fast tokenizer. */")
print("/* SPDX-License-Identifier: MIT */")
line = "   "
for a, b, name in rows:
    item = " {0x%X, 0x%X, %s}," % (a, b, name)
    if len(line) + len(item) > 100:
        print(line)
        line = "   "
    line += item
print(line)
