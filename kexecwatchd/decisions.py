# SPDX-License-Identifier: GPL-2.0-or-later
"""Every decision as one journal entry, with its reason and its figures; none for a repetition."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kexecwatchd.checks.check import Answer
from kexecwatchd.execute import Outcome
from kexecwatchd.journal import LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING, entry
from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import ImageName, Load, State, Step, Unload
from kexecwatchd.report import CheckResult

_told: dict[ImageName, tuple[State, str]] = {}
_found: dict[str, CheckResult] = {}  # by name, the problems and warnings that were told


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


def answered(results: Iterable[CheckResult]) -> None:
    """Each problem and warning of the checks when it is new, says something else, or is gone.

    A check that cannot tell takes nothing back. Other figures alone are no news: free space differs
    each time.
    """
    for result in results:
        if result.answer == Answer.CANNOT_TELL:
            continue
        before = _found.pop(result.name, None)
        said = f"{result.question} {result.summary}"
        if result.answer in (Answer.PROBLEM, Answer.WARNING):
            _found[result.name] = result
            if before and (before.answer, _words(before)) == (result.answer, _words(result)):
                continue
            said = f"{result.answer}: {said}; what to do: kexecwatchctl check {result.name}"
        elif before:
            said = f"no {before.answer} any more: {said}"
        else:
            continue
        entry(
            said,
            LOG_WARNING if result.answer == Answer.PROBLEM else LOG_NOTICE,
            CHECK=result.name,
            ANSWER=result.answer,
        )


def _words(result: CheckResult) -> str:
    """The summary without figures and their units."""
    return re.sub(r"[0-9][0-9.]*( [KMGTPE]iB)?", "", result.summary)
