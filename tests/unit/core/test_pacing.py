# SPDX-License-Identifier: GPL-2.0-or-later
"""The storm rules, on a clock of whole milliseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.pacing import LONGEST_PAUSE, Pacing

QUIET, MAX_WAIT, BUDGET = 0.125, 2.0, 0.0625  # exact in binary: 16 times the last load


@pytest.fixture
def pacing() -> Pacing:
    return Pacing(QUIET, MAX_WAIT, BUDGET)


def test_without_events_no_look_is_due(pacing: Pacing) -> None:
    assert pacing.look_due() is None
    assert pacing.settled()


def test_a_look_waits_for_quiet(pacing: Pacing) -> None:
    for moment in (10.0, 10.25, 10.5):
        pacing.event(moment)
        assert pacing.look_due() == moment + QUIET
    assert not pacing.settled()


def test_but_not_longer_than_max_wait(pacing: Pacing) -> None:
    for tick in range(40):
        pacing.event(10 + tick / 16)
    assert pacing.look_due() == 10 + MAX_WAIT


def test_a_look_after_the_storm_settles_it(pacing: Pacing) -> None:
    pacing.event(10)
    pacing.looked(10 + QUIET)
    assert pacing.settled()
    assert pacing.look_due() is None


def test_a_look_in_the_storm_starts_max_wait_anew(pacing: Pacing) -> None:
    pacing.event(10)
    pacing.event(12)
    pacing.looked(12)
    assert not pacing.settled()
    assert pacing.look_due() == 12 + QUIET
    for tick in range(40):
        pacing.event(12 + tick / 16)
    assert pacing.look_due() == 12 + MAX_WAIT


def test_the_first_load_is_free(pacing: Pacing) -> None:
    assert pacing.load_allowed(endangers=False) == 0


def test_a_load_waits_for_the_budget(pacing: Pacing) -> None:
    pacing.loaded(100, 3)
    pacing.calm()
    assert pacing.load_allowed(endangers=False) == 100 + 3 / BUDGET
    assert pacing.load_allowed(endangers=True) == 100


def test_the_pause_doubles_within_a_storm_for_dangers_too(pacing: Pacing) -> None:
    pauses = []
    for _ in range(7):
        pacing.loaded(100, 0.001)
        pauses.append(pacing.load_allowed(endangers=True) - 100)
    assert pauses == [2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    pacing.calm()
    assert pacing.load_allowed(endangers=True) == 100


def test_the_longer_of_both_pauses_counts(pacing: Pacing) -> None:
    pacing.loaded(100, 0.0625)
    assert pacing.load_allowed(endangers=False) == 100 + MAX_WAIT
    pacing.loaded(100, 8)
    assert pacing.load_allowed(endangers=False) == 100 + 128


def test_a_storm_can_last_for_ever(pacing: Pacing) -> None:
    for _ in range(5000):
        pacing.loaded(100, 0.001)
    assert pacing.load_allowed(endangers=True) == 100 + LONGEST_PAUSE


@given(
    gaps=st.lists(st.integers(1, 10_000), min_size=20, max_size=200),
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=5),
    budget=st.sampled_from([0.01, 0.05, 0.5]),
)
def test_the_budget_holds_in_any_storm(gaps: list[int], lengths: list[int], budget: float) -> None:
    """Each look finds a drift that does not endanger. Whenever a load begins, what was spent
    unarmed since the first load is within the budget, and so it is at the end of each pause."""
    pacing = Pacing(0.1, 2.0, budget)
    now, spent, first_end = 0.0, 0.0, None
    for number, gap in enumerate(gaps):
        now += gap / 1000
        pacing.event(now)
        due = pacing.look_due()
        assert due is not None
        now = max(now, due)
        pacing.looked(now)
        pacing.calm()
        if now < pacing.load_allowed(endangers=False):
            continue
        length = lengths[number % len(lengths)] / 1000
        if first_end is not None:
            assert spent <= budget * (now - first_end) + 1e-9
            spent += length
        now += length
        first_end = first_end or now
        pacing.loaded(now, length)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=100))
def test_no_event_waits_longer_than_max_wait(gaps: list[int]) -> None:
    pacing = Pacing(QUIET, MAX_WAIT, BUDGET)
    now, waiting_since = 0.0, None
    for gap in gaps:
        now += gap / 1000
        due = pacing.look_due()
        if due is not None and due <= now:
            assert waiting_since is not None
            assert due - waiting_since <= MAX_WAIT
            pacing.looked(due)
            waiting_since = pacing.first_event
        pacing.event(now)
        waiting_since = now if waiting_since is None else waiting_since
    last = pacing.look_due()
    assert last is not None
    assert waiting_since is not None
    assert last - waiting_since <= MAX_WAIT


def test_a_look_that_came_early_does_not_put_off_the_one_that_is_due() -> None:
    """Anybody may ask for a look; under a storm that must not keep the daemon from acting."""
    pacing = Pacing(quiet=1.0, max_wait=10.0, unarmed_budget=1.0)
    for second in range(10):
        pacing.event(second)
        pacing.looked(second + 0.5)
    assert pacing.look_due() == 10.0
