# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger in force: written when it says something new, and where decisions become known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import decisions, ledger
from kexecwatchd.book import Book
from kexecwatchd.deeds import at_once
from kexecwatchd.model import Action, ImageName
from kexecwatchd.report import Decision
from tests.unit.core.test_bookkeeping import NOW


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    monkeypatch.setattr(
        decisions,
        "entry",
        lambda text, priority, **fields: entries.append({"MESSAGE": text} | fields),
    )
    return entries


def test_a_decision_is_numbered_and_told_to_all_alike(
    tmp_path: Path, journal: list[dict[str, Any]]
) -> None:
    heard: list[Decision] = []
    book = Book(tmp_path / "ledger.json", "a-boot", heard.append)
    book.ledger = book.ledger.with_image(ImageName.REBOOT, load_count=7)
    book.decide(at_once(Action.CONFIGURE, "the configuration was read", NOW))
    book.decide(at_once(Action.SET_MODE, "at 0x1000", NOW, image=ImageName.REBOOT, by="uid 0"))
    assert book.history().decisions == heard
    assert [(d.number, d.why, d.by) for d in heard] == [
        (1, "the configuration was read", ""),
        (2, "at [address]", "uid 0"),
    ]
    assert [(f["DECISION"], f.get("LOAD_COUNT")) for f in journal] == [(1, None), (2, 7)]
    book.save()
    again = Book(tmp_path / "ledger.json", "a-boot", heard.append)
    assert again.history() == book.history()
    again.decide(at_once(Action.CONFIGURE, "the configuration was read", NOW))
    assert again.history().decisions[-1].number == 3


def test_it_is_written_only_when_it_says_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    monkeypatch.setattr(ledger, "write", lambda path, what: written.append(what))
    book = Book(tmp_path / "ledger.json", "a-boot", lambda decision: None)
    book.save()
    book.save()
    assert len(written) == 1
    book.ledger = book.ledger.with_image(ImageName.CRASH, owed="it is")
    book.save()
    assert written[1:] == [book.ledger]


def test_a_place_that_cannot_be_written_is_told_once(
    tmp_path: Path, journal: list[dict[str, Any]]
) -> None:
    book = Book(tmp_path / "nowhere/ledger.json", "a-boot", lambda decision: None)
    for number in range(3):
        book.ledger = book.ledger.with_image(ImageName.CRASH, load_count=number)
        book.save()
    assert len(journal) == 1
    assert "nowhere/ledger.json cannot be written: No such file" in journal[0]["MESSAGE"]
    (tmp_path / "nowhere").mkdir()
    book.save()
    assert ledger.read(tmp_path / "nowhere/ledger.json", "a-boot") == (book.ledger, "")
