# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers on the kernel's command line: 512M, 0x20000000, 4G.

As memparse() in lib/cmdline.c reads them, with simple_strtoull() in front: hexadecimal after 0x,
octal after a 0, then at most one of the letters K to E. And the words that they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = re.compile(r"(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9][0-9]*)|)([kmgtpe]?)", re.IGNORECASE)
_WORD = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')


def memparse(text: str) -> tuple[int, str]:
    """The number that `text` begins with, and the rest of it. Where it begins with none, the number
    is 0 and the rest all of it."""
    match = _NUMBER.match(text)
    assert match  # it matches nothing, too
    hexadecimal, octal, decimal, letter = match.groups()
    if hexadecimal:
        value = int(hexadecimal, 16)
    elif octal:
        value = int(octal, 8)
    else:
        value = int(decimal or "0")
    shift = 10 * ("KMGTPE".index(letter.upper()) + 1) if letter else 0
    return (value << shift) & ((1 << 64) - 1), text[match.end() :]


def words(cmdline: str) -> Iterator[tuple[str, str | None]]:
    """Name and value (None: there is no =) of each word up to --, as next_arg() in lib/cmdline.c
    takes them apart: blanks in double quotes belong to the word, the quotes around a value do not.
    """
    for word in _WORD.findall(cmdline):
        name, equals, value = _unquoted(word).partition("=")
        if not equals and name == "--":
            return
        yield name, _unquoted(value) if equals else None


def _unquoted(text: str) -> str:
    return text[1:].removesuffix('"') if text.startswith('"') else text
