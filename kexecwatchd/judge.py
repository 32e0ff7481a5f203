# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts: what an observation and the ledger prove about each image. Pure.

Reasons carry sizes, never addresses: they are read by everyone (D-Bus, journal, screen).
"""

from __future__ import annotations

from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import Drift, ImageName, Observation, State, Verdict
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human

MOVABLE = "Movable"  # valid_zones' word for ZONE_MOVABLE

# Without it a capture kernel hot-adds ACPI memory devices: see kernel/acpi_memory.py.
NO_MEMORY_HOTPLUG = "acpi_no_memhotplug"


def judge(image: ImageName, seen: Observation, record: ImageRecord) -> Verdict:
    """What is so of this image."""
    loaded = seen.loaded(image)
    if loaded is None and seen.problem:
        return Verdict(State.UNKNOWN, seen.problem)
    if loaded is None:
        return Verdict(State.ABSENT, "this kernel has no kexec support")
    if not loaded:
        return _not_loaded(image, seen, record)
    if seen.map is None:
        return Verdict(State.UNKNOWN, seen.problem)
    return _crash(seen, record) if image is ImageName.CRASH else _reboot(seen, record)


def _not_loaded(image: ImageName, seen: Observation, record: ImageRecord) -> Verdict:
    if record.last_error:
        return Verdict(State.FAILED, f"none is loaded: {record.last_error}")
    if image is ImageName.CRASH and seen.map and not seen.map.crash_regions:
        return Verdict(
            State.ABSENT,
            "none can be loaded: no memory is reserved for it (boot with crashkernel=)",
        )
    return Verdict(State.ABSENT, "none is loaded")


def _crash(seen: Observation, record: ImageRecord) -> Verdict:
    if seen.header is None:
        return _crash_by_ledger(seen, record)
    if seen.drift:
        return Verdict(State.STALE, describe(seen.drift), "read-back", seen.drift)
    if seen.acpi_memory and not _leaves_memory_alone(seen, record):
        return Verdict(
            State.UNSAFE,
            "its memory list is right, but the capture kernel would take hot-added memory for its"
            f" own and could not dump it: its command line lacks {NO_MEMORY_HOTPLUG}",
            "read-back",
        )
    return Verdict(State.CURRENT, "it lists all of memory and every CPU", "read-back")


def _leaves_memory_alone(seen: Observation, record: ImageRecord) -> bool:
    """What is not known is not held against the image."""
    cmdline = seen.crash_cmdline
    if cmdline is None and record.ours and record.pair is not None:
        cmdline = record.pair.cmdline
    return cmdline is None or NO_MEMORY_HOTPLUG in cmdline.split()


def _crash_by_ledger(seen: Observation, record: ImageRecord) -> Verdict:
    """elfcorehdr cannot be read: the map under which we loaded still tells what changed since."""
    if not record.ours or record.ram is None:
        return Verdict(State.UNKNOWN, f"its memory list cannot be read: {seen.header_problem}")
    drift = Drift(seen.ram - record.ram, record.ram - seen.ram)
    if drift:
        return Verdict(State.STALE, f"{describe(drift)} since it was loaded", "ledger", drift)
    return Verdict(
        State.UNKNOWN,
        "memory is as it was when it was loaded, but that is not proven: its memory list"
        f" cannot be read ({seen.header_problem})",
        "ledger",
    )


def _reboot(seen: Observation, record: ImageRecord) -> Verdict:
    if record.segments is not None:
        return _reboot_placed(seen, record.segments)
    ram, online = record.ram or RangeSet(), record.online or RangeSet()
    # It may lie in memory that was offline all the time: the kernel does not look at that.
    gone = (online - seen.online) | (ram - seen.ram)
    if gone:
        return Verdict(
            State.UNSAFE,
            f"where it lies is not known, and {human(gone.size)} of memory went offline or away"
            " since it was loaded",
            "ledger",
            danger=True,
        )
    if record.ours and ram - online:
        return Verdict(
            State.UNKNOWN,
            f"where it lies is not known, and {human((ram - online).size)} of memory was offline"
            " when it was loaded",
            "ledger",
        )
    if record.ours:
        return Verdict(
            State.CURRENT,
            "where it lies is not known, but no memory went offline or away since it was loaded",
            "ledger",
        )
    return Verdict(
        State.UNKNOWN,
        "someone else loaded it and where it lies is not known; no memory went offline or away"
        " since it was first seen",
        "ledger",
    )


def _reboot_placed(seen: Observation, segments: RangeSet) -> Verdict:
    lost = segments - seen.online
    if lost:
        absent = segments - seen.ram
        what = "no longer there" if absent else "offline"
        return Verdict(
            State.UNSAFE,
            f"{human(lost.size)} of it would be put into memory that is {what}",
            "placement",
            danger=True,
        )
    movable = [n for n in seen.blocks.covering(segments) if seen.zones.get(n) == MOVABLE]
    if movable:
        return Verdict(
            State.UNSAFE,
            f"it lies in {len(movable)} movable memory block(s), which can go offline at any"
            " time; it is unloaded the moment one does",
            "placement",
        )
    return Verdict(State.CURRENT, "all of it lies in memory that is online", "placement")


def describe(drift: Drift) -> str:
    """A drift in words and sizes."""
    parts = []
    if drift.missing:
        parts.append(f"{human(drift.missing.size)} of memory would be missing from a dump")
    if drift.extra:
        parts.append(f"{human(drift.extra.size)} that it lists is no longer there")
    if drift.missing_notes:
        parts.append(f"the notes of {len(drift.missing_notes)} CPU(s) would be missing")
    return "; ".join(parts)
