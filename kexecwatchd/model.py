# SPDX-License-Identifier: GPL-2.0-or-later
"""What the parts tell each other: frozen values, no I/O, no clock.

Sizes and addresses are bytes, ranges half-open (see ranges.py). Times are seconds of
CLOCK_BOOTTIME unless a name says `wall`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from kexecwatchd.ondisk import OnDisk
from kexecwatchd.ranges import Range, RangeSet


class ImageName(StrEnum):
    """The two images that a kernel can hold."""

    CRASH = "crash"
    REBOOT = "reboot"


class Mode(StrEnum):
    """What the daemon may do with an image."""

    ENSURE = "ensure"  # keep one loaded
    FOLLOW = "follow"  # keep it right while one is loaded
    OBSERVE = "observe"  # look and report, touch nothing
    OFF = "off"  # do not look


class State(StrEnum):
    """The verdict on an image."""

    CURRENT = "current"
    STALE = "stale"
    UNSAFE = "unsafe"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    FAILED = "failed"


class Action(StrEnum):
    """What a decision came to."""

    VERDICT = "verdict"  # a new verdict, and nothing is done (now)
    LOAD = "load"
    UNLOAD = "unload"  # the daemon's own, because of the image's memory
    DISCARD = "discard"  # somebody's, for reasons of their own
    SET_MODE = "set-mode"
    HOLD = "hold"
    RELEASE = "release"
    CONFIGURE = "configure"  # a changed configuration was taken, or refused


class WhenUnsafe(StrEnum):
    """What to do with a reboot image that no loader can put into memory that stays."""

    REFUSE = "refuse"  # unload it, and say so
    GUARD = "guard"  # keep it, and unload it the moment its memory goes offline


class Hazard(StrEnum):
    """Why a place is none for a reboot image, the worst first."""

    GONE = "gone"  # no longer in the memory map
    OFFLINE = "offline"
    MISALIGNED = "misaligned"  # not where the kernel in it can start: CMA on 7.3
    MOVABLE = "movable"  # in ZONE_MOVABLE: meant to be taken offline
    DRIVER_MANAGED = "driver-managed"  # "System RAM (virtio_mem)" and its like: the driver takes it
    HOT_ADDED = "hot-added"  # not there at boot: meant to be removed again


class PlacedBy(StrEnum):
    """Who says where an image's segments are."""

    LOG = "log"  # the kernel, in its log (KEXEC_FILE_DEBUG)
    LOADER = "loader"  # kexec-tools, which chose the place itself
    PREDICTION = "prediction"  # the kernel's rules, worked out by us


class ImageFiles(NamedTuple):
    """What an image is loaded from."""

    kernel: Path
    initrd: Path | None
    cmdline: str


MOVABLE = "Movable"  # valid_zones' and zoneinfo's word for ZONE_MOVABLE


class BlockState(StrEnum):
    """The words of memoryN/state."""

    ONLINE = "online"
    OFFLINE = "offline"
    GOING_OFFLINE = "going-offline"


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """/proc/iomem, as far as images care.

    `system_ram` is every "System RAM" resource, driver-managed ones ("System RAM (...)") included;
    `crash_regions` the "Crash kernel" resources; `driver_managed` the driver-managed part of
    `system_ram`. `resources` is the rest of it as the kernel walks it: each resource by itself,
    unmerged, in the order of the file.
    """

    system_ram: RangeSet
    crash_regions: RangeSet = field(default_factory=RangeSet)
    resources: tuple[Range, ...] = ()
    driver_managed: RangeSet = field(default_factory=RangeSet)

    @property
    def crash_region(self) -> Range | None:
        """The one that a crash image is loaded into (crashk_res); a low one beside it, which is
        for DMA (crashk_low_res), is always below."""
        return max(self.crash_regions, default=None)


@dataclass(frozen=True, slots=True)
class Block:
    """A memory block (memoryN)."""

    number: int
    state: BlockState


@dataclass(frozen=True, slots=True)
class Blocks:
    """All memory blocks; block N is [N * size, (N + 1) * size). `size` in bytes, 0 = no sysfs."""

    size: int
    by_number: Mapping[int, Block]

    def span(self, number: int) -> Range:
        return Range(number * self.size, (number + 1) * self.size)

    @property
    def offline(self) -> RangeSet:
        """Memory that is present but not online (going-offline counts as not online)."""
        return RangeSet(
            self.span(b.number) for b in self.by_number.values() if b.state is not BlockState.ONLINE
        )

    def covering(self, ranges: RangeSet) -> tuple[int, ...]:
        """Numbers of the blocks, present or not, that `ranges` touch."""
        if not self.size:
            return ()
        return tuple(
            sorted(
                {
                    n
                    for r in ranges
                    for n in range(r.start // self.size, (r.end - 1) // self.size + 1)
                }
            )
        )


@dataclass(frozen=True, slots=True)
class Note:
    """Where a PT_NOTE points: `address` physical, `size` in bytes."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class CoreHeader:
    """What an elfcorehdr lists: PT_LOADs as one set, and its PT_NOTEs. `address` is its own.

    `copied`: the part of `loads` that a dump has from a copy, which purgatory makes at the crash.
    """

    address: int
    loads: RangeSet
    notes: tuple[Note, ...]
    copied: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True, slots=True)
class Segment:
    """A loaded segment's destination: [mem, mem + memsz).

    `name`: "purgatory", "boot parameters", "kernel", "initrd", or "" where it is not known.
    `alignment`: `mem` must be a multiple of it for what is in it to work; bytes.
    """

    mem: int
    memsz: int
    name: str = ""
    alignment: int = 1

    @property
    def range(self) -> Range:
        return Range(self.mem, self.mem + self.memsz)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies, and who says so. `elfcorehdr`: a crash image's header, None where that
    is not told."""

    segments: tuple[Segment, ...]
    source: PlacedBy
    elfcorehdr: int | None = None

    @property
    def ranges(self) -> RangeSet:
        return RangeSet(segment.range for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Risk:
    """A part of a segment that lies where it must not, and the memory blocks that hold it."""

    segment: Segment
    part: RangeSet
    blocks: tuple[int, ...]
    hazard: Hazard


@dataclass(frozen=True, slots=True)
class Drift:
    """How an image differs from the machine; empty when they agree.

    `missing`: RAM that the image does not list. `extra`: listed, but no longer there.
    `missing_notes`: CPUs (and "vmcoreinfo") whose note the image does not list.
    """

    missing: RangeSet = field(default_factory=RangeSet)
    extra: RangeSet = field(default_factory=RangeSet)
    missing_notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.missing_notes)

    def within(self, other: Drift) -> Drift:
        """The part of this drift that `other` has too."""
        return Drift(
            self.missing & other.missing,
            self.extra & other.extra,
            tuple(n for n in self.missing_notes if n in other.missing_notes),
        )

    def beyond(self, known: Drift) -> Drift:
        """The part of this drift that `known` does not have."""
        return Drift(
            self.missing - known.missing,
            self.extra - known.extra,
            tuple(n for n in self.missing_notes if n not in known.missing_notes),
        )


@dataclass(frozen=True, slots=True)
class BootMemory:
    """The memory that this boot began with; without what drivers manage.

    `ram`: what is not in it was hot-added. `handed_on`: what of it kexec_file_load(2) tells the
    next kernel of, whatever becomes of it; None where that is not known (no x86). `hidden`: more
    that it would tell of, since the loader of this kernel did, although this one was told to leave
    it out; the next one is to be told the same.
    """

    ram: RangeSet
    handed_on: RangeSet | None = None
    hidden: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the machine.

    `map` is None where /proc/iomem could not be used; `problem` then says why. `header` is None
    while no crash image is loaded or its elfcorehdr could not be read (`header_problem`); `drift`
    is the crash image's and means something only with a header. `fingerprint` identifies the
    contents of the crash region, "" where it could not be read. `acpi_memory`: firmware has memory
    devices that a capture kernel would hot-add (kernel/acpi_memory.py). `crash_cmdline`: the loaded
    crash image's command line, None where it could not be read back.

    What decides where a reboot image may lie: `movable` is the memory of online blocks in
    ZONE_MOVABLE, `boot` the memory that was there at boot (None: not known).
    `forecast`: where kexec_file_load(2) would put the configured reboot image now, outside of CMA;
    None where that cannot be told (`forecast_problem`). `cma`: there is CMA memory, which newer
    kernels try first unless they are told not to. `logs_placement`: as far as is known this kernel
    has KEXEC_FILE_DEBUG. `tools_obstacle`: why kexec-tools cannot load,
    "" = it can. `switched_off`: other tools' udev rules that takeover.py switched off.

    `on_disk`: the files of the images that we may load.
    """

    map: MemoryMap | None
    blocks: Blocks
    crash_loaded: bool | None
    reboot_loaded: bool | None
    problem: str = ""
    header: CoreHeader | None = None
    header_problem: str = ""
    drift: Drift = field(default_factory=Drift)
    fingerprint: str = ""
    load_disabled: bool = False
    limit_panic: int = -1
    limit_reboot: int = -1
    acpi_memory: bool = False
    crash_cmdline: str | None = None
    movable: RangeSet = field(default_factory=RangeSet)
    boot: BootMemory | None = None
    forecast: Placement | None = None
    forecast_problem: str = ""
    cma: bool = False
    logs_placement: bool = True
    tools_obstacle: str = ""
    switched_off: tuple[str, ...] = ()
    on_disk: Mapping[ImageName, OnDisk] = field(default_factory=dict)

    @property
    def ram(self) -> RangeSet:
        return self.map.system_ram if self.map else RangeSet()

    @property
    def online(self) -> RangeSet:
        """System RAM that is online: where a reboot image may lie."""
        return self.ram - self.blocks.offline

    def loaded(self, image: ImageName) -> bool | None:
        return self.crash_loaded if image is ImageName.CRASH else self.reboot_loaded

    def with_blocks(self, blocks: Blocks) -> Observation:
        """This look with newer memory blocks; RAM whose block is gone is taken out of the map."""
        if self.map is None:
            return self
        gone = RangeSet(
            self.blocks.span(n) for n in self.blocks.by_number if n not in blocks.by_number
        )
        memory = replace(self.map, system_ram=self.map.system_ram - gone)
        return replace(self, map=memory, blocks=blocks)

    def in_motion(self) -> bool:
        """True while /proc/iomem still lists RAM whose memory block is already gone.

        A removal sends its last uevent before the range leaves /proc/iomem
        (try_remove_memory in mm/memory_hotplug.c), so nothing more will wake us.
        """
        if not self.blocks.size:
            return False
        return any(n not in self.blocks.by_number for n in self.blocks.covering(self.ram))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is so, and what says so. `reason` names no address: it is read by everyone.

    `risks`: the parts of a reboot image that lie where they must not. `danger` marks one that would
    not start: its memory, or memory that it counts on, is offline or gone already, or its kernel is
    misaligned; as opposed to memory that can go.
    """

    state: State
    reason: str
    proof: str = ""
    drift: Drift = field(default_factory=Drift)
    danger: bool = False
    risks: tuple[Risk, ...] = ()


@dataclass(frozen=True, slots=True)
class Detour:
    """A load through kexec-tools: into memory below this address.

    `hidden`: hot-added memory, which the next kernel is not to be told of. kexec-tools would list
    it as boot memory, and a kernel that finds it gone dies; left out, it is found through ACPI, as
    after kexec_file_load(2).
    """

    below: int
    hidden: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True, slots=True)
class Load:
    """Load this image. `endangers`: the present state is worse than a moment unarmed.

    `detour`: None = by kexec_file_load(2). `cma`: by that and into CMA, where it finds room there.
    """

    why: str
    endangers: bool = False
    detour: Detour | None = None
    cma: bool = False


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this image, at once."""

    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """The plan for one image: its verdict, what to do, and if nothing, why not (`held`), and
    whether that passes by itself (`passing`)."""

    image: ImageName
    verdict: Verdict
    action: Load | Unload | None = None
    held: str = ""
    passing: bool = False
