# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
import time
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.ctl.historyscreen import render
from kexecwatchd.model import Action, ImageName, State
from kexecwatchd.report import Decision, DriftSizes

AT = 1_772_330_000.0  # 2026-03-01 01:53:20 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


LOAD = Decision(
    number=12,
    at=AT,
    image=ImageName.CRASH,
    action=Action.LOAD,
    state=State.STALE,
    reason="memory came",
    drift=DriftSizes(missing_bytes=1 << 29, missing_ranges=1, extra_bytes=1 << 20, extra_ranges=1),
    why="512 MiB would be missing from a dump",
    source="configured",
    result=State.CURRENT,
    result_reason="it lists all of memory",
    seconds=1.875,
    unarmed_seconds=1.5,
)
FAILED = LOAD.model_copy(
    update={
        "succeeded": False,
        "error": "the kernel has no room",
        "errno": 12,
        "result": State.STALE,
        "result_reason": "512 MiB would still be missing",
        "by": "uid 1000",
    }
)
VERDICT = Decision(
    number=1,
    at=AT,
    image=ImageName.REBOOT,
    action=Action.VERDICT,
    state=State.UNSAFE,
    reason="its memory is offline",
    drift=DriftSizes(missing_notes=3),
    why="mode is observe",
)
HOLD = Decision(number=2, at=AT, action=Action.HOLD, why="held by apt: a new kernel", by="uid 0")


def screen(*decisions: Decision, width: int = 80, colour: bool = False) -> list[str]:
    return render(decisions, width=width, colour=colour).split("\n")


def test_a_load_says_what_was_seen_done_and_how_long_it_took() -> None:
    assert screen(LOAD) == [
        "2026-03-01 01:53:20  crash image LOADED; it is current now",
        "  why    512 MiB would be missing from a dump",
        "  seen   stale, 512 MiB missing, 1 MiB extra; took 1.88 s; unarmed for 1.50 s;",
        "         configured files",
    ]


LONG_LINE = (
    "stale, 512 MiB missing, 1 MiB extra; took 1.88 s; unarmed for 1.50 s; configured files;"
)


def test_a_failure_says_why_and_what_there_is_now() -> None:
    assert screen(FAILED, width=100) == [
        "2026-03-01 01:53:20  crash image LOAD FAILED; it is stale now",
        "  why    512 MiB would be missing from a dump",
        "  error  the kernel has no room (errno 12)",
        "  now    512 MiB would still be missing",
        f"  seen   {LONG_LINE}",
        "         asked by uid 1000",
    ]


def test_a_verdict_is_called_by_the_state_and_says_why_nothing_is_done() -> None:
    assert screen(VERDICT) == [
        "2026-03-01 01:53:20  reboot image UNSAFE",
        "  why    its memory is offline; nothing is done: mode is observe",
        "  seen   3 notes missing",
    ]


def test_what_concerns_both_images_names_none() -> None:
    assert screen(HOLD) == [
        "2026-03-01 01:53:20  HOLD TAKEN",
        "  why    held by apt: a new kernel",
        "  how    asked by uid 0",
    ]


def test_the_order_is_kept() -> None:
    heads = [line for line in screen(LOAD, FAILED, HOLD) if line[0] != " "]
    assert [head.split("  ")[1].split(";")[0] for head in heads] == [
        "crash image LOADED",
        "crash image LOAD FAILED",
        "HOLD TAKEN",
    ]


def test_an_empty_history_says_so() -> None:
    assert screen() == ["Nothing has been decided in this boot."]


def test_a_long_load_is_told_in_minutes() -> None:
    assert "took 2 min 13 s;" in "\n".join(screen(LOAD.model_copy(update={"seconds": 133.4})))


@pytest.mark.parametrize(
    ("decision", "painted"),
    [
        (LOAD, "\x1b[32mLOADED\x1b[0m"),
        (LOAD.model_copy(update={"error": "the copy failed"}), "\x1b[33mLOADED\x1b[0m"),
        (LOAD.model_copy(update={"result": State.STALE}), "\x1b[33mLOADED\x1b[0m"),
        (FAILED, "\x1b[1;31mLOAD FAILED\x1b[0m"),
        (VERDICT, "\x1b[33mUNSAFE\x1b[0m"),
    ],
)
def test_colour_repeats_the_words(decision: Decision, painted: str) -> None:
    plain, coloured = screen(decision), screen(decision, colour=True)
    assert painted in coloured[0]
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain


_TEXT = st.text(max_size=40)


@given(
    action=st.sampled_from(Action),
    image=st.sampled_from([*ImageName, None]),
    state=st.sampled_from([*State, None]),
    succeeded=st.booleans(),
    texts=st.tuples(_TEXT, _TEXT, _TEXT, _TEXT),
)
def test_any_decision_is_told_in_lines_that_fit(
    action: Action, image: ImageName | None, state: State | None, succeeded: bool, texts: Any
) -> None:
    reason, why, error, by = texts
    decision = Decision(
        number=1,
        at=AT,
        image=image,
        action=action,
        state=state,
        result=state,
        succeeded=succeeded,
        reason=reason,
        why=why,
        error=error,
        by=by,
    )
    lines = screen(decision, width=60)
    assert all(len(line) <= 60 and line.isprintable() for line in lines)
    assert lines[0].startswith("2026-03-01 01:53:20  ")
