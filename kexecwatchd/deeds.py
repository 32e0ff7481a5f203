# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done, from its beginning to the look that follows it, as one report.Decision. Pure.

A load or unload is one decision. Its verdicts before and after are part of it, and are not told
again by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kexecwatchd.bookkeeping import Now
from kexecwatchd.execute import Outcome
from kexecwatchd.ledger import ImageRecord, Told
from kexecwatchd.model import Action, ImageName, Load, State, Step, Unload
from kexecwatchd.reconcile import HELD_OFF
from kexecwatchd.report import Decision, sizes_of

# Why an action that is planned is not done yet.
AFTER_FAILURE = "it is tried again after a pause, because the last try failed"
IN_TURN = "the load waits for its turn: each one is a time without a crash dump"

# What of those two counts as told: which of them it is changes with each event and each try.
WAITS = "it is done later"

CUT_SHORT = "kexecwatchd ended in the middle of the load"


@dataclass(frozen=True, slots=True)
class Deed:
    """A decision that is being carried out, and when that began, in CLOCK_BOOTTIME seconds."""

    decision: Decision
    began: float

    def ended(self, outcome: Outcome) -> Deed:
        """The load or unload is over; what came of it the next look will tell."""
        problems = (outcome.error, outcome.degraded, outcome.keep_error)
        changed = self.decision.model_copy(
            update={
                "succeeded": outcome.succeeded,
                "error": "; ".join(problem for problem in problems if problem),
                "errno": outcome.number,
                "source": outcome.source,
                "unarmed_seconds": round(outcome.seconds, 6),
            }
        )
        return replace(self, decision=changed)

    def seen(self, step: Step, waits: str, now: Now) -> Decision:
        """The decision, with what the look after it saw. `waits`: see `waiting`."""
        decision = self.decision
        verdict = step.verdict
        taken_away = decision.action in (Action.UNLOAD, Action.DISCARD)
        obvious = decision.succeeded and taken_away and verdict.state is State.ABSENT
        parts = ("" if obvious else verdict.reason, so_far(step.held or waits))
        return decision.model_copy(
            update={
                "result": verdict.state,
                "result_reason": "; ".join(part for part in parts if part),
                "seconds": round(max(now.boot - self.began, 0.0), 6),
            }
        )


def begin(action: Action, step: Step, why: str, now: Now, by: str = "") -> Deed:
    """This is about to be done, upon that verdict."""
    decision = Decision(
        number=0,
        at=now.wall,
        image=step.image,
        action=action,
        state=step.verdict.state,
        reason=step.verdict.reason,
        drift=sizes_of(step.verdict.drift),
        why=why,
        by=by,
    )
    return Deed(decision, now.boot)


def verdict(step: Step, waits: str, now: Now) -> Decision:
    """A verdict about which nothing is done, or nothing yet."""
    return begin(Action.VERDICT, step, step.held or waits, now).decision


def at_once(
    action: Action,
    why: str,
    now: Now,
    *,
    image: ImageName | None = None,
    by: str = "",
    error: str = "",
) -> Decision:
    """What is done with the deciding, and needs no look to see what came of it."""
    return Decision(
        number=0,
        at=now.wall,
        image=image,
        action=action,
        why=why,
        by=by,
        succeeded=not error,
        error=error,
    )


def cut_short(step: Step, before: ImageRecord, after: ImageRecord, now: Now) -> Deed:
    """The load that the daemon before this one was killed in. `after` and `step`: what the first
    look makes of it.

    It came about where the image is known to be another one (reconcile.recognise), or is right and
    was not before: a crash image for other memory may look the same otherwise.
    """
    intent = before.intent
    assert intent is not None
    another = after.load_count > before.load_count and not after.owed
    cured = step.verdict.state is State.CURRENT and before.state is not State.CURRENT
    decision = Decision(
        number=0,
        at=intent.at_wall,
        image=step.image,
        action=Action.LOAD,
        state=before.state,
        why=intent.why,
        succeeded=another or cured,
        error=CUT_SHORT,
    )
    return Deed(decision, now.boot - max(now.wall - intent.at_wall, 0.0))


def waiting(step: Step, record: ImageRecord, turn: float, now: float) -> str:
    """Why the step's action is not done yet; "" where it is done now, or there is none.

    `turn`: when pacing allows a load. All times are CLOCK_BOOTTIME seconds.
    """
    if isinstance(step.action, Unload):
        return AFTER_FAILURE if record.next_unload > now else ""
    if isinstance(step.action, Load):
        if record.next_try > now:
            return AFTER_FAILURE
        return IN_TURN if turn > now else ""
    return ""


def news(step: Step, waits: str, record: ImageRecord, *, settled: bool) -> Told | None:
    """What is to be told of a look by itself; None where that has been told, or will be by what is
    about to be done.

    `settled`: no more events wait for their look. While they do, the load that they lead to tells
    of all of them.
    """
    if step.action is not None and not (waits and settled):
        return None
    told = told_by(step, waits)
    return None if told == record.told else told


def told_by(step: Step, waits: str) -> Told:
    """What somebody knows who was told this. Not the reason, whose figures change all the time;
    nor what it waits for; nor who holds, which is told of each hold; nor that files are being
    written, since the load that follows is told."""
    held = "" if step.passing else HELD_OFF if step.held.endswith(HELD_OFF) else step.held
    return Told(state=step.verdict.state, why=held or (WAITS if waits else ""))


def so_far(why: str) -> str:
    """Why nothing is done, or not yet, as a part of a sentence."""
    return why if why in ("", AFTER_FAILURE, IN_TURN) else f"nothing is done: {why}"
