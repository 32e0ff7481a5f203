# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds: taken, released by who took them, ended with their connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd import holds
from kexecwatchd.ledger import Ledger
from kexecwatchd.report import Hold
from kexecwatchd.requests import NoSuchHold, Refused, TooManyHolds
from tests.unit.core.cases import book


def held(*taken: tuple[str, str]) -> Ledger:
    """By these (holder, who)."""
    ledger = book()
    for holder, who in taken:
        ledger, _ = holds.take(ledger, holder, who, "a reason", 1000.0)
    return ledger


def test_a_hold_is_taken_and_released() -> None:
    ledger, hold = holds.take(book(), ":1.5", "apt", "a new kernel", 1000.0)
    assert hold == Hold(number=1, who="apt", why="a new kernel", since=1000)
    assert holds.obstacle(ledger) == "held by apt (a new kernel)"
    after, released = holds.release(ledger, ":1.5", 1)
    assert (released, after.holds, holds.obstacle(after)) == (hold, (), "")


def test_a_number_is_given_once() -> None:
    ledger, _ = holds.release(held((":1.5", "apt")), ":1.5", 1)
    _, hold = holds.take(ledger, ":1.5", "apt", "", 1000.0)
    assert hold.number == 2


@pytest.mark.parametrize(("holder", "number"), [(":1.6", 1), (":1.5", 2), (":1.5", 0)])
def test_nobody_releases_anothers(holder: str, number: int) -> None:
    with pytest.raises(NoSuchHold, match=f"no hold {number} of yours"):
        holds.release(held((":1.5", "apt")), holder, number)


def test_all_of_one_connection_end_with_it() -> None:
    ledger = held((":1.5", "apt"), (":1.6", "dnf"), (":1.5", "dpkg"))
    assert holds.obstacle(ledger) == "held by apt (a reason) and 2 more"
    after, ended = holds.gone(ledger, ":1.5")
    assert [hold.who for hold in ended] == ["apt", "dpkg"]
    assert [record.hold.who for record in after.holds] == ["dnf"]
    assert holds.gone(after, ":1.5") == (after, ())


def test_there_is_a_limit() -> None:
    ledger = held(*[(f":1.{n}", "apt") for n in range(holds.LIMIT)])
    with pytest.raises(TooManyHolds, match="64 holds already"):
        holds.take(ledger, ":2.1", "apt", "", 1000.0)
    after, _ = holds.release(ledger, ":1.0", 1)
    holds.take(after, ":2.1", "apt", "", 1000.0)


@pytest.mark.parametrize("who", ["", "   ", "\n\0"])
def test_who_holds_must_be_said(who: str) -> None:
    with pytest.raises(Refused, match="needs the name"):
        holds.take(book(), ":1.5", who, "a reason", 1000.0)


def test_without_a_reason_the_name_stands_alone() -> None:
    ledger, _ = holds.take(book(), ":1.5", "apt", "", 1000.0)
    assert holds.obstacle(ledger) == "held by apt"


@given(st.text(), st.text(max_size=1000))
def test_what_is_said_is_one_line_of_printable_text(who: str, why: str) -> None:
    _, hold = holds.take(book(), ":1.5", f"apt {who}", why, 1000.0)
    for text in (hold.who, hold.why):
        assert text.isprintable()
        assert text == text.strip()
        assert len(text) <= holds.LONGEST
