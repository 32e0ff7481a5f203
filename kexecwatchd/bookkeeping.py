# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of the ledger when something was done. Pure; the times are handed in."""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.execute import Outcome
from kexecwatchd.ledger import LOAD_FAILED, Intent, Landing, Ledger, LoadRecord, Pair
from kexecwatchd.model import Drift, ImageName, Load, Observation, Step
from kexecwatchd.ranges import RangeSet

FIRST_RETRY = 5.0  # seconds; doubled with each further failure
LONGEST_RETRY = 300.0
FIRST_UNLOAD_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Now:
    """The same moment as CLOCK_BOOTTIME and as Unix time, both in seconds."""

    boot: float
    wall: float


def intending(ledger: Ledger, image: ImageName, pair: Pair, seen: Observation) -> Ledger:
    """A load is about to begin."""
    return ledger.with_image(
        image,
        intent=Intent(
            pair=pair,
            fingerprint_before=ledger.of(image).fingerprint,
            ram=seen.ram,
            online=seen.online,
        ),
    )


def after_load(
    ledger: Ledger,
    image: ImageName,
    pair: Pair,
    load: Load,
    *,
    outcome: Outcome,
    before: Observation,
    now: Now,
) -> Ledger:
    """A load ended, well or not; `before` is the look that it was decided on."""
    record = ledger.of(image)
    if outcome.called:
        ledger = ledger.with_image(
            image,
            last_load=LoadRecord(
                ended=now.boot,
                ended_wall=now.wall,
                seconds=outcome.seconds,
                succeeded=outcome.succeeded,
                reason=load.why,
                source=outcome.source,
            ),
        )
    if outcome.debug_refused:
        ledger = ledger.model_copy(update={"debug_flag": False})
    if not outcome.succeeded:
        return ledger.with_image(
            image,
            intent=None,
            owed=record.owed or (LOAD_FAILED if outcome.called else ""),
            failures=record.failures + 1,
            last_error=outcome.error,
            next_try=now.boot + _pause(FIRST_RETRY, record.failures),
        )
    placement = outcome.placement
    return ledger.with_image(
        image,
        intent=None,
        ours=True,
        pair=pair,
        ram=before.ram,
        online=before.online,
        segments=RangeSet(s.range for s in placement.segments) if placement else None,
        elfcorehdr=placement.elfcorehdr if placement else None,
        fingerprint="",
        owed="",
        landing=None,
        uncured=Drift(),
        degraded=outcome.degraded,
        last_good=outcome.kept,
        load_count=record.load_count + 1,
        failures=0,
        last_error="",
        next_try=0.0,
        last_action=f"loaded it: {load.why}",
        last_action_wall=now.wall,
    )


def confirmed(ledger: Ledger, image: ImageName, before: Observation, after: Observation) -> Ledger:
    """The handshake: the look after a successful load.

    Drift that is left although the map stood still is beyond what a load can cure. Where the map
    moved during the load, a reboot image answers for the memory of either look.
    """
    stood_still = (before.ram, before.online) == (after.ram, after.online)
    is_crash = image is ImageName.CRASH
    return ledger.with_image(
        image,
        ram=before.ram if is_crash else before.ram | after.ram,
        online=before.online | after.online,
        fingerprint=after.fingerprint if is_crash else "",
        uncured=after.drift if is_crash and stood_still else Drift(),
    )


def after_failed_unload(ledger: Ledger, image: ImageName, error: str, now: Now) -> Ledger:
    """A dangerous image is still there."""
    failures = ledger.of(image).failures
    return ledger.with_image(
        image,
        failures=failures + 1,
        last_error=error,
        next_unload=now.boot + _pause(FIRST_UNLOAD_RETRY, failures),
    )


def _pause(first: float, failures: int) -> float:
    """Before the next try, after that many failures and one more."""
    return min(first * 2.0 ** min(failures, 10), LONGEST_RETRY)


def after_unload(ledger: Ledger, image: ImageName, why: str, owed: bool, now: Now) -> Ledger:
    """An image was unloaded because it had become dangerous; `owed`: we are to load another."""
    record = ledger.of(image)
    landing = None
    if record.ram is not None and record.segments is not None:
        landing = Landing(ram=record.ram, segments=record.segments)
    return ledger.with_image(
        image,
        landing=landing,
        owed="it was unloaded because its memory went away" if owed else "",
        failures=0,
        last_error="",
        next_try=0.0,
        next_unload=0.0,
        last_action=f"unloaded it: {why}",
        last_action_wall=now.wall,
    )


def with_states(ledger: Ledger, steps: tuple[Step, ...], now: Now) -> Ledger:
    """Note since when each state holds."""
    for step in steps:
        if ledger.of(step.image).state is not step.verdict.state:
            ledger = ledger.with_image(step.image, state=step.verdict.state, since_wall=now.wall)
    return ledger


def retry_now(ledger: Ledger) -> Ledger:
    """Something happened on the machine: what failed before may work now."""
    for image in ImageName:
        record = ledger.of(image)
        if record.next_try or record.next_unload:
            ledger = ledger.with_image(image, next_try=0.0, next_unload=0.0)
    return ledger
