# SPDX-License-Identifier: GPL-2.0-or-later
"""From what is known inside to what is told outside (report.py). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kexecwatchd import __version__
from kexecwatchd.config import RebootConfig
from kexecwatchd.ledger import ImageRecord, Ledger
from kexecwatchd.model import (
    Action,
    Drift,
    ImageName,
    Load,
    Mode,
    Observation,
    Risk,
    Segment,
    State,
    Step,
    Unload,
)
from kexecwatchd.report import (
    CheckResult,
    Details,
    ImageDetails,
    ImageStatus,
    LastLoad,
    RiskDetails,
    SegmentDetails,
    Status,
    address_of,
    addresses_of,
    sizes_of,
)
from kexecwatchd.startcheck import obstacle_to_start

# Who must worry about a state, most urgent first, for the one line that systemctl shows.
_URGENCY = (
    State.FAILED,
    State.UNSAFE,
    State.STALE,
    State.ABSENT,
    State.UNKNOWN,
    State.CURRENT,
)


@dataclass(frozen=True, slots=True)
class Busy:
    """An action under way. `since`: when it began, in Unix seconds."""

    image: ImageName
    action: Action
    since: float


@dataclass(frozen=True, slots=True)
class Known:
    """All that a report is made from. `due`: when each planned load is due, in Unix seconds.

    `modes` are those in force, `configured` those of the configuration, which was read at
    `configured_at`. `busy`: what is being done now, None = nothing.
    """

    seen: Observation
    ledger: Ledger
    steps: tuple[Step, ...]
    modes: dict[ImageName, Mode]
    configured: dict[ImageName, Mode]
    reboot: RebootConfig
    due: dict[ImageName, float]
    looked_at: float
    kernel_release: str
    configured_at: float = 0
    config_error: str = ""
    busy: Busy | None = None
    checks: tuple[CheckResult, ...] = ()


def status(known: Known) -> Status:
    return Status(
        daemon_version=__version__,
        kernel_release=known.kernel_release,
        looked_at=known.looked_at,
        problem=known.seen.problem,
        config_error=known.config_error,
        configured_at=known.configured_at,
        unarmed_seconds=round(known.ledger.unarmed_seconds, 6),
        holds=[record.hold for record in known.ledger.holds],
        images=[_image(known, step) for step in known.steps],
        switched_off=list(known.seen.switched_off),
        checks=list(known.checks),
    )


def _image(known: Known, step: Step) -> ImageStatus:
    record = known.ledger.of(step.image)
    mode = known.modes[step.image]
    verdict = step.verdict
    loaded = bool(known.seen.loaded(step.image))
    guarded = _guarded(known, step)
    busy = known.busy if known.busy and known.busy.image is step.image else None
    return ImageStatus(
        image=step.image,
        mode=mode,
        configured_mode=known.configured[step.image],
        state=verdict.state,
        reason=verdict.reason,
        covered=covered(mode, step, record) or guarded,
        loaded=loaded,
        guarded=guarded,
        foreign=loaded and not record.ours,
        degraded=record.degraded,
        proof=verdict.proof,
        since=record.since_wall,
        drift=sizes_of(verdict.drift),
        in_progress=busy.action.value if busy else "",
        in_progress_since=busy.since if busy else 0.0,
        load_count=record.load_count,
        last_load=_last_load(record),
        last_error=record.last_error,
        last_action=record.last_action,
        last_action_at=record.last_action_wall,
        next_step=_next_step(step),
        next_try=known.due.get(step.image, 0.0),
        start_obstacle=_start_obstacle(known, step),
    )


def covered(mode: Mode, step: Step, record: ImageRecord) -> bool:
    """Whether the machine has what the mode asks for: "follow" is content with no image at all."""
    if mode is Mode.OFF or step.verdict.state is State.CURRENT:
        return True
    return mode is not Mode.ENSURE and step.verdict.state is State.ABSENT and not record.owed


def _guarded(known: Known, step: Step) -> bool:
    """A reboot image that is kept in memory that can go away, as the configuration asks."""
    touched = known.modes[step.image] in (Mode.ENSURE, Mode.FOLLOW)
    unsafe = step.image is ImageName.REBOOT and step.verdict.state is State.UNSAFE
    return touched and unsafe and not obstacle_to_start(step.verdict, known.reboot)


def _last_load(record: ImageRecord) -> LastLoad:
    load = record.last_load
    if load is None:
        return LastLoad()
    return LastLoad(
        at=load.ended_wall,
        seconds=round(load.seconds, 6),
        succeeded=load.succeeded,
        reason=load.reason,
        source=load.source,
    )


def _next_step(step: Step) -> str:
    if isinstance(step.action, Load):
        return f"load it: {step.action.why}"
    if isinstance(step.action, Unload):
        return f"unload it: {step.action.why}"
    if step.held:
        return f"nothing: {step.held}"
    return ""


def _start_obstacle(known: Known, step: Step) -> str:
    """A panic asks nobody whether the crash image is fit."""
    if step.image is ImageName.CRASH:
        return ""
    return obstacle_to_start(step.verdict, known.reboot)


def details(known: Known) -> Details:
    """The addresses behind the status."""
    return Details(images=[_details(known, step) for step in known.steps])


def _details(known: Known, step: Step) -> ImageDetails:
    drift: Drift = step.verdict.drift
    record = known.ledger.of(step.image)
    placement = record.placement
    header = known.seen.header if step.image is ImageName.CRASH else None
    return ImageDetails(
        image=step.image,
        missing=addresses_of(drift.missing),
        extra=addresses_of(drift.extra),
        missing_notes=list(drift.missing_notes),
        segments=[_segment(s, step.verdict.risks) for s in placement.segments] if placement else [],
        placed_by=placement.source.value if placement else "",
        prediction=record.prediction.value,
        elfcorehdr=f"{header.address:#x}" if header else "",
    )


def _segment(segment: Segment, risks: Sequence[Risk]) -> SegmentDetails:
    where = address_of(segment.range)
    return SegmentDetails(
        start=where.start,
        end=where.end,
        name=segment.name,
        risks=[
            RiskDetails(
                hazard=risk.hazard.value,
                parts=addresses_of(risk.part),
                memory_blocks=list(risk.blocks),
            )
            for risk in risks
            if risk.segment == segment
        ],
    )


def one_line(status: Status) -> str:
    """For systemctl status: the worst image first."""
    watched = [i for i in status.images if i.mode is not Mode.OFF]
    watched.sort(key=lambda i: (i.covered, _URGENCY.index(i.state)))
    if not watched:
        said = ["watching nothing: both images have mode off"]
    else:
        said = [f"{i.image} image {i.state}: {i.reason}" for i in watched]
    if found := len(status.check_problems):
        problems = "problem" if found == 1 else "problems"
        said.append(f"{found} {problems} found by kexecwatchctl check")
    return "; ".join(said)
