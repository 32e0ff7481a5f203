# SPDX-License-Identifier: GPL-2.0-or-later
"""Every decision as one journal entry, with its reason and its figures; none for a repetition."""

from __future__ import annotations

from kexecwatchd.execute import Outcome
from kexecwatchd.journal import LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING, entry
from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import ImageName, Load, State, Step, Unload

_told: dict[ImageName, tuple[State, str]] = {}


def trouble(message: str) -> None:
    """Something that the daemon lives with, and its owner should know."""
    entry(message, LOG_WARNING)


def verdict(step: Step, record: ImageRecord) -> None:
    """A verdict, when it or what is done about it is new."""
    new = (step.verdict.state, step.held)
    if _told.get(step.image) == new:
        return
    _told[step.image] = new
    drift = step.verdict.drift
    what = f"; nothing is done: {step.held}" if step.held else ""
    entry(
        f"{step.image} image {step.verdict.state}: {step.verdict.reason}{what}",
        LOG_INFO if step.verdict.state is State.CURRENT else LOG_NOTICE,
        IMAGE=step.image.value,
        VERDICT=step.verdict.state.value,
        MISSING_BYTES=drift.missing.size,
        EXTRA_BYTES=drift.extra.size,
        MISSING_NOTES=len(drift.missing_notes),
        LOAD_COUNT=record.load_count,
    )


def loaded(image: ImageName, load: Load, outcome: Outcome) -> None:
    text = f"{image} image loaded in {outcome.seconds:.2f} s: {load.why}"
    if outcome.degraded:
        text += f"; from the last good files, because {outcome.degraded}"
    if outcome.keep_error:
        text += f"; {outcome.keep_error}"
    entry(
        text,
        LOG_WARNING if outcome.degraded or outcome.keep_error else LOG_NOTICE,
        IMAGE=image.value,
        ACTION="load",
        REASON=load.why,
        SOURCE=outcome.source,
        DURATION_USEC=int(outcome.seconds * 1e6),
    )


def unloaded(image: ImageName, unload: Unload) -> None:
    entry(
        f"{image} image unloaded: {unload.why}",
        LOG_NOTICE,
        IMAGE=image.value,
        ACTION="unload",
        REASON=unload.why,
    )


def failed(image: ImageName, action: str, error: str, record: ImageRecord) -> None:
    """A failure; the same one as last time has been told already."""
    if error != record.last_error:
        entry(f"{image} image: {action} failed: {error}", LOG_ERR, IMAGE=image.value, ACTION=action)
