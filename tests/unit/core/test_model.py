# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic of blocks, looks and drifts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.model import Block, Blocks, BlockState, Drift, Segment
from kexecwatchd.ranges import RangeSet
from tests.unit.core.cases import GIB, REGION, blocks, gib, seen

numbers = st.sets(st.integers(0, 9))


def test_memory_that_is_going_offline_is_not_online() -> None:
    going = Blocks(GIB, {3: Block(3, BlockState.GOING_OFFLINE)})
    assert going.offline == gib(3)
    assert seen(offline=[2, 3]).online == gib(0, 1, 4, 5, 6, 7)


def test_without_memory_blocks_everything_is_online() -> None:
    look = seen(blocks=Blocks(0, {}))
    assert look.online == look.ram
    assert not look.in_motion()
    assert look.blocks.covering(gib(1)) == ()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 1, (0,)),
        (GIB - 1, GIB, (0,)),
        (GIB - 1, GIB + 1, (0, 1)),
        (GIB, 2 * GIB, (1,)),
        (5 * GIB, 9 * GIB, (5, 6, 7, 8)),
    ],
)
def test_blocks_that_a_range_touches(start: int, end: int, expected: tuple[int, ...]) -> None:
    assert blocks().covering(RangeSet.of((start, end))) == expected


@given(numbers, numbers)
def test_covering_is_the_inverse_of_span(some: set[int], present: set[int]) -> None:
    assert blocks(present).covering(gib(*some)) == tuple(sorted(some))


def test_motion_is_memory_in_the_map_without_a_block() -> None:
    assert not seen().in_motion()
    assert not seen(offline=[3]).in_motion()
    assert seen(blocks=blocks(range(7))).in_motion()
    assert not seen(present=range(7), blocks=blocks(range(8))).in_motion()
    assert not seen(map=None, blocks=blocks(())).in_motion()


def test_newer_blocks_take_what_is_gone_out_of_the_map() -> None:
    newer = seen().with_blocks(blocks(range(7), offline=[2]))
    assert newer.ram == gib(*range(7))
    assert newer.online == gib(0, 1, 3, 4, 5, 6)
    assert newer.map is not None
    assert newer.map.crash_regions == REGION


def test_newer_blocks_do_not_add_memory() -> None:
    """Its ranges are not known before the map was read."""
    assert seen().with_blocks(blocks(range(9))).ram == gib(*range(8))


def test_newer_blocks_of_a_map_that_could_not_be_read() -> None:
    look = seen(map=None, problem="hidden")
    assert look.with_blocks(blocks(())) == look


def test_drift_beyond_another() -> None:
    known = Drift(gib(1, 2), gib(8), ("cpu1",))
    assert not known.beyond(known)
    assert known.beyond(Drift()) == known
    more = Drift(gib(2, 3), gib(8, 9), ("cpu1", "cpu2"))
    assert more.beyond(known) == Drift(gib(3), gib(9), ("cpu2",))


def test_a_drift_is_true_when_anything_differs() -> None:
    assert not Drift()
    assert Drift(missing=gib(1))
    assert Drift(extra=gib(1))
    assert Drift(missing_notes=("cpu1",))


def test_a_segments_end_is_exclusive() -> None:
    assert str(Segment(0x1000, 0x1000).range) == "0x1000-0x1fff"
