# SPDX-License-Identifier: GPL-2.0-or-later
"""Which memory is no place for a reboot image, and what of an image lies there. Pure.

Nothing pins the place that an image is to be copied to: its memory can go offline and away while
the image is loaded (kexec_add_buffer() in kernel/kexec_file.c reserves nothing). Only CMA, which
newer kernels try first, is allocated; but there a kernel loses its alignment (seen on 7.3), and one
that must round its own address up runs into the initrd behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kexecwatchd.model import Hazard, Observation, Risk, Segment
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human

_PAGE = 4096

# With these it would not start; with the others it could come to that.
DANGERS = frozenset({Hazard.GONE, Hazard.OFFLINE, Hazard.MISALIGNED})

_WORDS = {
    Hazard.GONE: "memory that is no longer there",
    Hazard.OFFLINE: "memory that is offline",
    Hazard.MISALIGNED: "CMA at an address where its kernel cannot start",
    Hazard.MOVABLE: "movable memory, which can go offline at any time",
    Hazard.DRIVER_MANAGED: "memory that a driver manages and can take away",
    Hazard.HOT_ADDED: "hot-added memory, which can be removed again",
}


def risks(segments: Iterable[Segment], seen: Observation) -> tuple[Risk, ...]:
    """What of these segments lies where it must not, the worst first; each part counts once."""
    found: list[Risk] = []
    for segment in segments:
        left = RangeSet([segment.range])
        for hazard, memory in _by_hazard(seen, segment):
            part = left & memory
            if part:
                found.append(Risk(segment, part, seen.blocks.covering(part), hazard))
                left -= part
    return tuple(sorted(found, key=lambda risk: list(Hazard).index(risk.hazard)))


def unsafe_memory(seen: Observation) -> RangeSet:
    """All System RAM that is no place for a reboot image."""
    unsafe = RangeSet()
    for memory in _can_go(seen).values():
        unsafe |= memory
    return (unsafe | seen.blocks.offline) & seen.ram


def hot_added(seen: Observation) -> RangeSet:
    """System RAM that was not there at boot and that no driver manages; empty where the memory of
    boot is not known. Memory is hot-added in whole memory blocks."""
    if seen.map is None or seen.boot is None:
        return RangeSet()
    new = seen.ram - seen.boot.ram - seen.map.driver_managed
    return new.without_slivers(seen.blocks.size or _PAGE)


def told_of_lost_memory(seen: Observation) -> str:
    """Why the next kernel would be told of memory that is gone; "" when it would not.

    It is told of the memory that was there at boot, whatever became of it (on x86 the boot-time
    e820 table: setup_e820_entries() in arch/x86/kernel/kexec-bzimage64.c): no load mends that.
    """
    lost = seen.boot.handed_on - seen.ram if seen.boot and seen.boot.handed_on else RangeSet()
    if not lost:
        return ""
    return (
        f"{human(lost.size)} of boot memory is gone, and the next kernel would still be told of it;"
        " reboot through the firmware"
    )


def describe(found: Iterable[Risk]) -> str:
    """In words and sizes, without addresses: "36 MiB of it into movable memory, which …"."""
    sizes: dict[Hazard, int] = {}
    for risk in found:
        sizes[risk.hazard] = sizes.get(risk.hazard, 0) + risk.part.size
    return "; ".join(f"{human(size)} of it into {_WORDS[h]}" for h, size in sizes.items())


def _by_hazard(seen: Observation, segment: Segment) -> Iterator[tuple[Hazard, RangeSet]]:
    """Where a segment would meet each hazard, in Hazard's order."""
    whole = RangeSet([segment.range])
    yield Hazard.GONE, whole - seen.ram
    yield Hazard.OFFLINE, seen.blocks.offline
    yield Hazard.MISALIGNED, whole if segment.mem % segment.alignment else RangeSet()
    yield from _can_go(seen).items()


def _can_go(seen: Observation) -> dict[Hazard, RangeSet]:
    """The memory that is there and can go away."""
    managed = seen.map.driver_managed if seen.map is not None else RangeSet()
    return {
        Hazard.MOVABLE: seen.movable,
        Hazard.DRIVER_MANAGED: managed,
        Hazard.HOT_ADDED: hot_added(seen),
    }
