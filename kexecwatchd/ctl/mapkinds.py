# SPDX-License-Identifier: GPL-2.0-or-later
"""What a piece of memory is, in one symbol: each address counts once, as the most important thing.

Pure; the terminal's map and the SVG both draw from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kexecwatchd.memorypicture import BlockRun, MemoryPicture, range_of, ranges_of
from kexecwatchd.model import MOVABLE, BlockState, ImageName
from kexecwatchd.ranges import Range, RangeSet


class Kind(Enum):
    """The most important first. The value is the symbol: ASCII, for serial consoles."""

    LOST = "X"
    RISKY = "!"
    REBOOT = "R"
    CRASH = "K"
    RESERVED = "C"
    MISSING = "+"
    EXTRA = "-"
    NO_BLOCK = "?"
    OFFLINE = "o"
    MOVABLE = "m"
    DRIVER = "v"
    HOT_ADDED = "h"
    PLAIN = "#"

    @property
    def symbol(self) -> str:
        return self.value

    @property
    def is_memory(self) -> bool:
        """False where the machine has no memory (any more)."""
        return self not in {Kind.LOST, Kind.EXTRA}


NO_MEMORY = "."

MEANINGS: Mapping[Kind, str] = {
    Kind.LOST: "image in memory that is GONE: starting it can kill the machine",
    Kind.RISKY: "image in memory that is offline or can go away: see Images",
    Kind.REBOOT: "reboot image (kexec)",
    Kind.CRASH: "crash image (kdump)",
    Kind.RESERVED: "reserved for the crash image",
    Kind.MISSING: "memory that the crash image does not list: not in a dump",
    Kind.EXTRA: "GONE, but the crash image lists it: can hang a dump",
    Kind.NO_BLOCK: "memory without a memory block: coming or going",
    Kind.OFFLINE: "offline",
    Kind.MOVABLE: "movable zone: can be taken away",
    Kind.DRIVER: "a driver's (virtio-mem, CXL): can be taken away",
    Kind.HOT_ADDED: "hot-added since boot",
    Kind.PLAIN: "ordinary memory",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses of one kind."""

    range: Range
    kind: Kind


def spans(picture: MemoryPicture) -> tuple[Span, ...]:
    """All of memory, and what is thought to be memory, in the order of addresses."""
    ram = ranges_of(picture.ranges)
    left = ram | ranges_of(picture.segments) | ranges_of(picture.extra)
    found: list[Span] = []
    for kind, held in _by_kind(picture, ram).items():
        # As `held & left`, which would turn a long list twice.
        rest = left - held
        found += [Span(r, kind) for r in left - rest]
        left = rest
    return tuple(sorted(found, key=lambda span: span.range))


def sizes(found: tuple[Span, ...]) -> dict[Kind, int]:
    """Bytes of each kind that there is, the most important kind first."""
    total = dict.fromkeys(Kind, 0)
    for span in found:
        total[span.kind] += span.range.size
    return {kind: size for kind, size in total.items() if size}


def span_of(picture: MemoryPicture, run: BlockRun) -> Range:
    """The addresses of memory blocks in a row."""
    return Range(run.first * picture.block_size, (run.last + 1) * picture.block_size)


def _by_kind(picture: MemoryPicture, ram: RangeSet) -> dict[Kind, RangeSet]:
    """The memory that is of each kind, regardless of the others."""
    segments = ranges_of(picture.segments)
    runs = [(run, span_of(picture, run)) for run in picture.blocks]
    online = [(run, r) for run, r in runs if run.state is BlockState.ONLINE]
    return {
        Kind.LOST: segments - ram,
        Kind.RISKY: ranges_of(s for s in picture.segments if s.hazards),
        Kind.REBOOT: ranges_of(s for s in picture.segments if s.image is ImageName.REBOOT),
        Kind.CRASH: segments,
        Kind.RESERVED: ranges_of(picture.crash_regions) & ram,
        Kind.MISSING: ranges_of(picture.missing) & ram,
        Kind.EXTRA: ranges_of(picture.extra) - ram,
        Kind.NO_BLOCK: ram - RangeSet(r for _, r in runs) if picture.block_size else RangeSet(),
        Kind.OFFLINE: RangeSet(r for run, r in runs if run.state is not BlockState.ONLINE),
        Kind.MOVABLE: RangeSet(r for run, r in online if run.zone == MOVABLE),
        Kind.DRIVER: RangeSet(range_of(r) for r in picture.ranges if r.driver_managed),
        Kind.HOT_ADDED: RangeSet(r for run, r in runs if run.hot_added),
        Kind.PLAIN: ram,
    }
