# SPDX-License-Identifier: GPL-2.0-or-later
"""What the ledger says after each deed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from kexecwatchd import bookkeeping
from kexecwatchd.bookkeeping import FIRST_RETRY, HISTORY, LONGEST_RETRY, Now
from kexecwatchd.execute import CONFIGURED, LAST_GOOD, Outcome
from kexecwatchd.ledger import (
    LOAD_FAILED,
    ImageRecord,
    Intent,
    Landing,
    LastGood,
    Ledger,
    LoadRecord,
    NoDetour,
    Prediction,
)
from kexecwatchd.model import (
    Action,
    Detour,
    Drift,
    ImageName,
    Load,
    Observation,
    PlacedBy,
    Placement,
    Segment,
    State,
)
from kexecwatchd.reconcile import recognise, reconcile
from kexecwatchd.report import Decision
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
    placed,
    seen,
)

NOW = Now(boot=500.0, wall=1_700_000_000.0)
KEPT = LastGood(pair=PAIR, kernel_signature="1:2:3:4:5")
PLACEMENT = Placement((Segment(GIB, 4096), Segment(2 * GIB, 8192)), PlacedBy.LOG, GIB)


def succeeded(**changes: object) -> Outcome:
    told: dict[str, object] = {"succeeded": True, "seconds": 2.5, "source": CONFIGURED}
    return Outcome(**(told | {"kept": KEPT, "placement": PLACEMENT} | changes))  # type: ignore[arg-type]


def failed(error: str = "ENOMEM", seconds: float = 2.5) -> Outcome:
    return Outcome(succeeded=False, seconds=seconds, error=error)


def loaded(
    ledger: Ledger, outcome: Outcome, image: ImageName = CRASH, load: Load | None = None
) -> ImageRecord:
    load = load or Load("memory came")
    after = bookkeeping.after_load(
        ledger, image, PAIR, load, outcome=outcome, before=seen(), now=NOW
    )
    other = REBOOT if image is CRASH else CRASH
    assert after.of(other) == ledger.of(other)
    return after.of(image)


def test_an_intent_tells_what_is_about_to_happen() -> None:
    look = seen(offline=[7])
    record = bookkeeping.intending(book(), CRASH, PAIR, look, why="it came", now=NOW).crash
    assert record.intent == Intent(
        pair=PAIR,
        fingerprint_before="ours",
        ram=look.ram,
        online=look.online,
        why="it came",
        at_wall=NOW.wall,
    )
    assert record.model_copy(update={"intent": None}) == ours()


def test_a_load_that_succeeds_starts_a_new_record() -> None:
    before = ours(
        owed="it is",
        uncured=Drift(gib(3)),
        below=GIB,
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
        placement=PLACEMENT,
        last_good=KEPT,
        copied=True,
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
    record = loaded(book(crash=ours(placement=placed(1))), succeeded(placement=None))
    assert record.placement is None


def test_a_load_from_the_last_good_files_is_degraded_until_another() -> None:
    outcome = succeeded(source=LAST_GOOD, degraded="the initrd is gone")
    record = loaded(book(), outcome)
    assert (record.degraded, record.last_error) == ("the initrd is gone", "")
    again = loaded(book(crash=record), succeeded())
    assert (again.degraded, again.last_error) == ("", "")


def test_a_load_that_fails_keeps_what_was_known() -> None:
    before = ours(placement=placed(1), uncured=Drift(gib(3)), last_good=KEPT)
    record = loaded(book(crash=before), failed())
    assert record.owed == LOAD_FAILED
    assert record.last_error == "ENOMEM"
    assert record.last_load is not None
    assert not record.last_load.succeeded
    for name in (
        "ours",
        "pair",
        "ram",
        "online",
        "placement",
        "uncured",
        "last_good",
        "load_count",
    ):
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


@pytest.mark.parametrize("outcome", [succeeded(refused_flags=24), failed()])
def test_a_flag_is_given_up_for_good_once_refused(outcome: Outcome) -> None:
    known = book().model_copy(update={"refused_flags": 8})
    after = bookkeeping.after_load(
        known, CRASH, PAIR, Load("x"), outcome=outcome, before=seen(), now=NOW
    )
    assert after.refused_flags == (8 | outcome.refused_flags)


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


def test_a_crash_image_answers_for_the_memory_that_it_was_loaded_under() -> None:
    record = confirmed(CRASH, ours(ram=gib(0), online=gib(0)), present=range(9), offline=[1])
    assert (record.ram, record.online) == (gib(*range(8)), gib(*range(9)))


def test_a_reboot_image_answers_for_the_memory_of_either_look() -> None:
    record = confirmed(REBOOT, ours(), present=range(9), offline=[1])
    assert (record.ram, record.online) == (gib(*range(9)), gib(*range(9)))


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

UNLOADED = Outcome(True, 0.25)


def unloaded(record: ImageRecord, owed: bool) -> ImageRecord:
    return bookkeeping.after_unload(
        book(reboot=record), REBOOT, "it went", owed, outcome=UNLOADED, now=NOW
    ).reboot


def test_an_unload_owes_another_and_remembers_the_place() -> None:
    landing = Landing(pair=PAIR, ram=gib(*range(8)), segments=placed(7).segments)
    before = ours(landing=landing, failures=2, next_unload=600, last_error="EBUSY")
    record = unloaded(before, owed=True)
    assert record.owed == "it was unloaded because it went"
    assert (record.failures, record.next_unload, record.last_error) == (0, 0, "")
    assert record.last_action == "unloaded it: it went"
    # ... and both outlive the look that finds it gone
    gone = recognise(seen(reboot=False), book(reboot=record)).reboot
    assert (gone.owed, gone.landing) == (record.owed, landing)


@pytest.mark.parametrize("record", [foreign(), ours()])
def test_an_unload_of_one_whose_place_is_not_known(record: ImageRecord) -> None:
    assert unloaded(record, owed=False).owed == ""


def test_an_unload_that_fails_is_due_again_sooner_than_a_load() -> None:
    record = bookkeeping.after_failed_unload(book(), REBOOT, failed("EBUSY"), NOW).reboot
    assert 500 < record.next_unload < 500 + FIRST_RETRY
    assert (record.next_try, record.last_error, record.failures) == (0, "EBUSY", 1)
    assert record.placement == placed(7)


def discarded(record: ImageRecord, outcome: Outcome) -> ImageRecord:
    return bookkeeping.after_discard(
        book(reboot=record), REBOOT, "it was asked for", outcome=outcome, now=NOW
    ).reboot


def test_a_discard_owes_nothing() -> None:
    before = ours(owed="it is", failures=2, last_error="EBUSY", next_try=600, next_unload=600)
    record = discarded(before, UNLOADED)
    assert (record.owed, record.failures, record.last_error) == ("", 0, "")
    assert (record.next_try, record.next_unload) == (0, 0)
    assert (record.last_action, record.last_action_wall) == (
        "discarded it: it was asked for",
        NOW.wall,
    )


def test_a_discard_that_fails_changes_nothing() -> None:
    before = ours(owed="it is")
    assert discarded(before, failed()) == before


def test_the_time_unarmed_is_that_of_all_calls() -> None:
    ledger = book()
    for outcome in (succeeded(), failed(), failed(seconds=0)):
        ledger = bookkeeping.after_load(
            ledger, CRASH, PAIR, Load("x"), outcome=outcome, before=seen(), now=NOW
        )
    ledger = bookkeeping.after_unload(ledger, REBOOT, "x", True, outcome=UNLOADED, now=NOW)
    ledger = bookkeeping.after_failed_unload(ledger, REBOOT, failed(seconds=1), NOW)
    ledger = bookkeeping.after_discard(ledger, REBOOT, "x", outcome=UNLOADED, now=NOW)
    assert ledger.unarmed_seconds == 2.5 + 2.5 + 0.25 + 1 + 0.25


def a_decision(why: str = "memory came", **changes: Any) -> Decision:
    told: dict[str, Any] = {"number": 0, "at": NOW.wall, "action": Action.LOAD, "why": why}
    return Decision(**(told | changes))


def test_the_history_is_numbered_and_bounded() -> None:
    ledger = book()
    for number in range(HISTORY + 3):
        ledger = bookkeeping.decided(ledger, a_decision(str(number)))
    assert len(ledger.decisions) == HISTORY
    assert [d.number for d in ledger.decisions] == list(range(4, HISTORY + 4))
    assert ledger.decisions[-1].why == str(HISTORY + 2)


@pytest.mark.parametrize("text", ["reason", "why", "error", "result_reason"])
def test_the_history_has_no_addresses(text: str) -> None:
    decision = a_decision(**{text: "memmap=0x20000000%0x140000000-0x15fffffff is wrong"})
    kept = bookkeeping.decided(book(), decision).decisions[-1]
    assert getattr(kept, text) == "memmap=[address]%[address] is wrong"


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


# Where a reboot image lies, and what is learnt from it

LOAD = Load("none is loaded")
PREDICTED = placed(6, source=PlacedBy.PREDICTION)
LOGGED = succeeded(placement=placed(7))


def reboot_loaded(
    outcome: Outcome,
    load: Load = LOAD,
    before: Observation | None = None,
    after: Observation | None = None,
) -> ImageRecord:
    """After a load of the reboot image and its handshake."""
    before = before or seen()
    ledger = bookkeeping.after_load(
        book(reboot=ours()), REBOOT, PAIR, load, outcome=outcome, before=before, now=NOW
    )
    if outcome.succeeded:
        ledger = bookkeeping.confirmed(ledger, REBOOT, before, after or before)
    return ledger.reboot


def test_where_the_kernel_put_it_is_where_it_would_put_it_again() -> None:
    record = reboot_loaded(LOGGED)
    assert record.placement == placed(7)
    assert record.landing == Landing(pair=PAIR, ram=seen().ram, segments=placed(7).segments)


@pytest.mark.parametrize(
    ("outcome", "load"),
    [
        (
            succeeded(placement=placed(2, source=PlacedBy.LOADER)),
            Load("unsafe", detour=Detour(3 * GIB)),
        ),
        (succeeded(placement=None), LOAD),
    ],
)
def test_other_loaders_teach_nothing_of_it(outcome: Outcome, load: Load) -> None:
    assert reboot_loaded(outcome, load).landing is None


def test_what_was_learnt_before_outlives_a_load_that_teaches_nothing() -> None:
    """Where the kernel would put it is as true as it was: another loader put this one elsewhere."""
    landing = Landing(pair=PAIR, ram=seen().ram, segments=placed(5).segments)
    for outcome, load in (
        (succeeded(placement=placed(2, source=PlacedBy.LOADER)), Load("x", detour=Detour(3 * GIB))),
        (succeeded(placement=placed(2)), Load("x", cma=True)),
    ):
        assert loaded(book(reboot=ours(landing=landing)), outcome, REBOOT, load).landing == landing


def test_the_last_good_files_go_where_they_went_while_the_others_are_missing() -> None:
    record = reboot_loaded(succeeded(placement=placed(7), source=LAST_GOOD))
    assert record.landing == Landing(pair=PAIR, ram=seen().ram, segments=placed(7).segments)


def test_a_prediction_that_was_wrong_once_is_no_placement_and_stays_wrong() -> None:
    wrong = book(reboot=ours(prediction=Prediction.DISAGREES))
    look = seen(forecast=PREDICTED, logs_placement=False)
    unlogged = loaded(wrong, succeeded(placement=None), REBOOT, LOAD)
    assert unlogged.placement is None
    before = seen(forecast=placed(7, source=PlacedBy.PREDICTION))
    after = bookkeeping.after_load(
        wrong, REBOOT, PAIR, LOAD, outcome=LOGGED, before=before, now=NOW
    )
    confirmed = bookkeeping.confirmed(after, REBOOT, before, before).reboot
    assert confirmed.prediction is Prediction.DISAGREES
    assert (
        bookkeeping.after_load(
            wrong, REBOOT, PAIR, LOAD, outcome=succeeded(placement=None), before=look, now=NOW
        ).reboot.placement
        is None
    )


def test_other_files_do_not_make_a_prediction_wrong() -> None:
    outcome = succeeded(placement=placed(5), source=LAST_GOOD, degraded="the initrd is gone")
    record = reboot_loaded(outcome, before=seen(forecast=PREDICTED))
    assert record.prediction is Prediction.NONE


def test_a_load_into_cma_by_a_kernel_that_logs_nothing_went_elsewhere() -> None:
    """Such a kernel (before 6.8) knows nothing of CMA for images."""
    look = seen(forecast=PREDICTED, cma=True)
    outcome = succeeded(placement=None, refused_flags=8)
    assert reboot_loaded(outcome, Load("x", cma=True), look).placement == PREDICTED
    assert reboot_loaded(succeeded(placement=None), Load("x", cma=True), look).placement is None


def test_what_is_not_logged_is_where_it_was_predicted() -> None:
    look = seen(forecast=PREDICTED)
    record = reboot_loaded(succeeded(placement=None), before=look)
    assert record.placement == PREDICTED
    assert record.landing == Landing(pair=PAIR, ram=look.ram, segments=PREDICTED.segments)
    assert record.prediction is Prediction.NONE, "it does not bear itself out"


@pytest.mark.parametrize(
    ("outcome", "load"),
    [
        (succeeded(placement=None, source=LAST_GOOD), LOAD),
        (succeeded(placement=None), Load("unsafe", detour=Detour(3 * GIB))),
    ],
)
def test_the_prediction_is_for_the_configured_files_and_the_kernels_choice(
    outcome: Outcome, load: Load
) -> None:
    assert reboot_loaded(outcome, load, seen(forecast=PREDICTED)).placement is None


def test_a_crash_image_is_not_where_the_reboot_image_would_be() -> None:
    before = seen(forecast=PREDICTED)
    after = bookkeeping.after_load(
        book(), CRASH, PAIR, LOAD, outcome=succeeded(placement=None), before=before, now=NOW
    )
    assert after.crash.placement is None


def test_a_prediction_from_a_map_that_moved_is_not_believed() -> None:
    moved = seen(present=range(9))
    record = reboot_loaded(succeeded(placement=None), LOAD, seen(forecast=PREDICTED), moved)
    assert (record.placement, record.landing) == (None, None)
    assert "memory changed" in record.owed


def test_memory_that_came_while_kexec_tools_loaded_is_not_hidden_from_the_next_kernel() -> None:
    outcome = succeeded(placement=placed(2, source=PlacedBy.LOADER))
    load = Load("unsafe", detour=Detour(3 * GIB))
    for after, owed in ((seen(present=range(9)), True), (seen(present=range(7)), False)):
        assert bool(reboot_loaded(outcome, load, after=after).owed) == owed


def test_a_log_is_believed_though_the_map_moved_but_says_nothing_of_the_next_load() -> None:
    record = reboot_loaded(LOGGED, after=seen(present=range(9)))
    assert (record.placement, record.landing, record.owed) == (placed(7), None, "")


@pytest.mark.parametrize(
    ("forecast", "after", "prediction"),
    [
        (placed(7, source=PlacedBy.PREDICTION), None, Prediction.AGREES),
        (PREDICTED, None, Prediction.DISAGREES),
        (PREDICTED, seen(present=range(9)), Prediction.NONE),
        (None, None, Prediction.NONE),
    ],
)
def test_a_prediction_is_held_against_the_log(
    forecast: Placement | None, after: Observation | None, prediction: Prediction
) -> None:
    record = reboot_loaded(LOGGED, before=seen(forecast=forecast), after=after)
    assert record.prediction is prediction


def test_a_detour_that_fails_is_not_tried_again_for_the_same_memory() -> None:
    hopeless = Outcome(succeeded=False, seconds=2.5, error="no room", hopeless=True)
    record = reboot_loaded(hopeless, Load("unsafe", detour=Detour(3 * GIB)))
    assert record.no_detour == NoDetour(ram=seen().ram, below=3 * GIB, error="no room")
    assert reboot_loaded(hopeless).no_detour is None
    assert reboot_loaded(failed(), Load("unsafe", detour=Detour(3 * GIB))).no_detour is None


@pytest.mark.parametrize(("block", "helped"), [(2, True), (7, False)])
def test_a_detour_that_leads_to_the_same_memory_did_not_help(block: int, helped: bool) -> None:
    look = seen(movable=gib(3, 7))
    outcome = succeeded(placement=placed(block, source=PlacedBy.LOADER))
    record = reboot_loaded(outcome, Load("unsafe", detour=Detour(3 * GIB)), look)
    assert (record.no_detour is None) == helped


def test_a_new_chance_forgets_what_was_learnt() -> None:
    tried = NoDetour(ram=gib(1), below=GIB, error="no room")
    landing = Landing(pair=PAIR, ram=gib(1), segments=())
    after = bookkeeping.new_chance(book(reboot=ours(no_detour=tried, landing=landing))).reboot
    assert (after.no_detour, after.landing) == (None, None)


@pytest.mark.parametrize(
    ("look", "block", "no_cma"),
    [
        (seen(movable=gib(7), reboot=False, cma=True), 7, True),
        (seen(movable=gib(7), reboot=True, cma=True), 7, False),  # the old one was in the way
        (seen(movable=gib(7), reboot=False, cma=True), 2, False),
    ],
)
def test_cma_that_had_no_room_while_it_was_free_has_none(
    look: Observation, block: int, no_cma: bool
) -> None:
    record = reboot_loaded(succeeded(placement=placed(block)), Load("x", cma=True), look)
    assert (record.no_cma == look.ram) == no_cma
    assert record.landing is None, "it says nothing of where it goes without CMA"
    assert record.prediction is Prediction.NONE


def test_a_load_outside_of_cma_says_nothing_of_cma() -> None:
    look = seen(movable=gib(7), reboot=False, cma=True)
    assert reboot_loaded(succeeded(placement=placed(7)), LOAD, look).no_cma is None
