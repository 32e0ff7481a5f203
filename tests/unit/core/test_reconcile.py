# SPDX-License-Identifier: GPL-2.0-or-later
"""The decisions: what is done about a verdict, and what the kernel's state says of the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd import config, holds
from kexecwatchd.config import Config
from kexecwatchd.ledger import (
    INTERRUPTED,
    LOAD_FAILED,
    ImageRecord,
    Intent,
    Landing,
    Ledger,
    NoDetour,
    Pair,
    Prediction,
)
from kexecwatchd.model import (
    Detour,
    Drift,
    ImageName,
    Load,
    Mode,
    Observation,
    PlacedBy,
    State,
    Unload,
)
from kexecwatchd.ranges import RangeSet
from kexecwatchd.reconcile import (
    in_force,
    obstacle_to_discard,
    obstacle_to_load,
    pair_of,
    recognise,
    reconcile,
)
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
    step_for,
)

NONE = ImageRecord()
OWED = ImageRecord(owed="it was interrupted")
MISSING = Drift(missing=gib(3))
EXTRA = Drift(extra=gib(9))
DIFFERENT = ours(pair=PAIR.model_copy(update={"cmdline": "debug"}))
PLACED = ours(fingerprint="", placement=placed(7))
DIFFERENT_PLACED = DIFFERENT.model_copy(update={"placement": placed(7)})


# Modes and states. What is expected: "load", "load!" (it endangers), "unload", or why not.

CRASH_CASES = [
    # (look, record, ensure, follow)
    (seen(), ours(), "", ""),
    (seen(), foreign(), "", ""),
    (seen(), DIFFERENT, "load", "load"),
    (seen(drift=MISSING), ours(), "load", "load"),
    (seen(drift=MISSING), foreign(), "load", "load"),
    (seen(drift=EXTRA), ours(), "load!", "load!"),
    (seen(drift=Drift(missing_notes=("cpu1",))), ours(), "load", "load"),
    (seen(drift=MISSING), ours(uncured=MISSING), "did not cure", "did not cure"),
    (seen(drift=Drift(gib(2, 3))), ours(uncured=Drift(gib(2, 3, 4))), "did not", "did not"),
    (seen(drift=Drift(gib(2, 3))), ours(uncured=MISSING), "load", "load"),
    (seen(drift=Drift(gib(3), gib(9))), ours(uncured=MISSING), "load!", "load!"),
    (seen(drift=Drift(gib(3), gib(9))), ours(uncured=EXTRA), "load", "load"),
    (seen(drift=MISSING), ours(uncured=Drift(missing_notes=("cpu1",))), "load", "load"),
    (seen(crash=False), NONE, "load!", ""),
    (seen(crash=False), OWED, "load!", "load!"),
    (seen(crash=False), ImageRecord(last_error="why"), "load!", ""),
    (seen(crash=False), OWED.model_copy(update={"last_error": "why"}), "load!", "load!"),
    (seen(), ours(owed="the configuration was reloaded"), "load", "load"),
    (seen(header=False), ours(), "", ""),
    (seen(header=False), foreign(), "", ""),
    (seen(header=False), ours(ram=gib(*range(7))), "load", "load"),
    (seen(header=False), ours(ram=gib(*range(9))), "load!", "load!"),
    (seen(map=None, problem="hidden"), ours(), "", ""),
    # its capture kernel would take the memory that it is to dump
    (seen(acpi_memory=True), ours(), "acpi_no_memhotplug", "acpi_no_memhotplug"),
    (seen(acpi_memory=True, crash_cmdline="quiet"), foreign(), "acpi_no_memhotplug", "acpi_no_"),
    (seen(acpi_memory=True, crash_cmdline="x acpi_no_memhotplug"), ours(), "", ""),
]
NO_TOOLS: dict[str, Any] = {"tools_obstacle": "kexec-tools is not installed"}
LANDED = Landing(pair=PAIR, ram=gib(*range(8)), segments=placed(7).segments)
OWED_THERE = OWED.model_copy(update={"landing": LANDED})
TRIED = NoDetour(ram=gib(*range(8)), below=7 * GIB, error="no room")
PREDICTED = placed(7, source=PlacedBy.PREDICTION)
HOT: dict[str, Any] = {"boot_ram": gib(*range(7))}  # block 7 was hot-added
REBOOT_CASES = [
    (seen(), PLACED, "", ""),
    (seen(), foreign(), "", ""),
    (seen(offline=[7]), PLACED, "unload", "unload"),
    (seen(offline=[1]), foreign(), "unload", "unload"),
    # in memory that can go away: elsewhere, or not at all
    (seen(movable=gib(7)), PLACED, "load below 7", "load below 7"),
    (seen(movable=gib(3, 7)), PLACED, "load below 3", "load below 3"),
    (seen(**HOT), PLACED, "load below 7", "load below 7"),
    (seen(movable=gib(7), **NO_TOOLS), PLACED, "unload", "unload"),
    (seen(movable=gib(7)), ours(placement=placed(7), no_detour=TRIED), "unload", "unload"),
    (
        seen(movable=gib(6, 7)),
        ours(placement=placed(7), no_detour=TRIED),
        "load below 6",
        "load below 6",
    ),
    (seen(movable=gib(7), forecast=placed(5), **NO_TOOLS), PLACED, "load", "load"),
    (seen(movable=gib(7), forecast=PREDICTED, **NO_TOOLS), PLACED, "unload", "unload"),
    (seen(movable=gib(7), **NO_TOOLS), DIFFERENT_PLACED, "unload", "unload"),
    (seen(movable=gib(6)), PLACED, "", ""),
    # none is loaded
    (seen(reboot=False), NONE, "load", ""),
    (seen(reboot=False), OWED, "load", "load"),
    (seen(reboot=False, offline=[7]), OWED_THERE, "load below 7", "load below 7"),
    (seen(reboot=False, offline=[7], **NO_TOOLS), OWED_THERE, "offline", "offline"),
    (seen(reboot=False, offline=[6]), OWED_THERE, "load", "load"),
    (seen(reboot=False, present=range(9), offline=[7]), OWED_THERE, "load", "load"),
    (
        seen(reboot=False, offline=[7], **NO_TOOLS),
        ImageRecord(landing=LANDED),
        "not installed",
        "",
    ),
    (seen(reboot=False, forecast=PREDICTED, **HOT), OWED, "load below 7", "load below 7"),
    (seen(reboot=False, forecast=PREDICTED, **HOT, **NO_TOOLS), OWED, "refused", "refused"),
    (seen(reboot=False, forecast=placed(5), **HOT, **NO_TOOLS), OWED, "load", "load"),
    (
        seen(reboot=False, forecast=PREDICTED, **HOT, **NO_TOOLS),
        OWED.model_copy(update={"prediction": Prediction.DISAGREES}),
        "load",
        "load",
    ),
    # memory that was boot memory is gone: no load mends what the next kernel is told
    (
        seen(present=range(7), boot_ram=gib(*range(8))),
        ours(placement=placed(1)),
        "unload",
        "unload",
    ),
    (seen(present=range(7), boot_ram=gib(*range(8)), reboot=False), OWED, "refused", "refused"),
    (seen(map=None, problem="hidden"), PLACED, "", ""),
]
CASES = [(CRASH, *case) for case in CRASH_CASES] + [(REBOOT, *case) for case in REBOOT_CASES]


def ledger_with(image: ImageName, record: ImageRecord) -> Ledger:
    return book(crash=record) if image is CRASH else book(reboot=record)


def outcome(image: ImageName, look: Observation, record: ImageRecord, mode: str) -> str:
    step = step_for(image, look, ledger_with(image, record), configured(mode, mode))
    if isinstance(step.action, Load):
        assert not step.held
        if step.action.detour is not None:
            return f"load below {step.action.detour.below // GIB}"
        return "load!" if step.action.endangers else "load"
    if isinstance(step.action, Unload):
        assert not step.held
        return "unload"
    return f"held: {step.held}" if step.held else ""


@pytest.mark.parametrize(("image", "look", "record", "ensure", "follow"), CASES)
def test_action(
    image: ImageName, look: Observation, record: ImageRecord, ensure: str, follow: str
) -> None:
    for mode, expected in (("ensure", ensure), ("follow", follow)):
        got = outcome(image, look, record, mode)
        if expected in ("", "load", "load!", "unload") or expected.startswith("load below"):
            assert got == expected
        else:
            assert got.startswith("held: ")
            assert expected in got


@pytest.mark.parametrize(("image", "look", "record", "_ensure", "_follow"), CASES)
def test_observe_judges_and_touches_nothing(
    image: ImageName, look: Observation, record: ImageRecord, _ensure: str, _follow: str
) -> None:
    ledger = ledger_with(image, record)
    step = step_for(image, look, ledger, configured("observe", "observe"))
    assert step.action is None
    assert step.held == "mode is observe"
    assert step.verdict == step_for(image, look, ledger, configured("follow", "follow")).verdict


@pytest.mark.parametrize(("image", "look", "record", "_ensure", "_follow"), CASES)
def test_off_does_not_even_judge(
    image: ImageName, look: Observation, record: ImageRecord, _ensure: str, _follow: str
) -> None:
    step = step_for(image, look, ledger_with(image, record), configured("off", "off"))
    assert (step.action, step.held, step.verdict.state) == (None, "", State.UNKNOWN)


def test_the_reason_of_a_load_is_the_fresh_part_alone() -> None:
    drift = Drift(missing=gib(2, 3))
    step = step_for(CRASH, seen(drift=drift), book(crash=ours(uncured=MISSING)))
    assert step.action == Load("1 GiB of memory would be missing from a dump")


def test_a_load_that_failed_and_is_owed_is_a_failure_in_every_mode() -> None:
    failed = ImageRecord(last_error="why")
    owed = failed.model_copy(update={"owed": "it was unloaded"})
    for image, look in ((CRASH, seen(crash=False)), (REBOOT, seen(reboot=False))):
        for record, mode, state in (
            (failed, "ensure", State.FAILED),
            (failed, "follow", State.ABSENT),
            (failed, "observe", State.ABSENT),
            (owed, "ensure", State.FAILED),
            (owed, "follow", State.FAILED),
        ):
            step = step_for(image, look, ledger_with(image, record), configured(mode, mode))
            assert step.verdict.state is state


def test_a_detour_is_taken_for_its_own_reason() -> None:
    step = step_for(REBOOT, seen(movable=gib(7), forecast=PREDICTED), book(reboot=PLACED))
    assert step.action == Load(
        f"{step.verdict.reason}; by kexec-tools, elsewhere", detour=Detour(7 * GIB)
    )


def test_a_better_place_in_cma_is_looked_for_once() -> None:
    look = seen(movable=gib(7), forecast=PREDICTED, cma=True)
    first = step_for(REBOOT, look, book(reboot=PLACED))
    assert first.action == Load(first.verdict.reason, cma=True)
    tried = PLACED.model_copy(update={"cma": True})
    second = step_for(REBOOT, look, book(reboot=tried)).action
    assert isinstance(second, Load)
    assert (second.cma, second.detour) == (False, Detour(7 * GIB))
    safe = seen(movable=gib(7), forecast=placed(5), cma=True)
    back = step_for(REBOOT, safe, book(reboot=tried))
    assert back.action == Load(back.verdict.reason)


def test_someone_elses_image_that_would_take_the_memory_is_replaced_by_ours() -> None:
    look = seen(acpi_memory=True, crash_cmdline="quiet")
    named = {"kernel": PAIR.kernel, "cmdline": "quiet acpi_no_memhotplug"}
    settings = config.from_tables({"crash": {"mode": "follow", **named}}, {})
    assert isinstance(step_for(CRASH, look, book(crash=foreign()), settings).action, Load)
    bare = configured("follow", "follow", files=False)
    assert step_for(CRASH, look, book(crash=foreign()), bare).held.startswith("add acpi_no_")
    degraded = ours(pair=pair_of(settings.crash), degraded="the initrd is gone")
    assert step_for(CRASH, look, book(crash=degraded), settings).action is None


GUARDED = [
    # what the kernel would do anyway is put up with, unless the memory is gone already
    (seen(movable=gib(7), **NO_TOOLS), PLACED, "held: kept"),
    (seen(movable=gib(7)), PLACED, "load below 7"),
    (seen(offline=[7], **NO_TOOLS), PLACED, "unload"),
    (seen(reboot=False, forecast=PREDICTED, **HOT, **NO_TOOLS), OWED, "load"),
    (seen(reboot=False, forecast=PREDICTED, offline=[7], **NO_TOOLS), OWED, "held: refused"),
]


@pytest.mark.parametrize(("look", "record", "expected"), GUARDED)
def test_guard(look: Observation, record: ImageRecord, expected: str) -> None:
    named = {"kernel": PAIR.kernel, "initrd": PAIR.initrd, "cmdline": PAIR.cmdline}
    settings = config.from_tables(
        {"reboot": {"mode": "ensure", "when_unsafe": "guard", **named}}, {}
    )
    step = step_for(REBOOT, look, book(reboot=record), settings)
    got = f"held: {step.held}" if step.held else ""
    if isinstance(step.action, Load):
        got = (
            "load"
            if step.action.detour is None
            else f"load below {step.action.detour.below // GIB}"
        )
    elif isinstance(step.action, Unload):
        got = "unload"
    assert got.startswith(expected)


def test_an_unsafe_image_whose_files_are_configured_no_more_is_unloaded() -> None:
    settings = config.from_tables({"reboot": {"mode": "follow"}}, {})
    step = step_for(REBOOT, seen(movable=gib(7)), book(reboot=PLACED), settings)
    assert isinstance(step.action, Unload)


OBSTACLES = [
    (CRASH, seen(crash=None), "no kexec support"),
    (CRASH, seen(map=None, problem="addresses are hidden"), "addresses are hidden"),
    (CRASH, seen(map=None, crash=None, problem="the state is hidden"), "the state is hidden"),
    (CRASH, seen(reserved=False), "crashkernel="),
    (REBOOT, seen(reserved=False), ""),
    (CRASH, seen(load_disabled=True), "kexec_load_disabled"),
    (REBOOT, seen(load_disabled=True), "kexec_load_disabled"),
    (CRASH, seen(limit_panic=0), "kexec_load_limit_panic"),
    (CRASH, seen(limit_panic=1, limit_reboot=0), ""),
    (REBOOT, seen(limit_reboot=0), "kexec_load_limit_reboot"),
    (REBOOT, seen(limit_reboot=1, limit_panic=0), ""),
    (CRASH, seen(), ""),
]


@pytest.mark.parametrize(("image", "look", "words"), OBSTACLES)
def test_obstacle(image: ImageName, look: Observation, words: str) -> None:
    told = obstacle_to_load(image, look, configured().image(image))
    assert words in told
    assert bool(words) == bool(told)


def test_without_files_nothing_is_loaded() -> None:
    bare = configured("follow", "follow", files=False)
    step = step_for(CRASH, seen(drift=MISSING), book(), bare)
    assert step.action is None
    assert "no kernel is configured" in step.held


def test_an_image_of_ours_whose_files_are_configured_no_more_stays() -> None:
    bare = configured("follow", "follow", files=False)
    for image in ImageName:
        step = step_for(image, seen(), book(), bare)
        assert (step.verdict.state, step.action, step.held) == (State.CURRENT, None, "")


def test_an_obstacle_holds_what_is_wanted_and_nothing_else() -> None:
    drifted = seen(drift=MISSING, load_disabled=True)
    assert "kexec_load_disabled" in step_for(CRASH, drifted, book()).held
    assert step_for(CRASH, seen(load_disabled=True), book()).held == ""


@pytest.mark.parametrize(
    "look", [seen(offline=[7], load_disabled=True), seen(offline=[7], limit_reboot=0)]
)
def test_an_unload_that_the_kernel_would_refuse_is_held(look: Observation) -> None:
    step = step_for(REBOOT, look, book())
    assert step.action is None
    assert step.held.startswith("it cannot be unloaded: kernel.kexec_load_")
    assert step.verdict.danger


def test_an_unload_needs_no_files() -> None:
    bare = configured("follow", "follow", files=False)
    assert isinstance(step_for(REBOOT, seen(offline=[7]), book(), bare).action, Unload)


def test_the_configured_files_in_the_ledgers_terms() -> None:
    assert pair_of(configured().crash) == PAIR
    assert pair_of(configured("follow", "follow", files=False).crash) is None
    alone = {"kernel": PAIR.kernel, "cmdline": ""}
    settings = config.from_tables({"crash": {"mode": "follow", **alone}}, {})
    assert pair_of(settings.crash) == Pair(kernel=PAIR.kernel, initrd="", cmdline="")


# What the kernel shows, and what becomes of the ledger

# What is known of one image and says nothing of the next; and what does.
OF_IT: dict[str, Any] = {
    "placement": placed(7),
    "below": 7 * GIB,
    "cma": True,
    "uncured": MISSING,
    "degraded": "the initrd is gone",
}
OF_THE_MACHINE: dict[str, Any] = {
    "landing": LANDED,
    "no_detour": TRIED,
    "no_cma": gib(1),
    "prediction": Prediction.AGREES,
    "load_count": 3,
}


def recognised(image: ImageName, look: Observation, record: ImageRecord) -> ImageRecord:
    return recognise(look, ledger_with(image, record)).of(image)


def test_what_is_as_we_left_it_stays_as_it_was() -> None:
    ledger = book()
    assert recognise(seen(), ledger) == ledger


def test_an_image_that_we_know_nothing_of_is_foreign() -> None:
    for image in ImageName:
        record = recognised(image, seen(offline=[6]), NONE)
        assert not record.ours
        assert record.ram == gib(*range(8))
        assert record.online == gib(0, 1, 2, 3, 4, 5, 7)


def test_a_map_that_cannot_be_read_is_no_first_sight() -> None:
    look = seen(map=None, problem="hidden", fingerprint="another")
    assert recognised(CRASH, look, NONE) == NONE
    assert recognised(CRASH, look, ours()) == ours()


def test_a_state_that_cannot_be_read_is_no_image_that_is_gone() -> None:
    look = seen(map=None, crash=None, reboot=None, problem="the kernel's state cannot be read")
    ledger = book(crash=ours(owed="it is"))
    assert recognise(look, ledger) == ledger


def test_an_image_with_another_fingerprint_is_foreign_now() -> None:
    record = recognised(CRASH, seen(fingerprint="another"), ours(uncured=MISSING, degraded="x"))
    assert (record.ours, record.pair, record.fingerprint) == (False, None, "another")
    assert (record.uncured, record.degraded) == (Drift(), "")


@pytest.mark.parametrize("fingerprint", ["", "ours"])
def test_a_fingerprint_that_is_not_known_proves_nothing(fingerprint: str) -> None:
    """Neither before the handshake nor while the region cannot be read."""
    assert recognised(CRASH, seen(fingerprint=""), ours()) == ours()
    assert recognised(CRASH, seen(), ours(fingerprint=fingerprint)).ours


def test_what_was_known_of_one_image_is_not_taken_for_the_next() -> None:
    known = ours(**OF_IT, **OF_THE_MACHINE, failures=2, next_try=9.0, last_error="x", owed="y")
    kept = OF_THE_MACHINE | {"ram": seen().ram, "online": seen().online}
    other = recognised(CRASH, seen(fingerprint="another"), known)
    assert other == ImageRecord(**kept, fingerprint="another")
    unknown = known.model_copy(update={"ram": None, "online": None, "fingerprint": ""})
    assert recognised(REBOOT, seen(), unknown) == ImageRecord(**kept)
    interrupted = known.model_copy(update={"intent": INTENT, "fingerprint": ""})
    both = {"ram": gib(*range(9)), "online": gib(*range(8)), "load_count": 4}
    left = {"failures": 2, "next_try": 9.0, "last_error": "x", "owed": INTERRUPTED}
    assert recognised(REBOOT, seen(), interrupted) == ImageRecord(
        **(kept | both | left), ours=True, pair=PAIR
    )
    gone = recognised(REBOOT, seen(reboot=False), known)
    left = {"failures": 2, "next_try": 9.0, "last_error": "x", "owed": "y"}
    assert gone == ImageRecord(**OF_THE_MACHINE, **left, pair=PAIR)


def test_an_image_that_is_gone_is_forgotten() -> None:
    good = ours(fingerprint="f", placement=placed(7), uncured=MISSING, degraded="x")
    for image, look in ((CRASH, seen(crash=False)), (REBOOT, seen(reboot=False))):
        record = recognised(image, look, good)
        assert record.load_count == good.load_count
        assert record.model_copy(update={"pair": None, "load_count": 0}) == ImageRecord()


def test_someone_who_takes_it_away_is_no_failure_and_owes_nothing() -> None:
    record = recognised(CRASH, seen(crash=False), ours(last_error="an older failure"))
    assert (record.owed, record.last_error) == ("", "")


def test_a_failure_while_none_was_there_stays_one() -> None:
    failed = ImageRecord(last_error="the kernel file is empty")
    assert recognised(CRASH, seen(crash=False), failed) == failed


def test_a_load_that_took_the_old_image_along_stays_owed() -> None:
    failed = ours(owed=LOAD_FAILED, last_error="ENOMEM")
    record = recognised(CRASH, seen(crash=False), failed)
    assert (record.owed, record.last_error) == (LOAD_FAILED, "ENOMEM")
    again = recognised(CRASH, seen(crash=False), record)
    assert again == record


def test_a_load_that_failed_owes_nothing_while_the_old_image_is_there() -> None:
    assert recognised(CRASH, seen(), ours(owed=LOAD_FAILED)).owed == ""
    assert recognised(CRASH, seen(), ours(owed="the configuration was reloaded")).owed


INTENT = Intent(pair=PAIR, fingerprint_before="ours", ram=gib(*range(9)), online=gib(*range(6)))


def test_an_interrupted_load_that_left_none_is_owed() -> None:
    for image, look in ((CRASH, seen(crash=False)), (REBOOT, seen(reboot=False))):
        record = recognised(image, look, ours(intent=INTENT))
        assert (record.owed, record.intent) == ("the load before was interrupted", None)


def test_an_interrupted_load_that_never_began_leaves_the_record() -> None:
    known = ours(uncured=MISSING)
    look = seen(drift=MISSING)
    assert recognised(CRASH, look, known.model_copy(update={"intent": INTENT})) == known
    someones = foreign()
    assert recognised(CRASH, seen(), someones.model_copy(update={"intent": INTENT})) == someones


@pytest.mark.parametrize("before", ["ours", ""])
def test_an_interrupted_load_that_came_through_is_ours(before: str) -> None:
    intent = INTENT.model_copy(update={"fingerprint_before": before})
    look = seen(fingerprint="new")
    record = recognised(CRASH, look, foreign(intent=intent, owed="it was"))
    assert record.ours
    assert record.intent is None
    assert (record.ram, record.online) == (look.ram, look.online)
    assert (record.fingerprint, record.owed, record.load_count) == ("new", "", 1)


def test_an_interrupted_reboot_load_counts_with_the_map_of_either_image() -> None:
    record = recognised(REBOOT, seen(), ours(ram=gib(0, 20), online=gib(0, 20), intent=INTENT))
    assert record.ram == gib(*range(9), 20)
    assert record.online == gib(*range(8), 20)
    assert record.placement is None
    assert record.owed == "the load before was interrupted", "which of the two it is, none can tell"


def test_an_interrupted_crash_load_that_cannot_be_read_back_is_owed() -> None:
    intent = INTENT.model_copy(update={"fingerprint_before": ""})
    record = recognised(CRASH, seen(header=False, fingerprint=""), ours(intent=intent))
    assert record.owed == "the load before was interrupted"


def test_drift_that_vanished_is_new_when_it_comes_back() -> None:
    record = recognised(CRASH, seen(), ours(uncured=MISSING))
    assert record.uncured == Drift()
    assert recognised(CRASH, seen(drift=MISSING), ours(uncured=MISSING)).uncured == MISSING


def test_what_was_proven_by_reading_back_is_the_new_baseline() -> None:
    """So that one look that cannot read the header does not see drift of long ago."""
    record = recognised(CRASH, seen(), ours(ram=gib(0)))
    assert record.ram == seen().ram
    stale = recognised(CRASH, seen(drift=MISSING), ours(ram=gib(0)))
    assert stale.ram == gib(0)
    unreadable = ours(ram=gib(0), uncured=MISSING)
    assert recognised(CRASH, seen(header=False), unreadable) == unreadable


def test_a_fingerprint_is_learned_when_it_can_be_read() -> None:
    assert recognised(CRASH, seen(fingerprint="ours"), ours(fingerprint="")).fingerprint == "ours"


def test_an_interrupted_load_over_a_foreign_reboot_image_keeps_its_baseline() -> None:
    record = recognised(REBOOT, seen(), foreign(intent=INTENT))
    assert record.online == gib(*range(8))


# Whatever comes

block_numbers = st.sets(st.integers(0, 9), min_size=1)
ranges = block_numbers.map(lambda numbers: gib(*numbers))
drifts = st.builds(
    Drift,
    st.just(RangeSet()) | ranges,
    st.just(RangeSet()) | ranges,
    st.just(()) | st.just(("cpu1",)),
)
intents = st.builds(
    Intent,
    pair=st.just(PAIR),
    fingerprint_before=st.sampled_from(["", "ours"]),
    ram=ranges,
    online=ranges,
)
placements = st.builds(placed, st.integers(0, 9), source=st.sampled_from(PlacedBy))
records = st.builds(
    ImageRecord,
    ours=st.booleans(),
    pair=st.none() | st.just(PAIR) | st.just(DIFFERENT.pair),
    ram=st.none() | ranges,
    online=st.none() | ranges,
    placement=st.none() | placements,
    landing=st.none()
    | st.builds(Landing, pair=st.just(PAIR), ram=ranges, segments=st.just(placed(7).segments)),
    no_detour=st.none()
    | st.builds(NoDetour, ram=ranges, below=st.just(7 * GIB), error=st.just("no room")),
    prediction=st.sampled_from(Prediction),
    fingerprint=st.sampled_from(["", "ours", "another"]),
    intent=st.none() | intents,
    owed=st.sampled_from(["", "it is", LOAD_FAILED]),
    uncured=drifts,
    last_error=st.sampled_from(["", "a failure"]),
)
ledgers = st.builds(Ledger, boot_id=st.just("this-boot"), crash=records, reboot=records)
looks = st.builds(
    seen,
    present=block_numbers,
    offline=st.sets(st.integers(0, 9)),
    crash=st.sampled_from([True, False, None]),
    reboot=st.sampled_from([True, False, None]),
    drift=drifts,
    header=st.booleans(),
    reserved=st.booleans(),
    load_disabled=st.booleans(),
    limit_panic=st.integers(-1, 1),
    limit_reboot=st.integers(-1, 1),
    movable=st.just(RangeSet()) | ranges,
    boot_ram=st.none() | ranges,
    forecast=st.none() | placements,
    tools_obstacle=st.sampled_from(["", "it is not installed"]),
)
looks |= looks.map(lambda look: replace(look, map=None, header=None, problem="hidden"))
modes = st.sampled_from([mode.value for mode in Mode])
quiet_modes = st.sampled_from(["follow", "observe", "off"])
configs = st.builds(configured, modes, modes) | st.builds(
    configured, quiet_modes, quiet_modes, st.just(False)
)


@given(looks, ledgers, configs)
def test_never(look: Observation, ledger: Ledger, settings: Config) -> None:
    for step in reconcile(look, recognise(look, ledger), settings):
        image = settings.image(step.image)
        if image.mode in (Mode.OBSERVE, Mode.OFF):
            assert step.action is None
        if isinstance(step.action, Load):
            assert image.files is not None
            assert not obstacle_to_load(step.image, look, image)
            assert not step.verdict.danger
        if isinstance(step.action, Unload):
            assert step.image is REBOOT, "a crash image is replaced, never unloaded"
            assert look.reboot_loaded
            assert not look.load_disabled
            assert look.limit_reboot != 0
        assert step.action is None or not step.held
        assert "0x" not in step.verdict.reason + step.held


@given(looks, ledgers)
def test_recognising_twice_is_recognising_once(look: Observation, ledger: Ledger) -> None:
    once = recognise(look, ledger)
    assert recognise(look, once) == once


@given(looks, ledgers)
def test_nothing_is_ours_or_expected_where_nothing_is_loaded(
    look: Observation, ledger: Ledger
) -> None:
    for image in ImageName:
        record = recognise(look, ledger).of(image)
        if look.loaded(image) is None and look.problem:
            continue
        assert record.intent is None
        if not look.loaded(image):
            assert not record.ours
            assert record.ram is None


@given(looks, ledgers)
def test_a_reboot_image_over_memory_that_went_never_stays(
    look: Observation, ledger: Ledger
) -> None:
    ledger = recognise(look, ledger)
    step = step_for(REBOOT, look, ledger, config.from_tables({"reboot": {"mode": "follow"}}, {}))
    placement = ledger.reboot.placement
    if look.map and look.reboot_loaded and placement and placement.ranges - look.online:
        assert isinstance(step.action, Unload) or "cannot be unloaded" in step.held


# While somebody holds


def held(ledger: Ledger) -> Ledger:
    return holds.take(ledger, ":1.5", "apt", "a new kernel", 1000.0)[0]


HELD_CASES: list[tuple[ImageName, Observation, ImageRecord, bool]] = [
    # (image, look, record, whether it is unloaded all the same)
    (CRASH, seen(drift=MISSING), ours(), False),
    (CRASH, seen(drift=EXTRA), ours(), False),
    (CRASH, seen(crash=False), OWED, False),
    (REBOOT, seen(offline=[7]), PLACED, True),
    (REBOOT, seen(offline=[1]), foreign(), True),
    # In memory that can go but is there: none could be loaded in its place.
    (REBOOT, seen(movable=gib(7)), PLACED, False),
    (REBOOT, seen(movable=gib(7), **NO_TOOLS), PLACED, False),
]


@pytest.mark.parametrize(("image", "look", "record", "unloaded"), HELD_CASES)
def test_while_somebody_holds_only_a_danger_is_ended(
    image: ImageName, look: Observation, record: ImageRecord, unloaded: bool
) -> None:
    ledger = book(crash=record) if image is CRASH else book(reboot=record)
    free = step_for(image, look, ledger)
    assert free.action is not None
    step = step_for(image, look, held(ledger))
    assert step.verdict == free.verdict
    assert isinstance(step.action, Unload) == unloaded
    if not unloaded:
        assert step.action is None
        assert step.held == "held by apt (a new kernel): nothing is loaded until that ends"


def test_a_hold_is_no_reason_where_nothing_is_to_be_done() -> None:
    assert step_for(CRASH, seen(), held(book())).held == ""
    look = seen(drift=MISSING)
    assert step_for(CRASH, look, held(book()), configured("observe")).held == "mode is observe"


# Modes that somebody wants until the next boot


def test_the_mode_in_force_is_what_somebody_wants() -> None:
    settings = configured("ensure", "follow")
    ledger = book(crash=ours(mode=Mode.OBSERVE))
    forced = in_force(settings, ledger)
    assert (forced.crash.mode, forced.reboot.mode) == (Mode.OBSERVE, Mode.FOLLOW)
    assert forced.crash.files == settings.crash.files
    assert settings.crash.mode is Mode.ENSURE
    assert in_force(settings, book()) == settings


DISCARDS: list[tuple[str, Observation, str]] = [
    ("follow", seen(), ""),
    ("follow", seen(load_disabled=True), "kexec_load_disabled"),
    ("follow", seen(reboot=False), "none is loaded"),
    ("follow", seen(reboot=None), "no kexec support"),
    ("follow", seen(reboot=None, problem="it cannot be read"), "it cannot be read"),
    ("ensure", seen(), "kexecwatchctl mode reboot follow"),
    ("observe", seen(), "mode is observe"),
    ("off", seen(), "mode is off"),
]


@pytest.mark.parametrize(("mode", "look", "why"), DISCARDS)
def test_what_forbids_to_discard_an_image(mode: str, look: Observation, why: str) -> None:
    found = obstacle_to_discard(REBOOT, look, ours(), configured(reboot=mode).reboot)
    assert why in found
    assert bool(found) == bool(why)


def test_one_that_is_about_to_be_loaded_may_be_discarded() -> None:
    settings = configured(reboot="follow").reboot
    assert not obstacle_to_discard(REBOOT, seen(reboot=False), ours(owed="it failed"), settings)
