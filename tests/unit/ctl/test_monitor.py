# SPDX-License-Identifier: GPL-2.0-or-later
"""What is news, and how it reads."""

from __future__ import annotations

from kexecwatchd.ctl.monitor import News, text_of
from kexecwatchd.report import Decision
from tests.integration.harness import DECISION, STALE, status

LATER = DECISION.model_copy(update={"number": 13})


def told(news: News, now: object = None, *decisions: Decision) -> list[str]:
    lines = news.gone(5) if now is None else news.seen(5, now, list(decisions))  # type: ignore[arg-type]
    return [
        line.event if line.decision is None else f"decision {line.decision.number}"
        for line in lines
    ]


def test_only_what_is_new_is_told() -> None:
    news = News()
    assert told(news, status(), DECISION) == ["status"], "what was before is in the history"
    assert told(news, status(looked_at=1_700_000_009), DECISION) == []
    assert told(news, STALE, DECISION, LATER) == ["decision 13", "status"]
    assert told(news, STALE, DECISION, LATER) == []


def test_a_daemon_that_goes_and_comes() -> None:
    news = News()
    assert told(news) == ["gone"]
    assert told(news) == []
    assert told(news, status(), DECISION) == ["back", "status"]
    assert told(news) == ["gone"]
    assert told(news, status(), DECISION, LATER) == ["back", "decision 13"], "made meanwhile"


def test_a_ledger_begun_anew_hides_nothing() -> None:
    news = News()
    told(news, status(), LATER)
    first = DECISION.model_copy(update={"number": 1})
    assert told(news, status(), first) == ["decision 1"]


def test_lines_for_people() -> None:
    news = News()
    (line,) = news.seen(5, STALE, [])
    said = text_of(line)
    assert "NOT COVERED: crash image is stale" in said
    assert "crash image: load under way" in said
    assert "held by apt" in said
    (decided,) = news.seen(5, STALE, [DECISION])
    assert "crash image LOADED; it is current now: 512 MiB of memory would be" in text_of(decided)
    (gone,) = news.gone(5)
    assert "does not answer" in text_of(gone)
