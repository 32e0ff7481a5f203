# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told outside of what is known inside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kexecwatchd import summary
from kexecwatchd.ledger import HoldRecord, ImageRecord, Ledger, LoadRecord
from kexecwatchd.model import Action, Drift, ImageName, Mode, Observation, State
from kexecwatchd.reconcile import reconcile
from kexecwatchd.report import (
    AddressRange,
    CheckResult,
    DriftSizes,
    Hold,
    ImageStatus,
    LastLoad,
    SegmentDetails,
)
from kexecwatchd.summary import Busy, Known
from tests.unit.core.cases import (
    CRASH,
    GIB,
    REBOOT,
    book,
    configured,
    foreign,
    gib,
    ours,
    placed,
    seen,
)

DRIFT = Drift(gib(2, 3), gib(9), ("cpu1",))


def known(
    look: Observation, ledger: Ledger, crash: str = "ensure", reboot: str = "ensure"
) -> Known:
    return Known(
        seen=look,
        ledger=ledger,
        steps=reconcile(look, ledger, configured(crash, reboot)),
        modes={CRASH: Mode(crash), REBOOT: Mode(reboot)},
        configured={CRASH: Mode.OBSERVE, REBOOT: Mode.FOLLOW},
        reboot=configured(crash, reboot).reboot,
        due={CRASH: 1_700_000_005.0},
        looked_at=1_700_000_000.0,
        kernel_release="6.12.48",
        config_error="a wrong key",
    )


def told(
    look: Observation, record: ImageRecord, mode: str = "ensure", image: ImageName = CRASH
) -> ImageStatus:
    ledger = book(crash=record) if image is CRASH else book(reboot=record)
    status = summary.status(known(look, ledger, mode, mode))
    return next(i for i in status.images if i.image is image)


def test_what_was_seen_and_done_is_told() -> None:
    load = LoadRecord(
        ended=500, ended_wall=1_700_000_001, seconds=2.5, succeeded=True, reason="r", source="s"
    )
    record = ours(
        last_load=load,
        degraded="the initrd is gone",
        last_error="the initrd is gone",
        last_action="loaded it: r",
        last_action_wall=1_700_000_001,
        since_wall=1_700_000_002,
        load_count=7,
    )
    image = told(seen(drift=DRIFT), record)
    assert image == ImageStatus(
        image=CRASH,
        mode=Mode.ENSURE,
        configured_mode=Mode.OBSERVE,
        state=State.STALE,
        reason=image.reason,
        covered=False,
        loaded=True,
        foreign=False,
        degraded="the initrd is gone",
        proof="read-back",
        since=1_700_000_002,
        drift=DriftSizes(
            missing_bytes=2 * GIB,
            missing_ranges=1,
            extra_bytes=GIB,
            extra_ranges=1,
            missing_notes=1,
        ),
        load_count=7,
        last_load=LastLoad(at=1_700_000_001, seconds=2.5, succeeded=True, reason="r", source="s"),
        last_error="the initrd is gone",
        last_action="loaded it: r",
        last_action_at=1_700_000_001,
        next_step=f"load it: {image.reason}",
        next_try=1_700_000_005,
    )


def test_the_machine_is_told() -> None:
    status = summary.status(known(seen(map=None, problem="hidden"), book()))
    assert (status.problem, status.config_error) == ("hidden", "a wrong key")
    assert (status.kernel_release, status.looked_at) == ("6.12.48", 1_700_000_000)
    assert [image.image for image in status.images] == [CRASH, REBOOT]


def test_what_is_being_done_is_told_of_that_image_alone() -> None:
    busy = Busy(REBOOT, Action.DISCARD, 1_700_000_000.5)
    crash, reboot = summary.status(replace(known(seen(), book()), busy=busy)).images
    assert (crash.in_progress, crash.in_progress_since) == ("", 0)
    assert (reboot.in_progress, reboot.in_progress_since) == ("discard", 1_700_000_000.5)


def test_who_holds_and_how_long_it_was_unarmed_are_told() -> None:
    hold = Hold(number=7, who="apt", why="a new kernel", since=1_700_000_000)
    ledger = book().model_copy(
        update={"holds": (HoldRecord(holder=":1.5", hold=hold),), "unarmed_seconds": 2.5}
    )
    status = summary.status(replace(known(seen(), ledger), configured_at=1_600_000_000.0))
    assert (status.holds, status.unarmed_seconds) == ([hold], 2.5)
    assert status.configured_at == 1_600_000_000
    assert ":1.5" not in status.model_dump_json()


def test_no_load_yet() -> None:
    assert told(seen(crash=False), ImageRecord()).last_load == LastLoad()


COVERED = [
    # (look, record, {mode: covered})
    (seen(), ours(), {"ensure": True, "follow": True, "observe": True, "off": True}),
    (seen(drift=DRIFT), ours(), {"ensure": False, "follow": False, "observe": False, "off": True}),
    (
        seen(crash=False),
        ImageRecord(),
        {"ensure": False, "follow": True, "observe": True, "off": True},
    ),
    (seen(crash=False), ImageRecord(owed="it is"), {"ensure": False, "follow": False}),
    (seen(crash=False), ImageRecord(last_error="why"), {"ensure": False, "follow": True}),
    (
        seen(crash=False),
        ImageRecord(last_error="why", owed="it is"),
        {"ensure": False, "follow": False},
    ),
    (seen(header=False), ours(), {"ensure": False, "follow": False, "observe": False}),
]


@pytest.mark.parametrize(("look", "record", "expected"), COVERED)
def test_covered_is_what_the_mode_asks_for(
    look: Observation, record: ImageRecord, expected: dict[str, bool]
) -> None:
    assert {mode: told(look, record, mode).covered for mode in expected} == expected


@pytest.mark.parametrize(
    ("look", "record", "expected"),
    [
        (seen(), ours(), (True, False)),
        (seen(), foreign(), (True, True)),
        (seen(crash=False), ImageRecord(), (False, False)),
        (seen(crash=None), ImageRecord(), (False, False)),
    ],
)
def test_foreign_is_only_what_is_loaded(
    look: Observation, record: ImageRecord, expected: tuple[bool, bool]
) -> None:
    image = told(look, record)
    assert (image.loaded, image.foreign) == expected


@pytest.mark.parametrize(
    ("look", "record", "words"),
    [
        (seen(), ours(placement=placed(7)), ""),
        (seen(offline=[7]), ours(placement=placed(7)), "unload it: "),
        (seen(reboot=False), ImageRecord(owed="it went"), "load it: it went"),
        (seen(reboot=False, load_disabled=True), ImageRecord(owed="it went"), "nothing: kernel."),
    ],
)
def test_next_step(look: Observation, record: ImageRecord, words: str) -> None:
    image = told(look, record, image=REBOOT)
    assert image.next_step.startswith(words)
    assert words or not image.next_step


def test_addresses_are_in_the_details_alone() -> None:
    look = seen(drift=DRIFT)
    all_known = known(look, book(reboot=ours(placement=placed(7))))
    crash, reboot = summary.details(all_known).images
    assert crash.missing == [AddressRange(start="0x80000000", end="0xffffffff")]
    assert crash.extra == [AddressRange(start="0x240000000", end="0x27fffffff")]
    assert crash.missing_notes == ["cpu1"]
    assert crash.elfcorehdr == "0x10000000"
    assert reboot.segments == [SegmentDetails(start="0x1c0000000", end="0x1ffffffff")]
    assert (reboot.placed_by, reboot.prediction) == ("log", "")
    assert reboot.elfcorehdr == ""
    assert "0x" not in summary.status(all_known).model_dump_json()


@pytest.mark.parametrize(
    ("crash", "reboot", "words"),
    [
        (seen(), ("ensure", "ensure"), "crash image current: "),
        (seen(offline=[7]), ("ensure", "ensure"), "reboot image unsafe: "),
        (seen(drift=DRIFT), ("ensure", "ensure"), "crash image stale: "),
        (seen(drift=DRIFT, offline=[7]), ("ensure", "ensure"), "reboot image unsafe: "),
        (seen(drift=DRIFT, offline=[7]), ("ensure", "off"), "crash image stale: "),
        (seen(), ("off", "off"), "watching nothing"),
    ],
)
def test_one_line_begins_with_the_worst(
    crash: Observation, reboot: tuple[str, str], words: str
) -> None:
    line = summary.one_line(summary.status(known(crash, book(), *reboot)))
    assert line.startswith(words)
    assert "\n" not in line


CHECKED = tuple(
    CheckResult(name=name, question="Is it?", answer=answer, summary=says)
    for name, answer, says in (
        ("a", "problem", "no"),
        ("b", "warning", "hardly"),
        ("c", "cannot tell", "who knows"),
        ("d", "ok", "yes"),
    )
)


def test_one_line_ends_with_how_many_problems_the_checks_found() -> None:
    shown = summary.status(replace(known(seen(), book()), checks=CHECKED))
    assert summary.one_line(shown).endswith("; 1 problem found by kexecwatchctl check")
    fine = shown.model_copy(update={"checks": shown.checks[1:]})
    assert "check" not in summary.one_line(fine)


def test_what_checks_find_is_told_and_covers_nothing_up() -> None:
    shown = summary.status(replace(known(seen(), book()), checks=CHECKED))
    assert shown.check_problems == ["a: no"]
    assert shown.check_warnings == ["b: hardly"]
    assert shown.covered
    assert shown.checks == list(CHECKED)


@pytest.mark.parametrize(
    ("record", "mode", "obstacle"),
    [
        (ours(placement=placed(6)), "ensure", ""),
        (foreign(), "follow", "nothing proves"),
        (ours(placement=placed(9)), "ensure", "no longer there"),
        (ours(placement=placed(6)), "off", "nothing proves"),
    ],
)
def test_whether_the_reboot_image_may_be_started_is_told(
    record: ImageRecord, mode: str, obstacle: str
) -> None:
    said = told(seen(), record, mode, REBOOT).start_obstacle
    assert said == "" if not obstacle else obstacle in said


def test_the_crash_image_has_nothing_to_do_with_it() -> None:
    assert told(seen(drift=DRIFT), ours()).start_obstacle == ""
