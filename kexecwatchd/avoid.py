# SPDX-License-Identifier: GPL-2.0-or-later
"""How to load a reboot image so that it lies in memory that stays. Pure.

In this order: kexec_file_load(2) where the kernel's own choice outside of CMA is safe; the same
into CMA, where newer kernels allocate what they load; kexec-tools below the lowest memory that can
go away; and where none of these helps, what the owner wants: refuse, or guard. What was loaded is
judged again in any case. CMA comes second because it does not keep the kernel's alignment (7.3):
most images there would not start.
"""

from __future__ import annotations

from dataclasses import replace

from kexecwatchd import hazards
from kexecwatchd.ledger import ImageRecord, Pair, Prediction
from kexecwatchd.model import Detour, Load, Observation, Segment, WhenUnsafe

# kexec-tools uses nothing below 1 MiB but for the purgatory and what it hands over.
LOWEST = 1 << 20


def route(
    load: Load, pair: Pair, seen: Observation, record: ImageRecord, answer: WhenUnsafe
) -> Load | str:
    """This load, by the way that avoids memory that can go away; or why it is not done."""
    lost = hazards.told_of_lost_memory(seen)
    if lost:
        return f"refused: {lost}"
    if load.detour is not None or load.cma:
        return load
    segments = expected(pair, seen, record)
    if segments is None:
        return _blind(load, seen, record, answer)
    found = hazards.risks(segments, seen)
    if not found:
        return load
    if cma_may_help(seen, record):
        return replace(load, cma=True)
    way = detour(seen, record)
    if isinstance(way, Detour):
        why = f"{load.why}; by kexec-tools, since the kernel would put {hazards.describe(found)}"
        return replace(load, why=why, detour=way)
    if answer is WhenUnsafe.GUARD and not any(r.hazard in hazards.DANGERS for r in found):
        return load
    return f"refused: the kernel would put {hazards.describe(found)}; {way}"


def _blind(load: Load, seen: Observation, record: ImageRecord, answer: WhenUnsafe) -> Load | str:
    """A load of which nobody knows where it goes; what the kernel's log says is judged then."""
    if not hazards.unsafe_memory(seen):
        return load
    way = detour(seen, record)
    if not seen.logs_placement and isinstance(way, Detour):
        return replace(load, why=f"{load.why}; by kexec-tools, which say where", detour=way)
    if seen.limit_reboot == 1 and answer is WhenUnsafe.REFUSE:
        return (
            "refused: kernel.kexec_load_limit_reboot permits one more call, and an image that"
            " turned out to lie in memory that can go away could not be unloaded"
        )
    return load


def known_safe(pair: Pair, seen: Observation, record: ImageRecord) -> bool:
    """True when kexec_file_load(2) would surely put these files into memory that stays."""
    segments = expected(pair, seen, record)
    return segments is not None and not hazards.risks(segments, seen)


def expected(pair: Pair, seen: Observation, record: ImageRecord) -> tuple[Segment, ...] | None:
    """Where kexec_file_load(2) would put these files now; None where that cannot be told."""
    if seen.forecast is not None and record.prediction is not Prediction.DISAGREES:
        return seen.forecast.segments
    landing = record.landing
    if landing is not None and (landing.pair, landing.ram) == (pair, seen.ram):
        # Where it went before it goes again: the kernel looks at System RAM alone, online or not
        # (kexec_locate_mem_hole() in kernel/kexec_file.c).
        return landing.segments
    return None


def cma_may_help(seen: Observation, record: ImageRecord) -> bool:
    """True unless there is no CMA, or it is known not to have room for a sound image."""
    return seen.cma and record.no_cma != seen.ram


def detour(seen: Observation, record: ImageRecord) -> Detour | str:
    """How kexec-tools is to load; or why it cannot help."""
    if seen.tools_obstacle:
        return f"kexec-tools cannot put it elsewhere: {seen.tools_obstacle}"
    if seen.boot is None:
        return "kexec-tools cannot help: what memory there was at boot is not known"
    below = min(r.start for r in hazards.unsafe_memory(seen) or seen.ram)
    if below < LOWEST:
        return "there is no memory that stays below all that can go away"
    failed = record.no_detour
    if failed is not None and (failed.ram, failed.below) == (seen.ram, below):
        return f"kexec-tools could not put it elsewhere: {failed.error}"
    return Detour(below, hazards.hot_added(seen))
