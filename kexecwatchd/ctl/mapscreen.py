# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory map on a terminal, for a tired person at three in the morning. Pure.

The answer first, then the picture, its legend, and everything with its addresses. The symbols say
it all; colour only repeats them. Letters are ASCII, for serial consoles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from kexecwatchd.ctl import mapwords
from kexecwatchd.ctl.mapkinds import MEANINGS, NO_MEMORY, Kind, sizes, spans
from kexecwatchd.ctl.maplayout import Layout, Row, fold
from kexecwatchd.ctl.mapwords import Sentence, Table
from kexecwatchd.ctl.text import GREEN, RED, YELLOW, paint, painted, plain, wrapped
from kexecwatchd.memorypicture import MemoryPicture
from kexecwatchd.sizes import human

# The picture's lines: with the answer and the legend it fills a screen.
_MOST_LINES = 26

_MOST_TABLE_ROWS = 16
_LABEL_WIDTH = 15
_INDENT = " " * 10
_NO_BREAK = "\N{NO-BREAK SPACE}"
_UNIT = re.compile(r"(?<=\d) (?=[KMGT]?i?B\b)")

_COLOURS = {
    Kind.LOST: RED,
    Kind.RISKY: RED,
    Kind.MISSING: RED,
    Kind.EXTRA: RED,
    Kind.REBOOT: GREEN,
    Kind.CRASH: GREEN,
    Kind.RESERVED: GREEN,
    Kind.NO_BLOCK: YELLOW,
    Kind.OFFLINE: YELLOW,
    Kind.MOVABLE: YELLOW,
    Kind.DRIVER: YELLOW,
    Kind.HOT_ADDED: YELLOW,
}


def render(picture: MemoryPicture, *, width: int, colour: bool) -> str:
    """The whole screen, without a final newline; no line is wider than `width` (60 or more)."""
    found = spans(picture)
    label = len(f"{found[-1].range.end:#x}")
    columns = 32
    while label + 1 + 2 * columns <= width:
        columns *= 2
    layout = fold(picture, found, columns=columns, most_lines=_MOST_LINES)
    lines: list[str] = []
    for said in mapwords.answer(picture):
        lines += _sentence(said, width, colour)
    lines += ["", *_unbroken(mapwords.scale(picture, layout, "A character"), width, "")]
    lines += _picture(layout, label, colour)
    lines += ["", *_legend(layout, sizes(found), width, colour)]
    for table in mapwords.tables(picture, _MOST_TABLE_ROWS):
        lines += ["", *_table(table, width, colour)]
    if picture.notes:
        lines += ["", "Not known"]
        for note in picture.notes:
            lines += wrapped(f"  {plain(note)}", width, "    ")
    return "\n".join(lines)


def _sentence(said: Sentence, width: int, colour: bool) -> list[str]:
    text = said.label.ljust(_LABEL_WIDTH) + said.text
    first, *rest = _unbroken(text, width, " " * _LABEL_WIDTH)
    return [first.replace(said.label, paint(said.label, RED if said.bad else "", colour), 1), *rest]


def _unbroken(text: str, width: int, indent: str) -> list[str]:
    """Wrapped, but never between a number and its unit."""
    kept = _UNIT.sub(_NO_BREAK, text)
    return [line.replace(_NO_BREAK, " ") for line in wrapped(kept, width, indent)]


def _picture(layout: Layout, label: int, colour: bool) -> Iterator[str]:
    indent = " " * (label + 1)
    for section in layout.sections:
        for at, row in enumerate(section.rows):
            if row.hole:
                yield f"{indent}... no memory for {human(row.hole)} ..."
            if not at and section.node is not None:
                yield f"{indent}node {section.node}: {human(section.size)}"
            yield f"{row.start:#x}".ljust(label + 1) + _cells(row, colour)


def _cells(row: Row, colour: bool) -> str:
    text = ""
    for kind, cells in groupby(row.cells):
        symbols = (kind.symbol if kind else NO_MEMORY) * len(list(cells))
        text += paint(symbols, _COLOURS.get(kind, "") if kind else "", colour)
    return text


def _legend(layout: Layout, found: dict[Kind, int], width: int, colour: bool) -> Iterator[str]:
    """Each symbol with its size. Sizes are exact, and those of memory add up to all of it."""
    rows = [(kind.symbol, human(size), MEANINGS[kind], kind) for kind, size in found.items()]
    longest = max(len(size) for _, size, _, _ in rows)
    for symbol, size, meaning, kind in rows:
        yield from painted(
            symbol,
            f"  {symbol}  {size:>{longest}}  {meaning}",
            " " * (longest + 7),
            width=width,
            code=_COLOURS.get(kind, ""),
            colour=colour,
        )
    if any(None in row.cells for section in layout.sections for row in section.rows):
        yield f"  {NO_MEMORY}  {'':>{longest}}  no memory"


def _table(table: Table, width: int, colour: bool) -> Iterator[str]:
    """Columns side by side, where there is room for that."""
    yield table.title
    # No row is broken between a number and its unit.
    rows = [[plain(cell).replace(" ", _NO_BREAK) for cell in row.cells] for row in table.rows]
    places = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(places) + 2 * len(places) > width:
        places = [0] * len(places)
    for row, cells in zip(table.rows, rows, strict=True):
        text = ("! " if row.bad else "  ") + "  ".join(map(str.ljust, cells, places))
        lines = [f"{text}  {plain(row.remark)}".rstrip()]
        if len(lines[0]) > width:
            lines = wrapped(text, width, _INDENT)
            lines += wrapped(_INDENT + plain(row.remark), width, _INDENT)
        if row.bad:
            lines[0] = lines[0].replace("!", paint("!", RED, colour), 1)
        yield from (line.replace(_NO_BREAK, " ") for line in lines)
    if table.more:
        yield f"  and {table.more} more: all of them with --json"
