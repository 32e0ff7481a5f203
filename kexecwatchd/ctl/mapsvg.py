# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory map as an SVG image, for a document. Pure: the same picture gives the same text.

It stands alone (no script, no font, no link) and can be read in black and white: each kind of
memory has a pattern, and the letter that the terminal shows. Lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from xml.sax.saxutils import escape

from kexecwatchd.ctl import mapwords
from kexecwatchd.ctl.mapkinds import MEANINGS, Kind, sizes, spans
from kexecwatchd.ctl.maplayout import Layout, Row, fold
from kexecwatchd.ctl.mapwords import Table
from kexecwatchd.ctl.text import plain, wrapped
from kexecwatchd.memorypicture import MemoryPicture
from kexecwatchd.sizes import human

_TITLE = "Memory map"

_COLUMNS = 128
_MOST_LINES = 44
_MOST_TABLE_ROWS = 48

_MARGIN = 24
_LABEL = 116
_CELL = 7
_LINE = 17
_BAR = 13
_LETTER = 7.3  # the width of one at 12 px, monospaced
_WIDTH = 2 * _MARGIN + _LABEL + _COLUMNS * _CELL

_RED, _SAND = "#c00000", "#f6e7b4"

# Background, and what is drawn on each tile of 8 by 8.
_PATTERNS = {
    Kind.LOST: (_RED, '<path d="M1 1L7 7M7 1L1 7" stroke="#fff" stroke-width="2"/>'),
    Kind.RISKY: (
        "#fff",
        f'<path d="M-2 6L2 10M0 0L8 8M6 -2L10 2" stroke="{_RED}" stroke-width="3.5"/>',
    ),
    Kind.REBOOT: ("#1b3f73", ""),
    Kind.CRASH: ("#14502b", '<circle cx="4" cy="4" r="1.5" fill="#fff"/>'),
    Kind.RESERVED: (
        "#fff",
        '<path d="M-2 2L2 -2M0 8L8 0M6 10L10 6" stroke="#14502b" stroke-width="1"/>',
    ),
    Kind.MISSING: ("#fff", f'<path d="M4 1V7M1 4H7" stroke="{_RED}" stroke-width="1.6"/>'),
    Kind.EXTRA: ("#fff", f'<path d="M1 4H7" stroke="{_RED}" stroke-width="2"/>'),
    Kind.NO_BLOCK: ("#fff", '<path d="M0 0H8V8" stroke="#666" fill="none"/>'),
    Kind.OFFLINE: ("#fff", '<circle cx="4" cy="4" r="2" fill="none" stroke="#000"/>'),
    Kind.MOVABLE: (_SAND, '<path d="M0 2H8M0 6H8" stroke="#7a5a00"/>'),
    Kind.DRIVER: (_SAND, '<path d="M2 0V8M6 0V8" stroke="#7a5a00"/>'),
    Kind.HOT_ADDED: (_SAND, '<circle cx="4" cy="4" r="1" fill="#7a5a00"/>'),
    Kind.PLAIN: ("#d0d0d0", ""),
}


def draw(picture: MemoryPicture) -> str:
    """The whole image, as a document of its own."""
    found = spans(picture)
    layout = fold(picture, found, columns=_COLUMNS, most_lines=_MOST_LINES)
    here = _Page()
    here.text(_TITLE, bold=True)
    for said in mapwords.answer(picture):
        for line in _lines(f"{said.label}: {said.text}"):
            here.text(line, fill=_RED if said.bad else "#000")
    here.skip()
    for line in _lines(mapwords.scale(picture, layout, "The narrowest bar")):
        here.text(line)
    _rows(here, layout)
    here.skip()
    for kind, size in sizes(found).items():
        _legend(here, kind, human(size))
    for table in mapwords.tables(picture, _MOST_TABLE_ROWS):
        _table(here, table)
    if picture.notes:
        here.skip()
        here.text("Not known", bold=True)
        for note in picture.notes:
            for line in _lines(note):
                here.text(line)
    described = ". ".join(f"{said.label}: {said.text}" for said in mapwords.answer(picture))
    return here.document(described)


class _Page:
    """A page that grows downwards, a line at a time."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.y = _MARGIN

    def add(self, part: str) -> None:
        self._parts.append(part)

    def text(
        self, text: str, *, x: float = _MARGIN, fill: str = "#000", bold: bool = False
    ) -> None:
        """A line of text, and on to the next line."""
        self.put(text, x, fill, bold)
        self.skip()

    def put(self, text: str, x: float, fill: str = "#000", bold: bool = False) -> None:
        """Text on the present line."""
        weight = ' font-weight="bold"' if bold else ""
        self.add(
            f'<text x="{x:g}" y="{self.y + _BAR - 2}" fill="{fill}"{weight}>'
            f"{escape(plain(text))}</text>"
        )

    def skip(self) -> None:
        self.y += _LINE

    def document(self, described: str) -> str:
        height = self.y + _MARGIN
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
            f' viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title desc"'
            ' font-family="DejaVu Sans Mono, Consolas, monospace" font-size="12">'
        )
        return "\n".join(
            [
                '<?xml version="1.0" encoding="UTF-8"?>',
                head,
                f'<title id="title">{_TITLE}</title>',
                f'<desc id="desc">{escape(plain(described))}</desc>',
                "<defs>",
                *(_pattern(kind, *_PATTERNS[kind]) for kind in Kind),
                "</defs>",
                f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def _lines(text: str) -> list[str]:
    return wrapped(plain(text), int((_WIDTH - 2 * _MARGIN) / _LETTER), "  ")


def _pattern(kind: Kind, background: str, drawn: str) -> str:
    return (
        f'<pattern id="{kind.name}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" fill="{background}"/>{drawn}</pattern>'
    )


def _rows(here: _Page, layout: Layout) -> None:
    for section in layout.sections:
        for at, row in enumerate(section.rows):
            if row.hole:
                here.text(f"no memory for {human(row.hole)}", x=_MARGIN + _LABEL, fill="#555")
            if not at and section.node is not None:
                said = f"node {section.node}: {human(section.size)}"
                here.text(said, x=_MARGIN + _LABEL, bold=True)
            here.put(f"{row.start:#x}", _MARGIN)
            for part in _bars(here.y, row, layout.cell):
                here.add(part)
            here.skip()


def _bars(y: int, row: Row, cell: int) -> Iterator[str]:
    """A bar for each run of cells of a kind, which names itself to whoever points at it."""
    at = 0
    for kind, run in groupby(row.cells):
        count = len(list(run))
        if kind is not None:
            start = row.start + at * cell
            said = f"{start:#x}-{start + count * cell - 1:#x}: {MEANINGS[kind]}"
            yield _bar(kind, _MARGIN + _LABEL + at * _CELL, y, count * _CELL, said)
        at += count


def _bar(kind: Kind, x: float, y: int, width: float, said: str) -> str:
    letter = ""
    if kind is not Kind.PLAIN:
        # On white, so that no pattern swallows it.
        letter = (
            f'<rect x="{x:g}" y="{y + 2}" width="{_CELL}" height="{_BAR - 4}" fill="#fff"/>'
            f'<text x="{x + _CELL / 2:g}" y="{y + _BAR - 3}" font-size="10" font-weight="bold"'
            f' text-anchor="middle">{escape(kind.symbol)}</text>'
        )
    return (
        f'<g><title>{escape(said)}</title><rect x="{x:g}" y="{y}" width="{width:g}"'
        f' height="{_BAR}" fill="url(#{kind.name})" stroke="#000" stroke-width="0.4"/>{letter}</g>'
    )


def _legend(here: _Page, kind: Kind, size: str) -> None:
    meaning = MEANINGS[kind]
    here.add(_bar(kind, _MARGIN, here.y, 4 * _CELL, meaning))
    here.put(f"{size:>9}", _MARGIN + 5 * _CELL)
    here.put(meaning, _MARGIN + _LABEL)
    here.skip()


def _table(here: _Page, table: Table) -> None:
    here.skip()
    here.text(table.title, bold=True)
    columns = zip(*(row.cells for row in table.rows), strict=True)
    places = [max(map(len, column)) for column in columns]
    for row in table.rows:
        x: float = _MARGIN
        fill = _RED if row.bad else "#000"
        if row.bad:
            here.put("!", x, fill, bold=True)
        x += 2 * _LETTER
        for cell, place in zip((*row.cells, row.remark), (*places, 0), strict=True):
            if cell:
                here.put(cell, x, fill)
            x += (place + 2) * _LETTER
        here.skip()
    if table.more:
        here.text(f"and {table.more} more: all of them with --json", x=_MARGIN + 2 * _LETTER)
