#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes libcommon/text/letters_table.h: what is a letter or digit (L, Nd, Nl), a mark (Mn, Mc) and hidden (joiners, the soft hyphen,
variation selectors), from the `regex` package, and lower case, from Python. A final sigma is folded into the other one.
Run: python3 tests/golden/letters.py > libcommon/text/letters_table.h   (Python 3.11, regex 2026.11.15)"""
import regex

kinds = [("HIDDEN", regex.compile("[\u00ad\u180b-\u180d\u180f\u200c\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")),
         ("LETTER", regex.compile(r"[\p{L}\p{Nd}\p{Nl}]")), ("MARK", regex.compile(r"[\p{Mn}\p{Mc}]"))]


def kind(code):
    if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        return None
    return next((name for name, pattern in kinds if pattern.match(chr(code))), None)


def lower(code):
    if code == 0x3C2:
        return 0x3C3
    low = chr(code).lower()
    return ord(low) if len(low) == 1 else code


def class_rows():
    start, now = 0, None
    for code in range(0x110001):
        new = kind(code)
        if new != now:
            if now:
                yield f"{{0x{start:X}, 0x{code - 1:X}, T5_{now}}}"
            start, now = code, new


def case_rows():
    """Runs of one difference, of every character or every second one."""
    pairs = [(c, lower(c)) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and lower(c) != c]
    i = 0
    while i < len(pairs):
        first, delta = pairs[i][0], pairs[i][1] - pairs[i][0]
        for step in (1, 2):
            n = 1
            while i + n < len(pairs) and pairs[i + n] == (first + n * step, first + n * step + delta):
                n += 1
            if n > 1:
                break
        yield f"{{0x{first:X}, 0x{pairs[i + n - 1][0]:X}, {delta}, {step if n > 1 else 1}}}"
        i += n


def table(name, rows):
    print(f"static const struct {name} {name}s[] = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) > 97:
            print(line)
            line = "   "
        line += f" {row},"
    print(line + "\n};")


print("/* letters_table.h - made by tests/golden/letters.py: Unicode's letters, digits and marks, and lower case. */")
print("/* SPDX-License-Identifier: MIT */")
table("range", class_rows())
table("run", case_rows())
