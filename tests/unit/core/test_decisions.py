# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: each decision once, with its figures."""

from __future__ import annotations

from typing import Any

import pytest

from kexecwatchd import decisions
from kexecwatchd.execute import CONFIGURED, LAST_GOOD, Outcome
from kexecwatchd.journal import LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING
from kexecwatchd.model import Drift, Load, Unload
from kexecwatchd.report import CheckResult
from tests.unit.core.cases import CRASH, REBOOT, book, configured, gib, ours, seen, step_for


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, dict[str, Any]]]:
    entries: list[tuple[str, int, dict[str, Any]]] = []
    monkeypatch.setattr(
        decisions, "entry", lambda text, level=LOG_INFO, **f: entries.append((text, level, f))
    )
    monkeypatch.setattr(decisions, "_told", {})
    monkeypatch.setattr(decisions, "_found", {})
    return entries


def test_a_verdict_is_told_once_with_its_figures(journal: list[Any]) -> None:
    step = step_for(CRASH, seen(drift=Drift(gib(2, 3), gib(9), ("cpu1",))), book())
    for _ in range(3):
        decisions.verdict(step, ours(load_count=4))
    [(text, level, fields)] = journal
    assert text == f"crash image stale: {step.verdict.reason}"
    assert level == LOG_NOTICE
    assert fields == {
        "IMAGE": "crash",
        "VERDICT": "stale",
        "MISSING_BYTES": 2 << 30,
        "EXTRA_BYTES": 1 << 30,
        "MISSING_NOTES": 1,
        "LOAD_COUNT": 4,
    }


def test_a_verdict_that_changes_is_told_again(journal: list[Any]) -> None:
    stale = step_for(CRASH, seen(drift=Drift(gib(3))), book())
    current = step_for(CRASH, seen(), book())
    for step in (current, stale, current, step_for(REBOOT, seen(), book())):
        decisions.verdict(step, ours())
    assert [level for _, level, _ in journal] == [LOG_INFO, LOG_NOTICE, LOG_INFO, LOG_INFO]


def test_why_nothing_is_done_is_told(journal: list[Any]) -> None:
    look = seen(drift=Drift(gib(3)))
    decisions.verdict(step_for(CRASH, look, book(), configured("observe")), ours())
    assert journal[0][0].endswith("; nothing is done: mode is observe")


def test_a_load_is_told_with_its_reason_and_length(journal: list[Any]) -> None:
    decisions.loaded(CRASH, Load("memory came"), Outcome(True, 2.125, CONFIGURED))
    assert journal == [
        (
            "crash image loaded in 2.12 s: memory came",
            LOG_NOTICE,
            {
                "IMAGE": "crash",
                "ACTION": "load",
                "REASON": "memory came",
                "SOURCE": "configured",
                "DURATION_USEC": 2_125_000,
            },
        )
    ]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome(True, 1, LAST_GOOD, degraded="it is empty"), "last good files, because it is"),
        (Outcome(True, 1, CONFIGURED, keep_error="the disk is full"), "the disk is full"),
    ],
)
def test_a_load_that_is_not_what_it_should_be_is_a_warning(
    journal: list[Any], outcome: Outcome, words: str
) -> None:
    decisions.loaded(CRASH, Load("memory came"), outcome)
    assert words in journal[0][0]
    assert journal[0][1] == LOG_WARNING


def test_an_unload_is_told(journal: list[Any]) -> None:
    decisions.unloaded(REBOOT, Unload("its memory went"))
    assert journal[0][0] == "reboot image unloaded: its memory went"


def test_a_failure_is_told_until_it_is_the_same(journal: list[Any]) -> None:
    decisions.failed(CRASH, "load", "ENOMEM", ours())
    decisions.failed(CRASH, "load", "ENOMEM", ours(last_error="ENOMEM"))
    decisions.failed(CRASH, "load", "EPERM", ours(last_error="ENOMEM"))
    assert [(text, level) for text, level, _ in journal] == [
        ("crash image: load failed: ENOMEM", LOG_ERR),
        ("crash image: load failed: EPERM", LOG_ERR),
    ]


def test_trouble_is_a_warning(journal: list[Any]) -> None:
    decisions.trouble("the disk is full")
    assert journal == [("the disk is full", LOG_WARNING, {})]


def answer(name: str, said: str, summary: str = "as it is") -> CheckResult:
    return CheckResult(name=name, question="Is it?", answer=said, summary=summary)


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
            {"CHECK": "b", "ANSWER": "warning"},
        ),
        (
            "problem: Is it? no; what to do: kexecwatchctl check a",
            LOG_WARNING,
            {"CHECK": "a", "ANSWER": "problem"},
        ),
        (
            "no warning any more: Is it? as it is",
            LOG_NOTICE,
            {"CHECK": "b", "ANSWER": "not applicable"},
        ),
        (
            "problem: Is it? never; what to do: kexecwatchctl check a",
            LOG_WARNING,
            {"CHECK": "a", "ANSWER": "problem"},
        ),
        ("no problem any more: Is it? yes", LOG_NOTICE, {"CHECK": "a", "ANSWER": "ok"}),
    ]


def test_other_figures_alone_are_no_news(journal: list[Any]) -> None:
    for free in ("1.5 GiB", "3 GiB", "900 MiB"):
        decisions.answered([answer("a", "warning", f"only {free} are free")])
    decisions.answered([answer("a", "problem", "only 10 MiB are free")])
    assert [fields["ANSWER"] for _, _, fields in journal] == ["warning", "problem"]
