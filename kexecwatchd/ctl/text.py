# SPDX-License-Identifier: GPL-2.0-or-later
"""How the text screens write: wrapped lines of printable letters, painted where there is colour.

Colour only repeats what the words say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from kexecwatchd.report import AddressRange
from kexecwatchd.sizes import human

GREEN, YELLOW, RED = "32", "33", "1;31"

_MOST_RANGES = 8

_TO_SPACE = str.maketrans("\n\t", "  ")


def counted(count: int, noun: str) -> str:
    """`1 range`, `2 ranges`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(ranges: Sequence[AddressRange], most: int = _MOST_RANGES) -> list[str]:
    """A line for each range, with its size; of more than `most` only the first, and how many more
    there are."""
    shown = [f"{r.start}-{r.end}" for r in ranges[:most]]
    sizes = [human(int(r.end, 16) - int(r.start, 16) + 1) for r in ranges[:most]]
    longest = max(map(len, shown), default=0)
    lines = [f"{s:<{longest}}  {held}" for s, held in zip(shown, sizes, strict=True)]
    if len(ranges) > most:
        lines.append(f"and {len(ranges) - most} more: all of them with --json")
    return lines


def painted(word: str, text: str, indent: str, *, width: int, code: str, colour: bool) -> list[str]:
    """`text` wrapped, its first `word` painted: only then, for colours have no width."""
    first, *rest = wrapped(text, width, indent)
    return [first.replace(word, paint(word, code, colour), 1), *rest]


def wrapped(text: str, width: int, indent: str) -> list[str]:
    """Lines of at most `width` columns, all but the first indented."""
    # Hyphens stand in file names, releases and dates: no place to break.
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def plain(text: str) -> str:
    """One line without control characters: what reaches a terminal must not steer it."""
    return "".join(c if c.isprintable() else "?" for c in text.translate(_TO_SPACE))


def paint(text: str, code: str, colour: bool) -> str:
    """`text` in that colour; as it is where `colour` is not wanted, or the code is ""."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text
