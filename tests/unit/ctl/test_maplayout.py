# SPDX-License-Identifier: GPL-2.0-or-later
"""What each address counts as, and how addresses become rows of cells."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.ctl.mapkinds import Kind, Span, sizes, spans
from kexecwatchd.ctl.maplayout import Layout, fold
from kexecwatchd.memorypicture import Survey, picture_of
from kexecwatchd.model import Drift, Segment
from kexecwatchd.ranges import RangeSet
from tests.unit.core.machines import GIB, KIB, MIB, big, managed, small, small_with_dimm, surveys

TOP = 4 * GIB
IMAGE = 62 * MIB + 40 * KIB  # its segments


def laid_out(machine: Survey, columns: int = 64, most_lines: int = 26) -> Layout:
    picture = picture_of(machine)
    return fold(picture, spans(picture), columns=columns, most_lines=most_lines)


def symbols(layout: Layout) -> dict[int, str]:
    return {
        row.start: "".join(kind.symbol if kind else "." for kind in row.cells)
        for section in layout.sections
        for row in section.rows
    }


def kinds(machine: Survey) -> dict[Kind, int]:
    return sizes(spans(picture_of(machine)))


def test_each_address_counts_as_the_most_important_thing() -> None:
    assert kinds(small()) == {
        Kind.REBOOT: IMAGE,
        Kind.CRASH: 62 * MIB + 56 * KIB,
        Kind.RESERVED: (256 - 62) * MIB - 56 * KIB,
        Kind.PLAIN: (1024 - 256 - 62 - 1) * MIB + (635 - 40) * KIB,
    }
    late = kinds(small_with_dimm())
    assert late[Kind.RISKY] == IMAGE
    assert late[Kind.MISSING] == 512 * MIB - late[Kind.RISKY]
    assert late[Kind.EXTRA] == 256 * MIB
    assert Kind.REBOOT not in late


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {"!": IMAGE, "o": 128 * MIB, "m": 384 * MIB - IMAGE}),
        ({"zones": {}}, {"!": IMAGE, "o": 128 * MIB, "h": 384 * MIB - IMAGE}),
        (
            {"zones": {}, "memory": managed(small_with_dimm(), RangeSet.of((5 * GIB, 6 * GIB)))},
            {"!": IMAGE, "o": 128 * MIB, "v": 384 * MIB - IMAGE},
        ),
        # The blocks of the DIMM are gone, and /proc/iomem has not heard of it.
        ({"blocks": small().blocks}, {"!": IMAGE, "?": 512 * MIB - IMAGE}),
        ({"blocks": small().blocks, "memory": small().memory}, {"X": IMAGE}),
    ],
)
def test_what_a_dimm_counts_as(changes: dict[str, Any], found: dict[str, int]) -> None:
    machine = dataclasses.replace(small_with_dimm(), drift=Drift(), **changes)
    shown = {kind.symbol: size for kind, size in kinds(machine).items()}
    assert {symbol: size for symbol, size in shown.items() if symbol not in "KC#"} == found


@given(surveys())
def test_the_kinds_of_memory_add_up_to_all_of_it(machine: Survey) -> None:
    found = spans(picture_of(machine))
    ram = machine.memory.system_ram
    assert RangeSet(s.range for s in found if s.kind.is_memory) == ram
    assert sum(s.range.size for s in found if s.kind.is_memory) == ram.size
    assert not RangeSet(s.range for s in found if not s.kind.is_memory) & ram
    assert all(a.range.end <= b.range.start for a, b in itertools.pairwise(found))


def test_a_small_machine_has_a_row_for_each_block() -> None:
    layout = laid_out(small())
    assert (layout.cell, layout.columns) == (2 * MIB, 64)
    assert symbols(layout) == {
        0: "#" * 64,
        0x8000000: "#" * 64,
        0x10000000: "#" * 64,
        0x18000000: "#" * 64,
        0x20000000: "K" + "C" * 63,
        0x28000000: "C" * 32 + "K" * 32,
        0x100000000: "#" * 64,
        0x108000000: "#" * 32 + "R" * 32,
    }
    (section,) = layout.sections
    assert (section.node, section.size) == (None, small().memory.system_ram.size)
    assert {row.start: row.hole for row in section.rows if row.hole} == {TOP: TOP - 768 * MIB}


def test_a_big_machine_has_a_cell_for_each_block_and_a_section_for_each_node() -> None:
    layout = laid_out(big())
    assert layout.cell == 2 * GIB
    assert [(s.node, s.size // GIB) for s in layout.sections] == [
        (n, 511 + (n > 0)) for n in range(4)
    ]
    assert [len(s.rows) for s in layout.sections] == [5, 4, 4, 5]
    shown = symbols(layout)
    assert shown[0] == "C." + "#" * 30 + "C" + "#" * 31
    assert shown[0x38000000000] == "mmm!" + "m" * 20 + "+" * 8
    assert layout.lines == 25


def test_holes_below_a_row_are_cells_without_memory() -> None:
    ram = RangeSet.of((0, 64 * MIB), (96 * MIB, 128 * MIB), (256 * MIB, 384 * MIB))
    machine = dataclasses.replace(
        small(),
        memory=dataclasses.replace(small().memory, system_ram=ram, crash_regions=RangeSet()),
        blocks=dataclasses.replace(small().blocks, by_number={}, size=0),
        crash_segments=(),
        reboot_segments=(),
    )
    layout = laid_out(machine, columns=32, most_lines=24)
    assert layout.cell == MIB
    assert symbols(layout) == {
        0: "#" * 32,
        32 * MIB: "#" * 32,
        96 * MIB: "#" * 32,
        **{n * 32 * MIB: "#" * 32 for n in range(8, 12)},
    }
    assert [r.hole // MIB for r in layout.sections[0].rows] == [0, 0, 32, 128, 0, 0, 0]
    coarse = laid_out(machine, columns=64, most_lines=24)
    assert symbols(coarse)[64 * MIB] == "." * 32 + "#" * 32


def test_nodes_in_turns_are_not_told_apart() -> None:
    machine = big()
    nodes = {n: n // 64 % 2 for n in machine.blocks.by_number}
    assert [s.node for s in laid_out(dataclasses.replace(machine, nodes=nodes)).sections] == [None]


def test_memory_before_the_first_block_is_shown_too() -> None:
    machine = small()
    blocks = {n: b for n, b in machine.blocks.by_number.items() if n}
    picture = picture_of(
        dataclasses.replace(
            machine,
            blocks=dataclasses.replace(machine.blocks, by_number=blocks),
            nodes={n: n // 32 for n in blocks},
        )
    )
    layout = fold(picture, spans(picture), columns=64, most_lines=26)
    assert layout.sections[0].rows[0].start == 0
    assert symbols(layout)[0] == "?" * 64
    assert [s.node for s in layout.sections] == [0, 1]


@given(surveys(), st.sampled_from([32, 64, 128]), st.integers(24, 48))
def test_any_machine_is_folded_and_nothing_is_lost(
    machine: Survey, columns: int, most_lines: int
) -> None:
    picture = picture_of(machine)
    found = spans(picture)
    layout = fold(picture, found, columns=columns, most_lines=most_lines)
    assert layout.lines <= most_lines
    rows = [row for section in layout.sections for row in section.rows]
    assert all(0 < len(row.cells) <= columns for row in rows)
    assert sum(s.size for s in layout.sections) == machine.memory.system_ram.size
    for span in found:
        for address in (span.range.start, span.range.end - 1):
            assert _shown(layout, span, address)


def _shown(layout: Layout, span: Span, address: int) -> bool:
    """True when a cell at that address shows this kind or one that is more important."""
    rank = list(Kind).index
    for section in layout.sections:
        for row in section.rows:
            end = row.start + len(row.cells) * layout.cell
            if row.start <= address < end:
                kind = row.cells[(address - row.start) // layout.cell]
                if kind is not None and rank(kind) <= rank(span.kind):
                    return True
    return False


def test_a_segment_is_seen_however_small() -> None:
    """16 KiB in 2 TiB."""
    machine = dataclasses.replace(big(), reboot_segments=(Segment(100 * GIB, 16 * KIB),))
    assert symbols(laid_out(machine))[0] == "C." + "#" * 30 + "C" + "#" * 17 + "R" + "#" * 13
