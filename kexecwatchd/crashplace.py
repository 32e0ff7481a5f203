# SPDX-License-Identifier: GPL-2.0-or-later
"""Where x86-64 reserves a crash kernel's memory, and from which of its own places it cannot.

Sources: reserve_crashkernel_generic() in kernel/crash_reserve.c (6.9 and later; from 6.7 in
kernel/crash_core.c), before that reserve_crashkernel() in arch/x86/kernel/setup.c;
__memblock_find_range_top_down() in mm/memblock.c: the highest room that there is. Whether a request
fits depends on the kernel's own place only in so far as that takes all the rooms there are at once.
So the places from which it fails are one range of addresses for each room that is looked for, and
nothing has to be tried.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.kernel.crashkernel import Request
from kexecwatchd.ranges import Range, RangeSet

CRASH_ALIGN = 16 << 20
LOW_MAX = 4 << 30  # CRASH_ADDR_LOW_MAX
HIGH_MAX = 64 << 40  # CRASH_ADDR_HIGH_MAX
_PAGE = 4096
_EVERYWHERE = RangeSet.of((0, 1 << 64))


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was reserved; `low`: the part below 4 GiB that goes with a `main` above."""

    main: Range
    low: Range | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """A search: for `size` bytes in [start, end), at a multiple of `align`."""

    size: int
    start: int
    end: int
    align: int = CRASH_ALIGN

    def in_one(self, free: Range) -> Range | None:
        """The first and the last (end: exclusive) address in a free range at which it fits."""
        first = -(-max(free.start, self.start, _PAGE) // self.align) * self.align
        last = (min(free.end, self.end) - self.size) // self.align * self.align
        return Range(first, last + 1) if first <= last else None

    def highest(self, free: RangeSet) -> Range | None:
        """Where memblock puts it."""
        rooms = [room for r in free if (room := self.in_one(r))]
        return Range(rooms[-1].end - 1, rooms[-1].end - 1 + self.size) if rooms else None

    def failing(self, free: RangeSet, kernel: int) -> RangeSet:
        """From where on a kernel of `kernel` bytes, put into `free`, leaves no room for it: where
        it is in the way of the first place that would do, of the last, and so of all between."""
        rooms = [room for r in free if (room := self.in_one(r))]
        if not rooms:
            return _EVERYWHERE
        first, last = rooms[0].start, rooms[-1].end - 1
        return RangeSet.of((max(last - kernel + 1, 0), first + self.size))


def reserve(request: Request, free: RangeSet, low_size: int) -> Reserved | None:
    """What the kernel reserves of `free` memory; None: nothing. `low_size`: see failing()."""
    low, high, part = _rooms(request, low_size)
    for room in (high, low) if request.high else (low, high):
        if room and (main := room.highest(free)):
            if room is not high or not part:
                return Reserved(main)
            beside = part.highest(free)
            return Reserved(main, beside) if beside else None
    return None


def failing(request: Request, free: RangeSet, kernel: int, low_size: int) -> RangeSet:
    """The kernel's places from which nothing is reserved. `free`: memory without what else is taken
    by then; `kernel`: the kernel's size; `low_size`: the part below 4 GiB where the main one lies
    above, if one is needed: bytes."""
    low, high, part = (
        room.failing(free, kernel) if room else None for room in _rooms(request, low_size)
    )
    assert low is not None
    if high is None:
        return low
    missing = part if part is not None else RangeSet()
    # A part above 4 GiB whose low one does not fit is given back, and nothing else is tried.
    return (high & low) | (missing - high) if request.high else low & (high | missing)


def _rooms(request: Request, low_size: int) -> tuple[Room, Room | None, Room | None]:
    """The searches: below 4 GiB (or at the one address), above, and for the part below."""
    if request.base:
        return Room(request.size, request.base, request.base + request.size, 1), None, None
    part = Room(low_size, 0, LOW_MAX) if low_size else None
    return Room(request.size, 0, LOW_MAX), Room(request.size, LOW_MAX, HIGH_MAX), part
