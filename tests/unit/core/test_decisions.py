# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: each decision as one entry, with its figures."""

from __future__ import annotations

from typing import Any

import pytest

from kexecwatchd import decisions, messages
from kexecwatchd.deeds import IN_TURN
from kexecwatchd.execute import LAST_GOOD
from kexecwatchd.journal import LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING
from kexecwatchd.messages import FIELDS, Message
from kexecwatchd.model import Action, ImageName, State
from kexecwatchd.report import CheckResult, Decision, DriftSizes

GONE = "512 MiB that it lists is no longer there"


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, dict[str, Any]]]:
    entries: list[tuple[str, int, dict[str, Any]]] = []
    monkeypatch.setattr(
        decisions, "entry", lambda text, level=LOG_INFO, **f: entries.append((text, level, f))
    )
    monkeypatch.setattr(decisions, "_found", {})
    return entries


def decided(action: Action, **changes: Any) -> Decision:
    told: dict[str, Any] = {
        "number": 12,
        "at": 1_700_000_000,
        "image": ImageName.CRASH,
        "action": action,
        "state": State.STALE,
        "reason": GONE,
        "why": GONE,
    }
    return Decision(**(told | changes))


def loaded(**changes: Any) -> Decision:
    told: dict[str, Any] = {
        "drift": DriftSizes(missing_bytes=1, extra_bytes=1 << 29, missing_notes=3),
        "source": "configured",
        "result": State.CURRENT,
        "result_reason": "all is well",
        "seconds": 2.5,
        "unarmed_seconds": 1.25,
    }
    return decided(Action.LOAD, **(told | changes))


def failed(action: Action = Action.LOAD, **changes: Any) -> Decision:
    return decided(action, succeeded=False, error="ENOMEM", errno=12, **changes)


def test_a_load_is_one_entry_with_all_of_its_figures(journal: list[Any]) -> None:
    decisions.tell(loaded(by="uid 1000", errno=8), 4)
    [(text, level, fields)] = journal
    assert text == f"crash image loaded in 1.25 s: {GONE} (uid 1000); it is current"
    assert level == LOG_NOTICE
    assert fields == {
        "MESSAGE_ID": messages.LOADED.id,
        "DECISION": 12,
        "IMAGE": "crash",
        "ACTION": "load",
        "SEEN": "stale",
        "VERDICT": "current",
        "REASON": GONE,
        "MISSING_BYTES": 1,
        "EXTRA_BYTES": 1 << 29,
        "MISSING_NOTES": 3,
        "DURATION_USEC": 2_500_000,
        "UNARMED_USEC": 1_250_000,
        "ERRNO": 8,
        "SOURCE": "configured",
        "LOAD_COUNT": 4,
        "ASKED_BY": "uid 1000",
    }
    assert set(FIELDS) - set(fields) == {"CHECK", "ANSWER"}


def test_what_there_is_not_is_no_field(journal: list[Any]) -> None:
    decisions.tell(decided(Action.HOLD, image=None, state=None, why="held by apt"), 0)
    [(text, _, fields)] = journal
    assert text == "held by apt"
    assert set(fields) == {"MESSAGE_ID", "DECISION", "ACTION", "REASON"}


ENTRIES: list[tuple[Decision, Message, int, str]] = [
    (
        decided(Action.VERDICT, why="mode is observe"),
        messages.VERDICT,
        LOG_NOTICE,
        f"crash image stale: {GONE}; nothing is done: mode is observe",
    ),
    (
        decided(Action.VERDICT, why=IN_TURN),
        messages.VERDICT,
        LOG_NOTICE,
        f"crash image stale: {GONE}; {IN_TURN}",
    ),
    (
        decided(Action.VERDICT, state=State.CURRENT, reason="all is well", why=""),
        messages.VERDICT,
        LOG_INFO,
        "crash image current: all is well",
    ),
    (
        loaded(result=State.UNSAFE, result_reason="it could not start"),
        messages.LOADED,
        LOG_NOTICE,
        f"crash image loaded in 1.25 s: {GONE}; it is unsafe: it could not start",
    ),
    (
        loaded(source=LAST_GOOD, error="X"),
        messages.LOADED,
        LOG_WARNING,
        f"crash image loaded in 1.25 s: {GONE}; from the last good files, because X; it is current",
    ),
    (
        loaded(error="the disk is full"),
        messages.LOADED,
        LOG_WARNING,
        f"crash image loaded in 1.25 s: {GONE}; the disk is full; it is current",
    ),
    (
        failed(result=State.FAILED),
        messages.LOAD_FAILED,
        LOG_ERR,
        "crash image: load failed: ENOMEM; none is loaded",
    ),
    (
        failed(result=State.STALE),
        messages.LOAD_FAILED,
        LOG_ERR,
        "crash image: load failed: ENOMEM; the one that is loaded is stale",
    ),
    (
        decided(Action.UNLOAD, result=State.ABSENT, result_reason="nothing is done: refused"),
        messages.UNLOADED,
        LOG_NOTICE,
        f"crash image unloaded: {GONE}; nothing is done: refused",
    ),
    (
        failed(Action.UNLOAD, result=State.UNSAFE),
        messages.UNLOAD_FAILED,
        LOG_ERR,
        "crash image: unload failed: ENOMEM; the one that is loaded is unsafe",
    ),
    (
        decided(Action.DISCARD, why="it was asked for", by="uid 0", result=State.ABSENT),
        messages.DISCARDED,
        LOG_NOTICE,
        "crash image discarded: it was asked for (uid 0)",
    ),
    (
        failed(Action.DISCARD, result=State.CURRENT),
        messages.DISCARD_FAILED,
        LOG_ERR,
        "crash image: discard failed: ENOMEM; the one that is loaded is current",
    ),
    (
        decided(
            Action.SET_MODE,
            why="mode observe until the next boot",
            by="uid 0",
            result=State.STALE,
            result_reason="nothing is done",
        ),
        messages.MODE_SET,
        LOG_NOTICE,
        "crash image: mode observe until the next boot (uid 0); it is stale: nothing is done",
    ),
    (
        decided(Action.SET_MODE, why="mode follow again", state=None),
        messages.MODE_SET,
        LOG_NOTICE,
        "crash image: mode follow again",
    ),
    (
        decided(Action.RELEASE, image=None, state=None, why="apt ended"),
        messages.HOLD_ENDED,
        LOG_NOTICE,
        "apt ended",
    ),
    (
        decided(Action.CONFIGURE, image=None, state=None, why="a new one is in force"),
        messages.CONFIGURED,
        LOG_NOTICE,
        "a new one is in force",
    ),
    (
        failed(Action.CONFIGURE, image=None, state=None),
        messages.CONFIGURATION_REFUSED,
        LOG_WARNING,
        "the old configuration stays in force: ENOMEM",
    ),
]


@pytest.mark.parametrize(("decision", "kind", "level", "text"), ENTRIES)
def test_each_kind_of_decision(
    journal: list[Any], decision: Decision, kind: Message, level: int, text: str
) -> None:
    decisions.tell(decision, 1)
    [(told, priority, fields)] = journal
    assert (told, priority, fields["MESSAGE_ID"]) == (text, level, kind.id)
    assert set(fields) <= set(FIELDS)


def test_each_action_has_its_kind() -> None:
    assert set(decisions._KINDS) == set(Action)
    used = {kind for pair in decisions._KINDS.values() for kind in pair}
    others = {messages.CHECK_FOUND, messages.CHECK_GONE, messages.TROUBLE}
    assert used | others == set(messages.MESSAGES)


def test_of_a_verdict_the_reason_is_the_verdicts(journal: list[Any]) -> None:
    decisions.tell(decided(Action.VERDICT, why="mode is observe"), 1)
    assert journal[0][2]["REASON"] == f"{GONE}; nothing is done: mode is observe"
    assert (journal[0][2]["SEEN"], journal[0][2]["VERDICT"]) == ("stale", "stale")


def test_trouble_is_a_warning(journal: list[Any]) -> None:
    decisions.trouble("the disk is full")
    assert journal == [("the disk is full", LOG_WARNING, {"MESSAGE_ID": messages.TROUBLE.id})]


def answer(name: str, said: str, summary: str = "as it is") -> CheckResult:
    return CheckResult(name=name, question="Is it?", answer=said, summary=summary)


def found(name: str, said: str) -> dict[str, str]:
    return {"MESSAGE_ID": messages.CHECK_FOUND.id, "CHECK": name, "ANSWER": said}


def gone(name: str, said: str) -> dict[str, str]:
    return {"MESSAGE_ID": messages.CHECK_GONE.id, "CHECK": name, "ANSWER": said}


def test_what_a_check_finds_is_told_when_it_comes_changes_and_goes(journal: list[Any]) -> None:
    rounds = [
        [answer("a", "ok"), answer("b", "warning", "2 left")],
        [answer("a", "problem", "no"), answer("b", "warning", "1 left")],
        [answer("a", "problem", "no"), answer("b", "not applicable")],
        [answer("a", "problem", "never"), answer("b", "not applicable")],
        [answer("a", "cannot tell", "it hangs")],
        [answer("a", "problem", "never")],
        [answer("a", "ok", "yes")],
        [answer("a", "ok", "yes")],
    ]
    for results in rounds:
        decisions.answered(results)
    assert journal == [
        (
            "warning: Is it? 2 left; what to do: kexecwatchctl check b",
            LOG_NOTICE,
            found("b", "warning"),
        ),
        (
            "problem: Is it? no; what to do: kexecwatchctl check a",
            LOG_WARNING,
            found("a", "problem"),
        ),
        (
            "no warning any more: Is it? as it is",
            LOG_NOTICE,
            gone("b", "not applicable"),
        ),
        (
            "problem: Is it? never; what to do: kexecwatchctl check a",
            LOG_WARNING,
            found("a", "problem"),
        ),
        ("no problem any more: Is it? yes", LOG_NOTICE, gone("a", "ok")),
    ]


def test_other_figures_alone_are_no_news(journal: list[Any]) -> None:
    for free in ("1.5 GiB", "3 GiB", "900 MiB"):
        decisions.answered([answer("a", "warning", f"only {free} are free")])
    decisions.answered([answer("a", "problem", "only 10 MiB are free")])
    assert [fields["ANSWER"] for _, _, fields in journal] == ["warning", "problem"]
