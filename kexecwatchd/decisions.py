# SPDX-License-Identifier: GPL-2.0-or-later
"""Every decision as one journal entry, with its reason and its figures; and what the checks find,
once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kexecwatchd import messages
from kexecwatchd.checks.check import Answer
from kexecwatchd.deeds import so_far
from kexecwatchd.execute import LAST_GOOD
from kexecwatchd.journal import LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING, entry
from kexecwatchd.messages import Message
from kexecwatchd.model import Action, State
from kexecwatchd.report import CheckResult, Decision

_found: dict[str, CheckResult] = {}  # by name, the problems and warnings that were told

# What each action is told as, done and failed.
_KINDS: dict[Action, tuple[Message, Message]] = {
    Action.VERDICT: (messages.VERDICT, messages.VERDICT),
    Action.LOAD: (messages.LOADED, messages.LOAD_FAILED),
    Action.UNLOAD: (messages.UNLOADED, messages.UNLOAD_FAILED),
    Action.DISCARD: (messages.DISCARDED, messages.DISCARD_FAILED),
    Action.SET_MODE: (messages.MODE_SET, messages.MODE_SET),
    Action.HOLD: (messages.HOLD_TAKEN, messages.HOLD_TAKEN),
    Action.RELEASE: (messages.HOLD_ENDED, messages.HOLD_ENDED),
    Action.CONFIGURE: (messages.CONFIGURED, messages.CONFIGURATION_REFUSED),
}


def trouble(message: str) -> None:
    """Something that the daemon lives with, and its owner should know."""
    entry(message, LOG_WARNING, MESSAGE_ID=messages.TROUBLE.id)


def tell(decision: Decision, load_count: int) -> None:
    """The decision as one entry. `load_count` is the image's."""
    kind = _KINDS[decision.action][not decision.succeeded]
    fields: dict[str, str | int] = {
        "MESSAGE_ID": kind.id,
        "DECISION": decision.number,
        "ACTION": decision.action.value,
        "REASON": _reason(decision),
    }
    if decision.image is not None:
        fields |= {
            "IMAGE": decision.image.value,
            "MISSING_BYTES": decision.drift.missing_bytes,
            "EXTRA_BYTES": decision.drift.extra_bytes,
            "MISSING_NOTES": decision.drift.missing_notes,
            "LOAD_COUNT": load_count,
        }
    after = decision.result or decision.state
    optional: dict[str, str | int] = {
        "SEEN": decision.state.value if decision.state else "",
        "VERDICT": after.value if after else "",
        "DURATION_USEC": round(decision.seconds * 1e6),
        "UNARMED_USEC": round(decision.unarmed_seconds * 1e6),
        "ERRNO": decision.errno,
        "SOURCE": decision.source,
        "ASKED_BY": decision.by,
    }
    fields |= {name: value for name, value in optional.items() if value}
    entry(message(decision), _priority(decision), **fields)


def message(decision: Decision) -> str:
    """The decision in a line."""
    image = f"{decision.image} image"
    asked = f" ({decision.by})" if decision.by else ""
    match decision.action:
        case Action.VERDICT:
            return f"{image} {decision.state}: {_reason(decision)}"
        case Action.LOAD if decision.succeeded:
            how = f"{_length(decision)}: {decision.why}{asked}{_from(decision)}"
            return f"{image} loaded{how}{_after(decision)}"
        case Action.UNLOAD if decision.succeeded:
            return _joined(f"{image} unloaded: {decision.why}", decision.result_reason)
        case Action.DISCARD if decision.succeeded:
            return _joined(f"{image} discarded: {decision.why}{asked}", decision.result_reason)
        case Action.LOAD | Action.UNLOAD | Action.DISCARD:
            return f"{image}: {decision.action} failed: {decision.error}{_left(decision)}"
        case Action.CONFIGURE if not decision.succeeded:
            return f"the old configuration stays in force: {decision.error}"
        case Action.SET_MODE:
            return f"{image}: {decision.why}{asked}{_after(decision)}"
    return f"{decision.why}{asked}"


def _reason(decision: Decision) -> str:
    if decision.action is not Action.VERDICT:
        return decision.why
    return _joined(decision.reason, so_far(decision.why))


def _length(decision: Decision) -> str:
    """Not known of a load that was cut short."""
    return f" in {decision.unarmed_seconds:.2f} s" if decision.unarmed_seconds else ""


def _from(decision: Decision) -> str:
    """What was not as it should be with a load that came about."""
    because = "from the last good files, because " if decision.source == LAST_GOOD else ""
    return f"; {because}{decision.error}" if decision.error else ""


def _after(decision: Decision) -> str:
    """What the look after it saw."""
    if decision.result is None:
        return ""
    reason = "" if decision.result is State.CURRENT else f": {decision.result_reason}"
    return f"; it is {decision.result}{reason}"


def _left(decision: Decision) -> str:
    """What there is after a failure."""
    if decision.result in (State.ABSENT, State.FAILED):
        return "; none is loaded"
    return f"; the one that is loaded is {decision.result}" if decision.result else ""


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _priority(decision: Decision) -> int:
    if not decision.succeeded:
        return LOG_WARNING if decision.action is Action.CONFIGURE else LOG_ERR
    if decision.action is Action.VERDICT:
        return LOG_INFO if decision.state is State.CURRENT else LOG_NOTICE
    return LOG_WARNING if decision.error else LOG_NOTICE


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
            kind = messages.CHECK_FOUND
        elif before:
            said = f"no {before.answer} any more: {said}"
            kind = messages.CHECK_GONE
        else:
            continue
        entry(
            said,
            LOG_WARNING if result.answer == Answer.PROBLEM else LOG_NOTICE,
            MESSAGE_ID=kind.id,
            CHECK=result.name,
            ANSWER=result.answer,
        )


def _words(result: CheckResult) -> str:
    """The summary without figures and their units."""
    return re.sub(r"[0-9][0-9.]*( [KMGTPE]iB)?", "", result.summary)
