# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a crash kernel's memory goes, held against trying every address for every place of the
kernel."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.crashplace import Reserved, failing, reserve
from kexecwatchd.kernel.crashkernel import Request
from kexecwatchd.ranges import Range, RangeSet

MIB, GIB = 1 << 20, 1 << 30
ALIGN = 16 * MIB


def mib(*pairs: tuple[int, int]) -> RangeSet:
    return RangeSet.of(*((start * MIB, end * MIB) for start, end in pairs))


#: 766 MiB with three holes, and 768 MiB above 4 GiB: the lab's.
FREE = mib((1, 128), (144, 456), (472, 600), (616, 766), (4096, 4864))


@pytest.mark.parametrize(
    ("request_", "kernel_at", "expected"),
    [
        (Request(128 * MIB), 4096, Reserved(Range(624 * MIB, 752 * MIB))),
        # The only room is taken apart: above 4 GiB then, and a part below.
        (Request(320 * MIB), 390, None),
        (Request(320 * MIB), 400, Reserved(*mib((4544, 4864)), *mib((144, 400)))),
        (Request(320 * MIB), 4096, Reserved(*mib((4544, 4864)), *mib((192, 448)))),
        (Request(128 * MIB, high=True), 4096, Reserved(*mib((4736, 4864)), *mib((192, 448)))),
        (Request(800 * MIB, high=True), 4096, None),
        # Below where there is no room above; then no part goes with it.
        (Request(300 * MIB, high=True), 4400, Reserved(*mib((144, 444)))),
        (Request(64 * MIB, base=50 * MIB), 4096, Reserved(*mib((50, 114)))),
        (Request(64 * MIB, base=50 * MIB), 112, None),
        (Request(64 * MIB, base=100 * MIB), 4096, None),
    ],
)
def test_reserve(request_: Request, kernel_at: int, expected: Reserved | None) -> None:
    free = FREE - mib((kernel_at, kernel_at + 44))
    if request_ == Request(300 * MIB, high=True):
        free -= mib((4096, 4200), (4600, 4864))
    assert reserve(request_, free, 256 * MIB) == expected


def brute(request: Request, free: RangeSet, low_size: int) -> Reserved | None:
    """The kernel's search, address by address from the top."""

    def room(size: int, start: int, end: int, align: int = ALIGN) -> Range | None:
        for address in range((end - size) // align * align, max(start, 4096) - 1, -align):
            if any(r.start <= address and address + size <= r.end for r in free):
                return Range(address, address + size)
        return None

    limit = 6 * GIB
    if request.base:
        at = room(request.size, request.base, request.base + request.size, 1)
        return Reserved(at) if at else None
    for low in (False, True) if request.high else (True, False):
        main = room(request.size, 0, 4 * GIB) if low else room(request.size, 4 * GIB, limit)
        if main and (low or not low_size):
            return Reserved(main)
        if main:
            beside = room(low_size, 0, 4 * GIB)
            return Reserved(main, beside) if beside else None
    return None


def free_memory(pieces: list[tuple[int, int]], unit: int) -> RangeSet:
    """Pieces of free memory, half of them below 4 GiB, half above."""
    ranges = []
    for base, half in ((MIB, pieces[::2]), (4 * GIB, pieces[1::2])):
        at = base
        for gap, length in half:
            at += gap * unit
            ranges.append((at, at + length * unit))
            at += length * unit
    return RangeSet.of(*ranges)


PIECES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 120)), max_size=8)
UNIT = 3 * MIB + 4096
REQUESTS = st.builds(
    Request,
    size=st.integers(1, 120).map(lambda n: n * 4 * MIB),
    base=st.just(0) | st.just(0) | st.integers(1, 900).map(lambda n: n * MIB),
    high=st.booleans(),
)


@given(
    pieces=PIECES,
    request=REQUESTS,
    kernel=st.integers(1, 60),
    places=st.lists(st.integers(0, 3000), max_size=30),
    low=st.sampled_from([0, 64, 200, 256]),
)
def test_the_places_that_fail_are_those_and_no_others(
    pieces: list[tuple[int, int]],
    request: Request,
    kernel: int,
    places: list[int],
    low: int,
) -> None:
    free = free_memory(pieces, UNIT)
    found = failing(request, free, kernel * MIB, low * MIB)
    edges = [edge for r in found for edge in (r.start - 1, r.start, r.end - 1, r.end)]
    for place in (*(p * 2 * MIB for p in places), *edges):
        if not 0 <= place < 8 * GIB:
            continue
        left = free - RangeSet.of((place, place + kernel * MIB))
        expected = brute(request, left, low * MIB)
        assert reserve(request, left, low * MIB) == expected
        assert any(r.start <= place < r.end for r in found) == (expected is None)


@given(pieces=PIECES, kernel=st.integers(1, 60))
def test_what_asks_for_less_never_fails_more(pieces: list[tuple[int, int]], kernel: int) -> None:
    """For a SIZE,high it is not so: a larger one that has to go below needs no part there."""
    free = free_memory(pieces, UNIT)
    sizes = range(16 * MIB, 512 * MIB, 48 * MIB)
    whole = [failing(Request(s), free, kernel * MIB, 128 * MIB) for s in sizes]
    parts = [failing(Request(64 * MIB, high=True), free, kernel * MIB, s) for s in sizes]
    for row in (whole, parts):
        assert all(more.covers(less) for less, more in pairwise(row))


def test_no_low_part_is_asked_for() -> None:
    expected = Reserved(*mib((4736, 4864)))
    assert reserve(Request(128 * MIB, high=True), FREE, 0) == expected
    assert not failing(Request(128 * MIB, high=True), FREE, 44 * MIB, 0)


def test_what_has_to_go_below_needs_no_part_there() -> None:
    """No memory above 4 GiB, and less below than the part would take."""
    request, free = Request(64 * MIB, high=True), mib((16, 160))
    assert reserve(request, free, 256 * MIB) == Reserved(*mib((96, 160)))
    assert failing(request, free, 44 * MIB, 256 * MIB) == RangeSet.of((52 * MIB + 1, 80 * MIB))


def test_the_borders_are_4_gib_and_64_tib() -> None:
    tib = 1 << 20
    free = mib((1024, 6144), (63 * tib, 66 * tib))
    assert reserve(Request(GIB), free, 0) == Reserved(*mib((3072, 4096)))
    assert reserve(Request(4 * GIB), free, 256 * MIB) == Reserved(
        *mib((64 * tib - 4096, 64 * tib)), *mib((3840, 4096))
    )
