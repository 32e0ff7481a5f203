# SPDX-License-Identifier: GPL-2.0-or-later
"""What the ledger says after each deed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kexecwatchd import bookkeeping
from kexecwatchd.bookkeeping import FIRST_RETRY, LONGEST_RETRY, Now
from kexecwatchd.execute import CONFIGURED, LAST_GOOD, Outcome
from kexecwatchd.ledger import (
    LOAD_FAILED,
    ImageRecord,
    Intent,
    Landing,
    LastGood,
    Ledger,
    LoadRecord,
)
from kexecwatchd.model import Drift, ImageName, Load, PlacedBy, Placement, Segment, State
from kexecwatchd.ranges import RangeSet
from kexecwatchd.reconcile import recognise, reconcile
from tests.unit.core.cases import (
    CRASH,
    GIB,
    PAIR,
    REBOOT,
    book,
    configured,
    foreign,
    gib,
    ours,
    seen,
)

NOW = Now(boot=500.0, wall=1_700_000_000.0)
KEPT = LastGood(pair=PAIR, kernel_signature="1:2:3:4:5")
PLACED = Placement((Segment(GIB, 4096), Segment(2 * GIB, 8192)), PlacedBy.LOG, elfcorehdr=GIB)


def succeeded(**changes: object) -> Outcome:
    told: dict[str, object] = {"succeeded": True, "seconds": 2.5, "source": CONFIGURED}
    return Outcome(**(told | {"kept": KEPT, "placement": PLACED} | changes))  # type: ignore[arg-type]


def failed(error: str = "ENOMEM", seconds: float = 2.5) -> Outcome:
    return Outcome(succeeded=False, seconds=seconds, error=error)


def loaded(ledger: Ledger, outcome: Outcome, image: ImageName = CRASH) -> ImageRecord:
    after = bookkeeping.after_load(
        ledger, image, PAIR, Load("memory came"), outcome=outcome, before=seen(), now=NOW
    )
    other = REBOOT if image is CRASH else CRASH
    assert after.of(other) == ledger.of(other)
    return after.of(image)


def test_an_intent_tells_what_is_about_to_happen() -> None:
    look = seen(offline=[7])
    record = bookkeeping.intending(book(), CRASH, PAIR, look).crash
    assert record.intent == Intent(
        pair=PAIR, fingerprint_before="ours", ram=look.ram, online=look.online
    )
    assert record.model_copy(update={"intent": None}) == ours()


def test_a_load_that_succeeds_starts_a_new_record() -> None:
    before = ours(
        owed="it is",
        uncured=Drift(gib(3)),
        landing=Landing(ram=gib(0), segments=gib(0)),
        failures=3,
        last_error="ENOMEM",
        next_try=600,
        degraded="why",
        ram=gib(1),
        intent=Intent(pair=PAIR, fingerprint_before="", ram=gib(1), online=gib(1)),
    )
    record = loaded(book(crash=before), succeeded())
    assert record == ImageRecord(
        ours=True,
        pair=PAIR,
        ram=seen().ram,
        online=seen().online,
        segments=RangeSet.of((GIB, GIB + 4096), (2 * GIB, 2 * GIB + 8192)),
        elfcorehdr=GIB,
        last_good=KEPT,
        load_count=2,
        last_load=LoadRecord(
            ended=500,
            ended_wall=1_700_000_000,
            seconds=2.5,
            succeeded=True,
            reason="memory came",
            source=CONFIGURED,
        ),
        last_action="loaded it: memory came",
        last_action_wall=1_700_000_000,
    )


def test_without_a_placement_the_segments_are_not_known() -> None:
    record = loaded(book(crash=ours(segments=gib(1), elfcorehdr=GIB)), succeeded(placement=None))
    assert (record.segments, record.elfcorehdr) == (None, None)


def test_a_load_from_the_last_good_files_is_degraded_until_another() -> None:
    outcome = succeeded(source=LAST_GOOD, degraded="the initrd is gone")
    record = loaded(book(), outcome)
    assert (record.degraded, record.last_error) == ("the initrd is gone", "")
    again = loaded(book(crash=record), succeeded())
    assert (again.degraded, again.last_error) == ("", "")


def test_a_load_that_fails_keeps_what_was_known() -> None:
    before = ours(segments=gib(1), uncured=Drift(gib(3)), last_good=KEPT)
    record = loaded(book(crash=before), failed())
    assert record.owed == LOAD_FAILED
    assert record.last_error == "ENOMEM"
    assert record.last_load is not None
    assert not record.last_load.succeeded
    for name in ("ours", "pair", "ram", "online", "segments", "uncured", "last_good", "load_count"):
        assert getattr(record, name) == getattr(before, name)


def test_a_load_that_was_never_called_owes_nothing() -> None:
    record = loaded(book(), failed("the kernel is empty", seconds=0))
    assert (record.owed, record.last_load) == ("", None)
    assert record.last_error == "the kernel is empty"
    assert record.next_try == 500 + FIRST_RETRY


def test_what_was_owed_for_another_reason_stays_so() -> None:
    assert loaded(book(crash=ImageRecord(owed="it was unloaded")), failed()).owed == (
        "it was unloaded"
    )


def test_pauses_grow_up_to_the_longest() -> None:
    record, pauses = ours(), []
    for _ in range(2000):
        record = loaded(book(crash=record), failed())
        pauses.append(record.next_try - 500)
    assert pauses[0] == FIRST_RETRY
    assert pauses[-1] == LONGEST_RETRY
    assert all(b == min(2 * a, LONGEST_RETRY) for a, b in pairwise(pauses))


@pytest.mark.parametrize("outcome", [succeeded(debug_refused=True), failed()])
def test_the_debug_flag_is_given_up_for_good_once_refused(outcome: Outcome) -> None:
    after = bookkeeping.after_load(
        book(), CRASH, PAIR, Load("x"), outcome=outcome, before=seen(), now=NOW
    )
    assert after.debug_flag is not outcome.debug_refused


# The handshake


def confirmed(image: ImageName, record: ImageRecord, **after: object) -> ImageRecord:
    look = seen(**after)  # type: ignore[arg-type]
    ledger = book(crash=record) if image is CRASH else book(reboot=record)
    return bookkeeping.confirmed(ledger, image, seen(), look).of(image)


def test_drift_that_is_left_although_the_map_stood_still_is_uncured() -> None:
    drift = Drift(missing=gib(3))
    assert confirmed(CRASH, ours(), drift=drift).uncured == drift
    assert confirmed(CRASH, ours()).uncured == Drift()


@pytest.mark.parametrize("moved", [{"present": range(9)}, {"offline": [5]}])
def test_drift_under_a_map_that_moved_may_be_cured_yet(moved: dict[str, object]) -> None:
    assert confirmed(CRASH, ours(), drift=Drift(missing=gib(8)), **moved).uncured == Drift()


def test_the_handshake_takes_the_fingerprint() -> None:
    assert confirmed(CRASH, ours(fingerprint=""), fingerprint="new").fingerprint == "new"


def test_a_reboot_image_answers_for_the_memory_of_either_look() -> None:
    assert confirmed(REBOOT, ours(), present=range(9), offline=[1]).online == gib(*range(9))


@pytest.mark.parametrize(
    ("moved", "unsafe"), [({"offline": [1]}, True), ({"present": range(9)}, False)]
)
def test_memory_that_went_during_the_load_is_not_forgotten(
    moved: dict[str, object], unsafe: bool
) -> None:
    look = seen(**moved)  # type: ignore[arg-type]
    ledger = book(reboot=loaded(book(), succeeded(placement=None), REBOOT))
    ledger = recognise(look, bookkeeping.confirmed(ledger, REBOOT, seen(), look))
    verdict = reconcile(look, ledger, configured())[1].verdict
    assert (verdict.state is State.UNSAFE) == unsafe


# Unloads and the rest


def test_an_unload_owes_another_and_remembers_the_place() -> None:
    ledger = book(reboot=ours(segments=gib(7), failures=2, next_unload=600, last_error="EBUSY"))
    record = bookkeeping.after_unload(ledger, REBOOT, "it went", True, NOW).reboot
    assert "unloaded" in record.owed
    assert record.landing == Landing(ram=gib(*range(8)), segments=gib(7))
    assert (record.failures, record.next_unload, record.last_error) == (0, 0, "")
    assert record.last_action == "unloaded it: it went"
    # ... and both outlive the look that finds it gone
    gone = recognise(seen(reboot=False), book(reboot=record)).reboot
    assert (gone.owed, gone.landing) == (record.owed, record.landing)


@pytest.mark.parametrize("record", [foreign(), ours()])
def test_an_unload_of_one_whose_place_is_not_known(record: ImageRecord) -> None:
    after = bookkeeping.after_unload(book(reboot=record), REBOOT, "it went", False, NOW).reboot
    assert (after.owed, after.landing) == ("", None)


def test_an_unload_that_fails_is_due_again_sooner_than_a_load() -> None:
    record = bookkeeping.after_failed_unload(book(), REBOOT, "EBUSY", NOW).reboot
    assert 500 < record.next_unload < 500 + FIRST_RETRY
    assert (record.next_try, record.last_error, record.failures) == (0, "EBUSY", 1)
    assert record.segments == gib(7)


def test_since_is_when_the_state_became_what_it_is() -> None:
    stale = reconcile(seen(drift=Drift(gib(3))), book(), configured())
    first = bookkeeping.with_states(book(), stale, NOW)
    assert (first.crash.state, first.crash.since_wall) == (State.STALE, NOW.wall)
    later = Now(boot=600, wall=NOW.wall + 100)
    assert bookkeeping.with_states(first, stale, later) == first
    current = reconcile(seen(), book(), configured())
    assert bookkeeping.with_states(first, current, later).crash.since_wall == later.wall


def test_an_event_gives_what_failed_another_chance() -> None:
    waiting = book(crash=ours(next_try=900, failures=4), reboot=ours(next_unload=900))
    after = bookkeeping.retry_now(waiting)
    assert (after.crash.next_try, after.reboot.next_unload) == (0, 0)
    assert after.crash.failures == 4
    assert bookkeeping.retry_now(after) is after
