# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done, as one decision; and which verdicts are told by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kexecwatchd import deeds
from kexecwatchd.bookkeeping import Now
from kexecwatchd.deeds import AFTER_FAILURE, CUT_SHORT, IN_TURN, WAITS
from kexecwatchd.execute import CONFIGURED, LAST_GOOD, Outcome
from kexecwatchd.ledger import INTERRUPTED, Intent, Told
from kexecwatchd.model import Action, Drift, Load, State, Step, Unload, Verdict
from kexecwatchd.reconcile import HELD_OFF
from kexecwatchd.report import Decision, DriftSizes
from tests.unit.core.cases import CRASH, GIB, PAIR, REBOOT, gib, ours

BEGAN = Now(boot=500.0, wall=1_700_000_000.0)
AFTER = Now(boot=503.5, wall=1_600_000_000.0)  # somebody set the clock meanwhile
STALE = Step(
    CRASH,
    Verdict(State.STALE, "it is stale", drift=Drift(gib(2, 3), gib(9), ("cpu1",))),
    Load("memory came"),
)
CURRENT = Step(CRASH, Verdict(State.CURRENT, "all is well"))
HELD = replace(STALE, action=None, held="mode is observe")
UNSAFE = Step(REBOOT, Verdict(State.UNSAFE, "it would die"), Unload("it would die"))


def begun(action: Action = Action.LOAD, by: str = "") -> deeds.Deed:
    return deeds.begin(action, STALE, "memory came", BEGAN, by)


def test_a_load_is_told_from_its_beginning_to_the_look_after_it() -> None:
    outcome = Outcome(True, 2.25, CONFIGURED)
    told = begun(by="uid 0").ended(outcome).seen(CURRENT, "", AFTER)
    assert told == Decision(
        number=0,
        at=BEGAN.wall,
        image=CRASH,
        action=Action.LOAD,
        state=State.STALE,
        reason="it is stale",
        drift=DriftSizes(
            missing_bytes=2 * GIB,
            missing_ranges=1,
            extra_bytes=GIB,
            extra_ranges=1,
            missing_notes=1,
        ),
        why="memory came",
        by="uid 0",
        source=CONFIGURED,
        result=State.CURRENT,
        result_reason="all is well",
        seconds=3.5,
        unarmed_seconds=2.25,
    )


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(False, 1, error="ENOMEM", number=12), (False, "ENOMEM", 12)),
        (
            Outcome(True, 1, LAST_GOOD, number=8, degraded="the initrd is empty"),
            (True, "the initrd is empty", 8),
        ),
        (Outcome(True, 1, CONFIGURED, keep_error="full"), (True, "full", 0)),
    ],
)
def test_what_went_wrong_is_told(outcome: Outcome, expected: tuple[bool, str, int]) -> None:
    told = begun().ended(outcome).decision
    assert (told.succeeded, told.error, told.errno) == expected


@pytest.mark.parametrize(
    ("step", "waits", "reason"),
    [
        (HELD, "", "it is stale; nothing is done: mode is observe"),
        (STALE, IN_TURN, f"it is stale; {IN_TURN}"),
        (STALE, "", "it is stale"),
    ],
)
def test_what_happens_next_is_part_of_it(step: Step, waits: str, reason: str) -> None:
    assert begun().seen(step, waits, AFTER).result_reason == reason


def test_that_none_is_loaded_after_an_unload_goes_without_saying() -> None:
    none = Step(REBOOT, Verdict(State.ABSENT, "none is loaded"), held="refused")
    unload = deeds.begin(Action.UNLOAD, UNSAFE, "it would die", BEGAN)
    done = unload.ended(Outcome(True, 1)).seen(none, "", AFTER)
    assert (done.result, done.result_reason) == (State.ABSENT, "nothing is done: refused")
    failed = unload.ended(Outcome(False, 1, error="EBUSY")).seen(none, "", AFTER)
    assert failed.result_reason == "none is loaded; nothing is done: refused"


def test_a_verdict_says_why_nothing_is_done() -> None:
    told = deeds.verdict(HELD, "", BEGAN)
    assert (told.action, told.state, told.reason) == (Action.VERDICT, State.STALE, "it is stale")
    assert (told.why, told.result) == ("mode is observe", None)
    assert deeds.verdict(STALE, IN_TURN, BEGAN).why == IN_TURN


WAITING: list[tuple[Step, dict[str, Any], float, str]] = [
    (STALE, {}, 0, ""),
    (STALE, {}, 600, IN_TURN),
    (STALE, {"next_try": 600}, 0, AFTER_FAILURE),
    (STALE, {"next_try": 499, "next_unload": 600}, 499, ""),
    (UNSAFE, {"next_try": 600}, 600, ""),
    (UNSAFE, {"next_unload": 600}, 0, AFTER_FAILURE),
    (CURRENT, {"next_try": 600, "next_unload": 600}, 600, ""),
]


@pytest.mark.parametrize(("step", "record", "turn", "expected"), WAITING)
def test_what_an_action_waits_for(
    step: Step, record: dict[str, Any], turn: float, expected: str
) -> None:
    assert deeds.waiting(step, ours(**record), turn, 500.0) == expected


NEWS: list[tuple[Step, str, Told | None, bool, Told | None]] = [
    # (step, waits, told before, settled, what is to be told)
    (CURRENT, "", None, True, Told(state=State.CURRENT, why="")),
    (CURRENT, "", Told(state=State.CURRENT, why=""), True, None),
    (CURRENT, "", Told(state=State.STALE, why=""), False, Told(state=State.CURRENT, why="")),
    (HELD, "", Told(state=State.STALE, why=""), True, Told(state=State.STALE, why=HELD.held)),
    (STALE, "", None, True, None),
    (STALE, IN_TURN, None, True, Told(state=State.STALE, why=WAITS)),
    (STALE, IN_TURN, Told(state=State.STALE, why=WAITS), True, None),
    (STALE, AFTER_FAILURE, Told(state=State.STALE, why=WAITS), True, None),
    (STALE, IN_TURN, None, False, None),
]


@pytest.mark.parametrize(("step", "waits", "before", "settled", "expected"), NEWS)
def test_a_verdict_is_told_when_it_is_new_and_nothing_is_done_now(
    step: Step, waits: str, before: Told | None, settled: bool, expected: Told | None
) -> None:
    assert deeds.news(step, waits, ours(told=before), settled=settled) == expected


def test_who_else_holds_makes_no_verdict_new() -> None:
    first, second = (
        replace(HELD, held=f"held by {who}: {HELD_OFF}") for who in ("apt", "apt and 1 more")
    )
    told = deeds.news(first, "", ours(), settled=True)
    assert told is not None
    assert deeds.news(second, "", ours(told=told), settled=True) is None


CUT = Intent(
    pair=PAIR, fingerprint_before="", ram=gib(1), online=gib(1), why="memory came", at_wall=1000.0
)


@pytest.mark.parametrize(
    ("was", "step", "count", "owed", "succeeded"),
    [
        (State.CURRENT, CURRENT, 2, "", True),
        (State.CURRENT, CURRENT, 1, "", False),
        (State.STALE, CURRENT, 1, "", True),
        (State.STALE, STALE, 1, "", False),
        (State.STALE, STALE, 2, INTERRUPTED, False),
    ],
)
def test_a_load_that_was_cut_short(
    was: State, step: Step, count: int, owed: str, succeeded: bool
) -> None:
    before = ours(intent=CUT, state=was, load_count=1)
    after = ours(load_count=count, owed=owed)
    deed = deeds.cut_short(step, before, after, Now(boot=500, wall=1007))
    told = deed.seen(step, "", Now(boot=501, wall=1008))
    assert (told.at, told.seconds, told.succeeded) == (1000, 8, succeeded)
    assert (told.action, told.state, told.why) == (Action.LOAD, was, "memory came")
    assert (told.error, told.result) == (CUT_SHORT, step.verdict.state)
