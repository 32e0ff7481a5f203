# SPDX-License-Identifier: GPL-2.0-or-later
"""Folds a machine's memory into rows of cells: the shape of the map, without any drawing. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexecwatchd.ctl.mapkinds import Kind, Span, span_of
from kexecwatchd.memorypicture import MemoryPicture
from kexecwatchd.ranges import Range

# Bytes. Finer cells show no more than the list of segments does.
_FINEST = 1 << 20

# Sections more than this many are not told apart: interleaved nodes have no picture.
_MOST_SECTIONS = 12

_RANK = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Row:
    """Cells in a row from `start` on; None is a cell without memory. `hole`: bytes without any
    memory before it, 0 where the row goes on from the one above."""

    start: int
    cells: tuple[Kind | None, ...]
    hole: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of addresses on one NUMA node; None where nodes are not told apart. `size`: bytes
    of memory in it."""

    node: int | None
    size: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """`cell` bytes a cell, `columns` cells a full row."""

    cell: int
    columns: int
    sections: tuple[Section, ...]

    @property
    def lines(self) -> int:
        """How many lines it takes: rows, holes, and a heading for each node."""
        rows = [row for section in self.sections for row in section.rows]
        headings = sum(section.node is not None for section in self.sections)
        return len(rows) + sum(row.hole > 0 for row in rows) + headings


def fold(picture: MemoryPicture, found: Sequence[Span], *, columns: int, most_lines: int) -> Layout:
    """The finest layout of these spans that takes no more than `most_lines` lines.

    A row is never less than a memory block. Holes of a row or more are left out. `most_lines` must
    have room for a heading and a row of each section.
    """
    parts = _by_node(picture, found)
    if len(parts) > _MOST_SECTIONS:
        parts = [(None, list(found))]
    cell = _FINEST
    full = max(picture.block_size, sum(span.range.size for span in found) // most_lines)
    while cell * columns < full:
        cell *= 2
    while (layout := _laid_out(parts, cell, columns)).lines > most_lines:
        cell *= 2
    return layout


def _by_node(picture: MemoryPicture, found: Sequence[Span]) -> list[tuple[int | None, list[Span]]]:
    """The spans, cut where another node begins."""
    borders: list[tuple[int, int | None]] = []
    if len(picture.nodes) > 1:
        for run in picture.blocks:
            if not borders or borders[-1][1] != run.node:
                borders.append((span_of(picture, run).start, run.node))
    if not borders:
        return [(None, list(found))]
    starts = [start for start, _ in borders]
    parts: list[tuple[int | None, list[Span]]] = [(node, []) for _, node in borders]
    for span in found:
        start = span.range.start
        while start < span.range.end:
            # Memory before the first block is shown with it.
            at = max(bisect_right(starts, start) - 1, 0)
            end = min([span.range.end, *starts[at + 1 : at + 2]])
            parts[at][1].append(Span(Range(start, end), span.kind))
            start = end
    return [(node, spans) for node, spans in parts if spans]


def _laid_out(
    parts: Sequence[tuple[int | None, Sequence[Span]]], cell: int, columns: int
) -> Layout:
    sections = []
    end: int | None = None
    for node, found in parts:
        rows = tuple(_rows(found, cell, columns, end))
        end = found[-1].range.end
        size = sum(span.range.size for span in found if span.kind.is_memory)
        sections.append(Section(node, size, rows))
    return Layout(cell, columns, tuple(sections))


def _rows(found: Sequence[Span], cell: int, columns: int, end: int | None) -> Iterator[Row]:
    """`end` is where the section before ended."""
    for stretch in _stretches(found, cell * columns):
        first = stretch[0].range.start
        hole = first - end if end is not None else 0
        end = stretch[-1].range.end
        cells = _cells(stretch, cell)
        for at in range(0, len(cells), columns):
            yield Row(
                start=first // cell * cell + at * cell,
                cells=tuple(cells[at : at + columns]),
                hole=hole if not at and hole >= cell * columns else 0,
            )


def _stretches(found: Sequence[Span], least: int) -> Iterator[list[Span]]:
    """Cut where a hole has at least `least` bytes."""
    stretch: list[Span] = []
    for span in found:
        if stretch and span.range.start - stretch[-1].range.end >= least:
            yield stretch
            stretch = []
        stretch.append(span)
    if stretch:
        yield stretch


def _cells(stretch: Sequence[Span], cell: int) -> list[Kind | None]:
    """The most important kind in each cell."""
    base = stretch[0].range.start // cell
    cells: list[Kind | None] = [None] * ((stretch[-1].range.end - 1) // cell + 1 - base)
    for span in stretch:
        for at in range(span.range.start // cell - base, (span.range.end - 1) // cell + 1 - base):
            here = cells[at]
            if here is None or _RANK[span.kind] < _RANK[here]:
                cells[at] = span.kind
    return cells
