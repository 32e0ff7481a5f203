# SPDX-License-Identifier: GPL-2.0-or-later
"""What was decided, as text: a few lines each, the newest last, where the eye is.

Pure: the same arguments give the same text (local time apart). Colour only repeats what the words
say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from kexecwatchd.ctl.screen import span
from kexecwatchd.ctl.text import GREEN, RED, YELLOW, painted, plain, wrapped
from kexecwatchd.deeds import so_far
from kexecwatchd.model import Action, State
from kexecwatchd.report import Decision, DriftSizes
from kexecwatchd.sizes import human

_LABEL_WIDTH = 9

# What each action is called, done and failed. A verdict is called by the state that was seen.
_CALLED: dict[Action, tuple[str, str]] = {
    Action.LOAD: ("LOADED", "LOAD FAILED"),
    Action.UNLOAD: ("UNLOADED", "UNLOAD FAILED"),
    Action.DISCARD: ("DISCARDED", "DISCARD FAILED"),
    Action.SET_MODE: ("MODE SET", "MODE NOT SET"),
    Action.HOLD: ("HOLD TAKEN", "HOLD REFUSED"),
    Action.RELEASE: ("HOLD ENDED", "HOLD NOT ENDED"),
    Action.CONFIGURE: ("CONFIGURATION TAKEN", "CONFIGURATION REFUSED"),
}


def render(decisions: Sequence[Decision], *, width: int, colour: bool) -> str:
    """All of them, without a final newline. `width` is columns."""
    if not decisions:
        return "Nothing has been decided in this boot."
    return "\n".join(line for decision in decisions for line in _block(decision, width, colour))


def _block(decision: Decision, width: int, colour: bool) -> list[str]:
    word, code = _called(decision)
    about = f"{decision.image} image " if decision.image else ""
    head = f"{moment(decision.at)}  {about}{word}{_outcome(decision)}"
    lines = painted(word, head, " " * _LABEL_WIDTH, width=width, code=code, colour=colour)
    for label, text in _facts(decision):
        if not text:
            continue
        line = f"  {label}".ljust(_LABEL_WIDTH) + plain(text)
        lines += wrapped(line, width, " " * _LABEL_WIDTH)
    return lines


def in_one_line(decision: Decision) -> str:
    """The decision for a list that grows."""
    word, _ = _called(decision)
    about = f"{decision.image} image " if decision.image else ""
    why = _joined(*(text for label, text in _facts(decision) if label in ("why", "error")))
    return f"{moment(decision.at)}  {about}{word}{_outcome(decision)}: {plain(why)}"


def moment(at: float) -> str:
    """Local date and time, as the journal has it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _called(decision: Decision) -> tuple[str, str]:
    """What was done, in a word, and its colour."""
    if decision.action is Action.VERDICT:
        state = decision.state or State.UNKNOWN
        return state.upper(), GREEN if state is State.CURRENT else YELLOW
    done, failed = _CALLED[decision.action]
    if not decision.succeeded:
        return failed, RED
    wrong = decision.error or decision.result not in (None, State.CURRENT, State.ABSENT)
    return done, YELLOW if wrong else GREEN


def _outcome(decision: Decision) -> str:
    """What there was after it."""
    return f"; it is {decision.result} now" if decision.result else ""


def _facts(decision: Decision) -> Iterator[tuple[str, str]]:
    """A label and a text for each line below the head."""
    if decision.action is Action.VERDICT:
        yield "why", _joined(decision.reason, so_far(decision.why))
    else:
        yield "why", decision.why
    number = f" (errno {decision.errno})" if decision.errno else ""
    yield "error", decision.error + number
    if decision.result is not State.CURRENT:
        yield "now", decision.result_reason
    seen = _joined(_seen(decision), *_course(decision))
    yield "seen" if decision.state else "how", seen


def _seen(decision: Decision) -> str:
    """The state that it was decided upon, where the head does not have it, and the sizes."""
    state = decision.state if decision.action is not Action.VERDICT else None
    return ", ".join([*([state] if state else []), *_sizes(decision.drift)])


def _sizes(drift: DriftSizes) -> Iterator[str]:
    if drift.missing_bytes:
        yield f"{human(drift.missing_bytes)} missing"
    if drift.extra_bytes:
        yield f"{human(drift.extra_bytes)} extra"
    if drift.missing_notes:
        yield f"{drift.missing_notes} notes missing"


def _course(decision: Decision) -> Iterator[str]:
    """How long it took, from what, and who asked."""
    if decision.seconds:
        yield f"took {_length(decision.seconds)}"
    if decision.unarmed_seconds:
        yield f"unarmed for {_length(decision.unarmed_seconds)}"
    if decision.source:
        yield f"{decision.source} files"
    if decision.by:
        yield f"asked by {decision.by}"


def _length(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 60 else span(seconds)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
