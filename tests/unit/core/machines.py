# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines to draw: one that fits into a small guest, and one that fills a rack."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from kexecwatchd.memorypicture import Survey
from kexecwatchd.model import (
    Block,
    Blocks,
    BlockState,
    CoreHeader,
    Drift,
    MemoryMap,
    Note,
    Segment,
)
from kexecwatchd.ranges import Range, RangeSet

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CRASH_REGION = Range(0x20000000, 0x30000000)


def blocks_of(ram: RangeSet, size: int) -> Blocks:
    """An online block wherever there is RAM."""
    numbers = Blocks(size, {}).covering(ram)
    return Blocks(size, {n: Block(n, BlockState.ONLINE) for n in numbers})


def small() -> Survey:
    """1 GiB in 8 blocks: 768 MiB at the bottom, 256 MiB above 4 GiB, both images loaded."""
    ram = RangeSet.of((0x1000, 0x9FC00), (MIB, 768 * MIB), (4 * GIB, 4 * GIB + 256 * MIB))
    blocks = blocks_of(ram, 128 * MIB)
    top = 4 * GIB + 256 * MIB
    return Survey(
        memory=MemoryMap(ram, RangeSet([CRASH_REGION])),
        blocks=blocks,
        zones={n: "none" if n == 0 else "DMA32" if n < 32 else "Normal" for n in blocks.by_number},
        nodes=dict.fromkeys(blocks.by_number, 0),
        boot_ram=ram,
        crash_loaded=True,
        reboot_loaded=True,
        crash_segments=(
            Segment(0x20000000, 16 * KIB),
            Segment(0x2C000000, 24 * MIB, "initrd"),
            Segment(0x2D800000, 38 * MIB, "kernel"),
            Segment(0x2FFF0000, 20 * KIB, "boot parameters"),
            Segment(0x2FFFB000, 20 * KIB, "purgatory"),
        ),
        reboot_segments=(
            Segment(top - 64 * MIB, 24 * MIB, "initrd"),
            Segment(top - 40 * MIB, 38 * MIB, "kernel"),
            Segment(top - 64 * KIB, 20 * KIB, "boot parameters"),
            Segment(top - 20 * KIB, 20 * KIB, "purgatory"),
        ),
        header=CoreHeader(0x20000000, ram, (Note(0x3000, 368),)),
    )


def small_with_dimm() -> Survey:
    """The same with a DIMM of 512 MiB, not yet in the crash image's list, which took the reboot
    image; one of its blocks is offline, and the list has memory that is gone."""
    machine = small()
    dimm = RangeSet.of((5 * GIB, 5 * GIB + 512 * MIB))
    ram = machine.memory.system_ram | dimm
    blocks = blocks_of(ram, 128 * MIB)
    first = 5 * GIB // blocks.size
    by_number = {**blocks.by_number, first: Block(first, BlockState.OFFLINE)}
    top = 5 * GIB + 512 * MIB
    return replace(
        machine,
        memory=replace(machine.memory, system_ram=ram),
        blocks=Blocks(blocks.size, by_number),
        zones={**machine.zones, **dict.fromkeys(range(first, first + 4), "Movable")},
        nodes=dict.fromkeys(by_number, 0),
        reboot_segments=tuple(
            replace(s, mem=s.mem - (4 * GIB + 256 * MIB) + top) for s in machine.reboot_segments
        ),
        drift=Drift(missing=dimm, extra=RangeSet.of((6 * GIB, 6 * GIB + 256 * MIB))),
        notes=("what the weather is like",),
    )


def big(block_size: int = 2 * GIB) -> Survey:
    """2 TiB on four nodes with holes: below 4 GiB for devices, and before each further node. The
    last 64 GiB are hot-added and movable; a part of them is offline, and not in the crash image's
    list."""
    ram = RangeSet.of(
        (0x1000, 0x9FC00),
        (MIB, 2 * GIB),
        (4 * GIB, 514 * GIB),
        *((n * TIB, n * TIB + 512 * GIB) for n in (1, 2)),
        (3 * TIB, 3 * TIB + 448 * GIB),
        (3 * TIB + 512 * GIB, 3 * TIB + 576 * GIB),
    )
    blocks = blocks_of(ram, block_size)
    late = RangeSet.of((3 * TIB + 512 * GIB, 3 * TIB + 576 * GIB))
    dark = set(blocks.covering(RangeSet.of((3 * TIB + 560 * GIB, 3 * TIB + 576 * GIB))))
    new = set(blocks.covering(late))
    top = 3 * TIB + 512 * GIB + 8 * GIB
    return Survey(
        memory=MemoryMap(ram, RangeSet.of((512 * MIB, 768 * MIB), (64 * GIB, 65 * GIB))),
        blocks=Blocks(
            block_size,
            {
                n: replace(b, state=BlockState.OFFLINE) if n in dark else b
                for n, b in blocks.by_number.items()
            },
        ),
        zones={
            n: "Movable"
            if n in new
            else "none"
            if n == 0
            else "DMA32"
            if n * block_size < 4 * GIB
            else "Normal"
            for n in blocks.by_number
        },
        nodes={n: n * block_size // TIB for n in blocks.by_number},
        boot_ram=ram - late,
        crash_loaded=True,
        reboot_loaded=True,
        reboot_segments=(
            Segment(2 * TIB + 512 * GIB - 64 * MIB, 38 * MIB, "kernel"),
            Segment(2 * TIB + 512 * GIB - 64 * KIB, 20 * KIB, "boot parameters"),
            Segment(2 * TIB + 512 * GIB - 20 * KIB, 20 * KIB, "purgatory"),
            Segment(top - 128 * MIB, 128 * MIB, "initrd"),
        ),
        header=CoreHeader(64 * GIB, ram, (Note(0x3000, 368),)),
        drift=Drift(missing=RangeSet.of((3 * TIB + 560 * GIB, 3 * TIB + 576 * GIB))),
    )


def managed(machine: Survey, memory: RangeSet) -> MemoryMap:
    """The machine's memory map, this part of it managed by a driver."""
    return replace(machine.memory, driver_managed=memory)


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    """Any machine, also such as no kernel would show: nothing need fit anything else."""
    block_size = draw(st.sampled_from([0, 128 * MIB, 2 * GIB]))
    ram = draw(_ranges.filter(bool))
    numbers = Blocks(block_size, {}).covering(ram)
    kept = [n for n in numbers if draw(st.integers(0, 9))] if len(numbers) < 40 else numbers
    states = draw(st.lists(st.sampled_from(BlockState), min_size=1, max_size=7))
    zones = draw(st.lists(st.sampled_from(["Normal", "Movable", "none", ""]), min_size=1))
    spread = draw(st.sampled_from([0, 1, 3, 1000]))
    return Survey(
        memory=MemoryMap(ram, draw(_ranges), driver_managed=draw(_ranges)),
        blocks=Blocks(block_size, {n: Block(n, states[n % len(states)]) for n in kept}),
        zones={n: zones[n % len(zones)] for n in kept},
        nodes={n: n * spread // (max(kept) + 1) for n in kept} if spread else {},
        boot_ram=draw(st.none() | _ranges),
        crash_loaded=draw(st.none() | st.booleans()),
        reboot_loaded=draw(st.none() | st.booleans()),
        crash_segments=draw(_segments),
        reboot_segments=draw(_segments),
        header=CoreHeader(CRASH_REGION.start, ram, ()) if draw(st.booleans()) else None,
        drift=Drift(draw(_ranges), draw(_ranges)),
        notes=tuple(draw(st.lists(st.text(max_size=200), max_size=2))),
    )


# In pages: sizes and places from one page up to terabytes.
_sizes = st.integers(0, 28).flatmap(lambda bits: st.integers(1, 1 << bits)).map(lambda n: n << 12)
_places = st.integers(0, 31).flatmap(lambda bits: st.integers(0, 1 << bits)).map(lambda n: n << 12)
_ranges = st.lists(st.tuples(_places, _sizes), max_size=6).map(
    lambda pairs: RangeSet.of(*((start, start + size) for start, size in pairs))
)
_segments = st.lists(
    st.builds(Segment, _places, _sizes, st.sampled_from(["", "kernel", "initrd"])), max_size=5
).map(tuple)
