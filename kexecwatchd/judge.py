# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts: what an observation and the ledger prove about each image. Pure.

Reasons carry sizes, never addresses: they are read by everyone (D-Bus, journal, screen).
"""

from __future__ import annotations

from kexecwatchd import hazards
from kexecwatchd.kernel.acpi_memory import NO_MEMORY_HOTPLUG
from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import (
    Drift,
    ImageName,
    Observation,
    PlacedBy,
    Placement,
    State,
    Verdict,
)
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human


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
    if image is ImageName.CRASH:
        return _crash(seen, record)
    lost = hazards.told_of_lost_memory(seen)
    if lost:
        return Verdict(State.STALE, lost, "boot memory", danger=True)
    return _reboot(seen, record)


def _not_loaded(image: ImageName, seen: Observation, record: ImageRecord) -> Verdict:
    if record.last_error:
        return Verdict(State.FAILED, f"none is loaded: {record.last_error}")
    if image is ImageName.CRASH and seen.map and not seen.map.crash_regions:
        return Verdict(
            State.ABSENT,
            "none can be loaded: no memory is reserved for it (boot with crashkernel=)",
        )
    if record.owed:
        return Verdict(State.ABSENT, f"none is loaded: {record.owed}")
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
    if record.placement is not None:
        return _reboot_placed(seen, record.placement)
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
    if not record.ours:
        return Verdict(
            State.UNKNOWN,
            "someone else loaded it and where it lies is not known; no memory went offline or away"
            " since it was first seen",
            "ledger",
        )
    doubtful = hazards.unsafe_memory(seen)
    if doubtful:
        return Verdict(
            State.UNKNOWN,
            f"where it lies is not known{_why_not(seen)}, and {human(doubtful.size)} of memory is"
            " offline or can go away",
            "ledger",
        )
    return Verdict(
        State.CURRENT,
        "where it lies is not known, but no memory went offline or away since it was loaded, and"
        " none can",
        "ledger",
    )


def _why_not(seen: Observation) -> str:
    return f" ({seen.forecast_problem})" if seen.forecast_problem else ""


_PROOFS = {
    PlacedBy.LOG: "placement",
    PlacedBy.LOADER: "loader",
    PlacedBy.PREDICTION: "prediction",
}


def _reboot_placed(seen: Observation, placement: Placement) -> Verdict:
    found = hazards.risks(placement.segments, seen)
    predicted = placement.source is PlacedBy.PREDICTION
    how = " (predicted: this kernel does not log where it loads)" if predicted else ""
    proof = _PROOFS[placement.source]
    if found:
        danger = any(risk.hazard in hazards.DANGERS for risk in found)
        reason = f"starting it would put {hazards.describe(found)}{how}"
        return Verdict(State.UNSAFE, reason, proof, danger=danger, risks=found)
    return Verdict(State.CURRENT, f"all of it lies in memory that stays{how}", proof)


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
