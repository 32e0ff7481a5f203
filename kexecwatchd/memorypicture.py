# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's memory as one value: what is where, and what may become of it. Pure.

`MemoryPicture` is a promise like report.py's models: fields are only ever added; a changed meaning
raises `schema_version`. It is made of physical addresses, so it is for root alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from kexecwatchd.hazards import hot_added, risks
from kexecwatchd.model import (
    MOVABLE,
    Blocks,
    BlockState,
    BootMemory,
    CoreHeader,
    Drift,
    Hazard,
    ImageName,
    MemoryMap,
    Observation,
    Segment,
)
from kexecwatchd.ranges import Range, RangeSet
from kexecwatchd.report import AddressRange, addresses_of

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RamRange(AddressRange):
    """System RAM of /proc/iomem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    driver_managed: bool = Field(
        False, description='"System RAM (...)": its driver may take it away'
    )


class BlockRun(_Frozen):
    """Memory blocks in a row of which the same is true; block N is at N times `block_size`."""

    first: int
    last: int = Field(description="inclusive")
    state: BlockState
    zone: str = Field(
        "",
        description='first word of valid_zones: the zone of online blocks ("none" = several),'
        " of others the one that they would get",
    )
    node: int | None = Field(None, description="NUMA node; null = the kernel tells none")
    hot_added: bool | None = Field(None, description="not there at boot; null = not known")


class PlacedSegment(AddressRange):
    """Where a part of an image is, or is to be copied to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: ImageName
    name: str = Field("", description='such as "kernel"; "" = not known')
    hazards: list[Hazard] = Field([], description="why it must not lie there, the worst first")


class MemoryPicture(_Frozen):
    """Addresses are hexadecimal and ends inclusive; sizes are bytes."""

    schema_version: int = SCHEMA_VERSION
    block_size: int = Field(description="0 = the kernel has no memory blocks")
    nodes: list[int] = Field([], description="NUMA nodes that have memory blocks")
    ranges: list[RamRange] = Field(description="System RAM, in the order of addresses")
    blocks: list[BlockRun] = []
    crash_regions: list[AddressRange] = Field([], description="reserved for the crash image")
    crash_loaded: bool | None = Field(None, description="null = not known")
    reboot_loaded: bool | None = Field(None, description="null = not known")
    segments: list[PlacedSegment] = Field([], description="of loaded images, as far as known")
    elfcorehdr: str = Field("", description='the crash image\'s memory list; "" = not read')
    missing: list[AddressRange] = Field([], description="RAM that the crash image does not list")
    extra: list[AddressRange] = Field([], description="listed by the crash image, but gone")
    notes: list[str] = Field([], description="what could not be found out")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a picture is made of. `zones` and `nodes` are by block number, as far as known.

    `boot_ram`: the System RAM that was there at boot; None = not known. Segments are of loaded
    images; none where their place is not known. `drift` means something only with a `header`.
    """

    memory: MemoryMap
    blocks: Blocks
    zones: Mapping[int, str] = field(default_factory=dict)
    nodes: Mapping[int, int] = field(default_factory=dict)
    boot_ram: RangeSet | None = None
    crash_loaded: bool | None = None
    reboot_loaded: bool | None = None
    crash_segments: tuple[Segment, ...] = ()
    reboot_segments: tuple[Segment, ...] = ()
    header: CoreHeader | None = None
    drift: Drift = field(default_factory=Drift)
    notes: tuple[str, ...] = ()


def picture_of(survey: Survey) -> MemoryPicture:
    """The picture of what was found."""
    header = survey.header
    return MemoryPicture(
        block_size=survey.blocks.size,
        nodes=sorted({survey.nodes[n] for n in survey.blocks.by_number if n in survey.nodes}),
        ranges=_ram_ranges(survey),
        blocks=list(_block_runs(survey)),
        crash_regions=addresses_of(survey.memory.crash_regions),
        crash_loaded=survey.crash_loaded,
        reboot_loaded=survey.reboot_loaded,
        segments=_segments(survey),
        elfcorehdr=f"{header.address:#x}" if header else "",
        missing=addresses_of(survey.drift.missing) if header else [],
        extra=addresses_of(survey.drift.extra) if header else [],
        notes=list(survey.notes),
    )


def range_of(listed: AddressRange) -> Range:
    """The range that a picture's addresses mean."""
    return Range(int(listed.start, 16), int(listed.end, 16) + 1)


def ranges_of(listed: Iterable[AddressRange]) -> RangeSet:
    """The memory that a picture's addresses mean."""
    return RangeSet(range_of(r) for r in listed)


def _ram_ranges(survey: Survey) -> list[RamRange]:
    managed = survey.memory.system_ram & survey.memory.driver_managed
    parts = [(r, False) for r in survey.memory.system_ram - managed]
    parts += [(r, True) for r in managed]
    return [
        RamRange(start=f"{r.start:#x}", end=f"{r.end - 1:#x}", driver_managed=flag)
        for r, flag in sorted(parts)
    ]


class _Traits(NamedTuple):
    """What blocks in a row have in common."""

    state: BlockState
    zone: str
    node: int | None
    hot_added: bool | None


def _block_runs(survey: Survey) -> Iterator[BlockRun]:
    first = last = -1
    common: _Traits | None = None
    for number, traits in _traits(survey):
        if common is not None and (traits != common or number != last + 1):
            yield BlockRun(first=first, last=last, **common._asdict())
            common = None
        if common is None:
            first, common = number, traits
        last = number
    if common is not None:
        yield BlockRun(first=first, last=last, **common._asdict())


def _traits(survey: Survey) -> Iterator[tuple[int, _Traits]]:
    new = _new_blocks(survey)
    for number, block in sorted(survey.blocks.by_number.items()):
        zone, node = survey.zones.get(number, ""), survey.nodes.get(number)
        yield number, _Traits(block.state, zone, node, None if new is None else number in new)


def _new_blocks(survey: Survey) -> frozenset[int] | None:
    """Numbers of the blocks with memory that was not there at boot; None = not known."""
    if survey.boot_ram is None:
        return None
    return frozenset(survey.blocks.covering(hot_added(_seen(survey))))


def _segments(survey: Survey) -> list[PlacedSegment]:
    seen = _seen(survey)
    placed = [(ImageName.CRASH, s) for s in survey.crash_segments]
    placed += [(ImageName.REBOOT, s) for s in survey.reboot_segments]
    return [
        PlacedSegment(
            image=image,
            name=segment.name or _name(image, segment, survey.header),
            start=f"{segment.range.start:#x}",
            end=f"{segment.range.end - 1:#x}",
            hazards=list(dict.fromkeys(risk.hazard for risk in risks([segment], seen))),
        )
        for image, segment in sorted(placed, key=lambda pair: (pair[0], pair[1].mem))
    ]


def _name(image: ImageName, segment: Segment, header: CoreHeader | None) -> str:
    is_header = image is ImageName.CRASH and header is not None and header.address == segment.mem
    return "elfcorehdr" if is_header else ""


def _seen(survey: Survey) -> Observation:
    """The same as the daemon's rules want to see it."""
    movable = RangeSet(
        survey.blocks.span(number)
        for number, block in survey.blocks.by_number.items()
        if block.state is BlockState.ONLINE and survey.zones.get(number) == MOVABLE
    )
    there = survey.memory.system_ram
    if survey.blocks.size:
        # The blocks go first when memory is removed (try_remove_memory in mm/memory_hotplug.c).
        there &= RangeSet(survey.blocks.span(n) for n in survey.blocks.by_number)
    return Observation(
        map=replace(survey.memory, system_ram=there),
        blocks=survey.blocks,
        crash_loaded=survey.crash_loaded,
        reboot_loaded=survey.reboot_loaded,
        movable=movable,
        boot=None if survey.boot_ram is None else BootMemory(survey.boot_ram),
    )
