# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of the ledger when something was done. Pure; the times are handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexecwatchd import hazards, upgrades
from kexecwatchd.addresses import without_addresses
from kexecwatchd.execute import CONFIGURED, Outcome
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_DEBUG
from kexecwatchd.ledger import (
    LOAD_FAILED,
    MAP_MOVED,
    ImageRecord,
    Intent,
    Landing,
    Ledger,
    LoadRecord,
    NoDetour,
    Pair,
    Prediction,
)
from kexecwatchd.model import (
    Drift,
    Hazard,
    ImageName,
    Load,
    Observation,
    PlacedBy,
    Placement,
    State,
    Step,
)
from kexecwatchd.ondisk import OnDisk
from kexecwatchd.ranges import RangeSet
from kexecwatchd.report import Decision

FIRST_RETRY = 5.0  # seconds; doubled with each further failure
LONGEST_RETRY = 300.0
FIRST_UNLOAD_RETRY = 1.0

HISTORY = 256  # decisions that are kept


@dataclass(frozen=True, slots=True)
class Now:
    """The same moment as CLOCK_BOOTTIME and as Unix time, both in seconds."""

    boot: float
    wall: float


def intending(
    ledger: Ledger, image: ImageName, pair: Pair, seen: Observation, *, why: str, now: Now
) -> Ledger:
    """A load is about to begin."""
    return ledger.with_image(
        image,
        intent=Intent(
            pair=pair,
            fingerprint_before=ledger.of(image).fingerprint,
            ram=seen.ram,
            online=seen.online,
            why=why,
            at_wall=now.wall,
            tried=upgrades.tried(seen.on_disk.get(image)),
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
    tried = outcome.signatures or upgrades.tried(before.on_disk.get(image))
    refused = ledger.refused_flags | outcome.refused_flags
    ledger = _unarmed(ledger, outcome).model_copy(update={"refused_flags": refused})
    if not outcome.succeeded:
        if load.detour is not None and outcome.hopeless:
            ledger = _without_detour(ledger, image, before.ram, load.detour.below, outcome.error)
        return ledger.with_image(
            image,
            intent=None,
            owed=record.owed or (LOAD_FAILED if outcome.called else ""),
            # What may yet succeed is still to be tried.
            tried=tried if outcome.hopeless else record.tried,
            failures=record.failures + 1,
            last_error=outcome.error,
            next_try=now.boot + _pause(FIRST_RETRY, record.failures),
        )
    placement = outcome.placement
    if image is ImageName.REBOOT and placement is None:
        placement = _predicted(record, load, outcome, before)
    landing = record.landing
    if image is ImageName.REBOOT and load.detour is None and not load.cma:
        landing = None
        if placement is not None:
            landing = Landing(pair=pair, ram=before.ram, segments=placement.segments)
    return ledger.with_image(
        image,
        intent=None,
        ours=True,
        pair=pair,
        ram=before.ram,
        online=before.online,
        placement=placement,
        below=load.detour.below if load.detour else None,
        cma=load.cma,
        fingerprint="",
        owed="",
        landing=landing,
        uncured=Drift(),
        degraded=outcome.degraded,
        last_good=outcome.kept,
        tried=tried,
        copied=not outcome.keep_error,
        load_count=record.load_count + 1,
        failures=0,
        last_error="",
        next_try=0.0,
        last_action=f"loaded it: {load.why}",
        last_action_wall=now.wall,
    )


def _predicted(
    record: ImageRecord, load: Load, outcome: Outcome, before: Observation
) -> Placement | None:
    """Where the image lies by the kernel's rules, on kernels that do not log it.

    These know no CMA for images either. The prediction was for the configured files.
    """
    by_rules = load.detour is None and outcome.source == CONFIGURED
    trusted = record.prediction is not Prediction.DISAGREES
    unlogged = not before.logs_placement or bool(outcome.refused_flags & KEXEC_FILE_DEBUG)
    if by_rules and trusted and (unlogged or not load.cma):
        return before.forecast
    return None


def confirmed(ledger: Ledger, image: ImageName, before: Observation, after: Observation) -> Ledger:
    """The handshake: the look after a successful load.

    Where the map moved during the load, an image answers for the memory of either look.
    """
    stood_still = (before.ram, before.online) == (after.ram, after.online)
    ledger = ledger.with_image(image, online=before.online | after.online)
    if image is ImageName.REBOOT:
        ledger = ledger.with_image(image, ram=before.ram | after.ram)
        confirm = _confirmed_place if stood_still else _doubted_place
        return confirm(ledger, before, after)
    return ledger.with_image(
        image,
        ram=before.ram,
        fingerprint=after.fingerprint,
        # Drift that is left although the map stood still is beyond what a load can cure.
        uncured=after.drift if stood_still else Drift(),
    )


def _confirmed_place(ledger: Ledger, before: Observation, after: Observation) -> Ledger:
    """The map stood still: was the prediction right, and did the detour help?"""
    record = ledger.reboot
    placement = record.placement
    if placement is None:
        return ledger
    found = hazards.risks(placement.segments, after)
    if found and record.below is not None:
        why = "it put the image there all the same"
        ledger = _without_detour(ledger, ImageName.REBOOT, after.ram, record.below, why)
    # An image that is loaded holds the CMA that it lies in: without it there may be room.
    sound = not any(risk.hazard is Hazard.MISALIGNED for risk in found)
    if found and record.cma and not (sound and before.reboot_loaded):
        ledger = ledger.with_image(ImageName.REBOOT, no_cma=after.ram)
    by_rules = record.below is None and not record.cma and placement.source is PlacedBy.LOG
    trusted = record.prediction is not Prediction.DISAGREES
    # A prediction for other files says little, but must not be what leads to an unsafe place twice.
    meant = not record.degraded or bool(found)
    if by_rules and trusted and meant and before.forecast is not None:
        agrees = placement.ranges == before.forecast.ranges
        prediction = Prediction.AGREES if agrees else Prediction.DISAGREES
        ledger = ledger.with_image(ImageName.REBOOT, prediction=prediction)
    return ledger


def _doubted_place(ledger: Ledger, before: Observation, after: Observation) -> Ledger:
    """The map moved: where the image lies is known only if somebody said so, and where the next one
    will only if System RAM is the same."""
    placement = ledger.reboot.placement
    if before.ram != after.ram:
        ledger = ledger.with_image(ImageName.REBOOT, landing=None)
    if placement is not None and placement.source is PlacedBy.PREDICTION:
        ledger = ledger.with_image(ImageName.REBOOT, placement=None, owed=MAP_MOVED)
    elif ledger.reboot.below is not None and after.ram - before.ram:
        # What came during the load is not hidden from the next kernel: see Detour.
        ledger = ledger.with_image(ImageName.REBOOT, owed=MAP_MOVED)
    return ledger


def _without_detour(
    ledger: Ledger, image: ImageName, ram: RangeSet, below: int, error: str
) -> Ledger:
    return ledger.with_image(image, no_detour=NoDetour(ram=ram, below=below, error=error))


def _unarmed(ledger: Ledger, outcome: Outcome) -> Ledger:
    """The system calls of a load or unload of either image hold the lock that a panic needs
    (__crash_kexec() in kernel/crash_core.c). Of kexec-tools the whole run is counted."""
    seconds = ledger.unarmed_seconds + outcome.seconds
    return ledger.model_copy(update={"unarmed_seconds": seconds})


def after_failed_unload(ledger: Ledger, image: ImageName, outcome: Outcome, now: Now) -> Ledger:
    """A dangerous image is still there."""
    failures = ledger.of(image).failures
    return _unarmed(ledger, outcome).with_image(
        image,
        failures=failures + 1,
        last_error=outcome.error,
        next_unload=now.boot + _pause(FIRST_UNLOAD_RETRY, failures),
    )


def _pause(first: float, failures: int) -> float:
    """Before the next try, after that many failures and one more."""
    return min(first * 2.0 ** min(failures, 10), LONGEST_RETRY)


def after_unload(
    ledger: Ledger, image: ImageName, why: str, owed: bool, *, outcome: Outcome, now: Now
) -> Ledger:
    """An image was unloaded because of its memory; `owed`: we are to load another."""
    return _unarmed(ledger, outcome).with_image(
        image,
        owed=f"it was unloaded because {why}" if owed else "",
        failures=0,
        last_error="",
        next_unload=0.0,
        last_action=f"unloaded it: {why}",
        last_action_wall=now.wall,
    )


def after_discard(
    ledger: Ledger, image: ImageName, why: str, *, outcome: Outcome, now: Now
) -> Ledger:
    """Somebody had it unloaded, or tried to: nothing is owed, and a failure was told to them."""
    ledger = _unarmed(ledger, outcome)
    if not outcome.succeeded:
        return ledger
    return ledger.with_image(
        image,
        owed="",
        failures=0,
        last_error="",
        next_try=0.0,
        next_unload=0.0,
        last_action=f"discarded it: {why}",
        last_action_wall=now.wall,
    )


def decided(ledger: Ledger, decision: Decision) -> Ledger:
    """The decision goes into the history, with the next number; its texts lose their addresses."""
    last = ledger.decisions[-1].number if ledger.decisions else 0
    texts = ("reason", "why", "error", "result_reason")
    clean = {name: without_addresses(getattr(decision, name)) for name in texts}
    numbered = decision.model_copy(update={"number": last + 1, **clean})
    kept = (*ledger.decisions, numbered)[-HISTORY:]
    return ledger.model_copy(update={"decisions": kept})


def with_states(ledger: Ledger, steps: tuple[Step, ...], now: Now) -> Ledger:
    """Note since when each state holds. Where all is well, what fails next fails anew."""
    for step in steps:
        if step.verdict.state is State.CURRENT and step.action is None:
            ledger = ledger.with_image(step.image, failures=0)
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


def new_files(
    ledger: Ledger, before: Mapping[ImageName, OnDisk], after: Mapping[ImageName, OnDisk]
) -> Ledger:
    """Where files were finished between two looks, what failed before may work now."""
    for image, disk in after.items():
        new = not disk.unfinished and disk != before.get(image)
        if new and disk.signatures != ledger.of(image).tried:
            ledger = ledger.with_image(image, next_try=0.0)
    return ledger


def new_chance(ledger: Ledger) -> Ledger:
    """Somebody has looked after it: kexec-tools, or files of the same name, may do better now."""
    return ledger.with_image(ImageName.REBOOT, landing=None, no_detour=None, no_cma=None)
