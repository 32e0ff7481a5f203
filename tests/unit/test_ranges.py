# SPDX-License-Identifier: GPL-2.0-or-later
"""The range arithmetic against plain sets of addresses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.ranges import Range, RangeSet

TOP = 40
"""Addresses below this; small, so that ranges touch, overlap and nest all the time."""

small_ranges = st.builds(
    lambda start, size: Range(start, start + size),
    st.integers(0, TOP - 1),
    st.integers(1, 6),
)
lists = st.lists(small_ranges, max_size=12)
bitmaps = st.lists(st.booleans(), max_size=TOP)
sets = lists.map(RangeSet) | bitmaps.map(
    lambda bits: RangeSet.of(*((i, i + 1) for i, bit in enumerate(bits) if bit))
)


def addresses(ranges: RangeSet | list[Range]) -> set[int]:
    return {address for r in ranges for address in range(r.start, r.end)}


def is_normal(ranges: RangeSet) -> bool:
    """Sorted, disjoint, and no two neighbours touch."""
    pairs = zip(ranges.ranges, ranges.ranges[1:], strict=False)
    return all(left.end < right.start for left, right in pairs)


@given(lists)
def test_construction_keeps_each_address_and_merges(ranges: list[Range]) -> None:
    made = RangeSet(ranges)
    assert addresses(made) == addresses(ranges)
    assert is_normal(made)


@given(lists, st.randoms(use_true_random=False))
def test_equal_sets_are_equal_however_they_were_written(
    ranges: list[Range], rng: random.Random
) -> None:
    shuffled = list(ranges)
    rng.shuffle(shuffled)
    bytewise = RangeSet.of(*((a, a + 1) for a in addresses(ranges)))
    assert RangeSet(ranges) == RangeSet(shuffled) == bytewise
    assert hash(RangeSet(ranges)) == hash(bytewise)


@given(sets, sets)
def test_union(a: RangeSet, b: RangeSet) -> None:
    assert addresses(a | b) == addresses(a) | addresses(b)
    assert is_normal(a | b)


@given(sets, sets)
def test_difference(a: RangeSet, b: RangeSet) -> None:
    assert addresses(a - b) == addresses(a) - addresses(b)
    assert is_normal(a - b)


@given(sets, sets)
def test_intersection(a: RangeSet, b: RangeSet) -> None:
    assert addresses(a & b) == addresses(a) & addresses(b)
    assert is_normal(a & b)


@given(sets, sets)
def test_covers(a: RangeSet, b: RangeSet) -> None:
    assert a.covers(b) == (addresses(a) >= addresses(b))
    assert a.covers(a & b)


@given(sets)
def test_size_and_truth(a: RangeSet) -> None:
    assert a.size == len(addresses(a))
    assert bool(a) == bool(addresses(a))


@given(sets, st.integers(0, TOP))
def test_without_slivers(a: RangeSet, least: int) -> None:
    kept = a.without_slivers(least)
    assert set(kept) == {r for r in a if r.size >= least}


@given(st.lists(st.tuples(st.integers(0, TOP), st.integers(0, TOP))))
def test_of_drops_empty_pairs(pairs: list[tuple[int, int]]) -> None:
    assert addresses(RangeSet.of(*pairs)) == {a for start, end in pairs for a in range(start, end)}


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 5), (6, 5), (-1, 5)])
def test_a_range_is_never_empty_or_negative(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not a range"):
        Range(start, end)


def test_text_is_that_of_iomem() -> None:
    assert str(Range(0x100000000, 0x120000000)) == "0x100000000-0x11fffffff"
    assert str(RangeSet.of((0, 16), (32, 48))) == "0x0-0xf, 0x20-0x2f"
    assert str(RangeSet()) == "nothing"
