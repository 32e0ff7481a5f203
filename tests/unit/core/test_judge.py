# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts: states of the machine against what the ledger knows."""

from __future__ import annotations

import pytest

from kexecwatchd.judge import describe, judge
from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import Drift, Hazard, ImageName, Observation, PlacedBy, State
from kexecwatchd.ranges import RangeSet
from tests.unit.core.cases import CRASH, GIB, REBOOT, foreign, gib, ours, placed, seen

NONE = ImageRecord()
KEEPS_OFF = "acpi_no_memhotplug ro"
FAILED = ImageRecord(last_error="the disk is full")
OWED = ImageRecord(owed="it was unloaded because its memory went")
PLACED = ours(placement=placed(7))
UNPLACED = ours()

CASES = [
    # nothing there
    (CRASH, seen(crash=None), NONE, State.ABSENT, "no kexec support"),
    (REBOOT, seen(reboot=None), NONE, State.ABSENT, "no kexec support"),
    (CRASH, seen(crash=False), NONE, State.ABSENT, "none is loaded"),
    (CRASH, seen(crash=False, reserved=False), NONE, State.ABSENT, "crashkernel="),
    (REBOOT, seen(reboot=False, reserved=False), NONE, State.ABSENT, "none is loaded"),
    (CRASH, seen(crash=False), FAILED, State.FAILED, "the disk is full"),
    (REBOOT, seen(reboot=False), FAILED, State.FAILED, "the disk is full"),
    (CRASH, seen(crash=False), OWED, State.ABSENT, "none is loaded: it was unloaded because"),
    (REBOOT, seen(reboot=False), OWED, State.ABSENT, "none is loaded: it was unloaded because"),
    (REBOOT, seen(reboot=None, problem="unreadable"), NONE, State.UNKNOWN, "unreadable"),
    # nothing to compare with
    (CRASH, seen(map=None, problem="hidden"), ours(), State.UNKNOWN, "hidden"),
    (REBOOT, seen(map=None, problem="hidden"), PLACED, State.UNKNOWN, "hidden"),
    (CRASH, seen(map=None, problem="hidden", crash=False), NONE, State.ABSENT, "none"),
    # the crash image, read back
    (CRASH, seen(), ours(), State.CURRENT, "all of memory"),
    (CRASH, seen(), foreign(), State.CURRENT, "all of memory"),
    (CRASH, seen(drift=Drift(missing=gib(3))), ours(), State.STALE, "1 GiB of memory"),
    (CRASH, seen(drift=Drift(extra=gib(8, 9))), foreign(), State.STALE, "2 GiB that it lists"),
    (CRASH, seen(drift=Drift(missing_notes=("cpu1",))), ours(), State.STALE, "1 CPU"),
    (CRASH, seen(), ours(last_error="once"), State.CURRENT, "all of memory"),
    # the crash image, whose kernel would hot-add the memory that it is to dump
    (CRASH, seen(acpi_memory=True), ours(), State.UNSAFE, "acpi_no_memhotplug"),
    (CRASH, seen(acpi_memory=True), foreign(), State.CURRENT, "all of memory"),
    (CRASH, seen(acpi_memory=True, crash_cmdline="ro"), foreign(), State.UNSAFE, "acpi_no"),
    (CRASH, seen(acpi_memory=True, crash_cmdline=KEEPS_OFF), ours(), State.CURRENT, "all of"),
    (CRASH, seen(acpi_memory=True, crash_cmdline="x" + KEEPS_OFF), ours(), State.UNSAFE, "lacks"),
    (CRASH, seen(acpi_memory=False, crash_cmdline="ro"), ours(), State.CURRENT, "all of memory"),
    (CRASH, seen(acpi_memory=True, drift=Drift(gib(3))), ours(), State.STALE, "1 GiB"),
    # the crash image, by the ledger
    (CRASH, seen(header=False), foreign(), State.UNKNOWN, "the read was refused"),
    (CRASH, seen(header=False), NONE, State.UNKNOWN, "the read was refused"),
    (CRASH, seen(header=False), ours(), State.UNKNOWN, "not proven"),
    (CRASH, seen(header=False), ours(ram=gib(*range(7))), State.STALE, "since it was loaded"),
    (CRASH, seen(header=False), ours(ram=gib(*range(9))), State.STALE, "no longer there"),
    # the reboot image, its place known
    (REBOOT, seen(), PLACED, State.CURRENT, "memory that stays"),
    (REBOOT, seen(offline=[7]), PLACED, State.UNSAFE, "offline"),
    (REBOOT, seen(present=range(7)), PLACED, State.UNSAFE, "no longer there"),
    (REBOOT, seen(offline=[6]), PLACED, State.CURRENT, "memory that stays"),
    (REBOOT, seen(present=[0, 7]), PLACED, State.CURRENT, "memory that stays"),
    (REBOOT, seen(movable=gib(7)), PLACED, State.UNSAFE, "1 GiB of it into movable"),
    (REBOOT, seen(movable=gib(6)), PLACED, State.CURRENT, "memory that stays"),
    (
        REBOOT,
        seen(present=range(7), boot_ram=gib(*range(8))),
        ours(placement=placed(1)),
        State.STALE,
        "1 GiB of boot memory is gone",
    ),
    (
        REBOOT,
        seen(present=range(7), boot_ram=gib(*range(8)), boot_ram_sure=False),
        ours(placement=placed(1)),
        State.CURRENT,
        "memory that stays",
    ),
    (CRASH, seen(present=range(7), boot_ram=gib(*range(8))), ours(), State.CURRENT, "all of mem"),
    # the reboot image, its place not known
    (REBOOT, seen(), UNPLACED, State.CURRENT, "where it lies is not known"),
    (REBOOT, seen(present=range(9)), UNPLACED, State.CURRENT, "where it lies is not known"),
    (REBOOT, seen(offline=[2]), UNPLACED, State.UNSAFE, "where it lies is not known"),
    (REBOOT, seen(present=range(7)), UNPLACED, State.UNSAFE, "1 GiB"),
    (REBOOT, seen(), foreign(), State.UNKNOWN, "someone else"),
    (REBOOT, seen(), NONE, State.UNKNOWN, "someone else"),
    (REBOOT, seen(movable=gib(6, 7)), foreign(), State.UNKNOWN, "someone else"),
    (REBOOT, seen(movable=gib(6, 7)), UNPLACED, State.UNKNOWN, "2 GiB of memory is offline or can"),
    (REBOOT, seen(boot_ram=gib(0)), UNPLACED, State.UNKNOWN, "7 GiB of memory is offline or can"),
    (REBOOT, seen(offline=[2]), foreign(), State.UNSAFE, "where it lies is not known"),
    (REBOOT, seen(offline=[5]), ours(online=gib(0, 1, 2)), State.UNKNOWN, "1 GiB of memory is"),
    (REBOOT, seen(present=range(7)), ours(online=gib(0, 1, 2)), State.UNSAFE, "not known"),
]


@pytest.mark.parametrize(("image", "look", "record", "state", "words"), CASES)
def test_verdict(
    image: ImageName, look: Observation, record: ImageRecord, state: State, words: str
) -> None:
    verdict = judge(image, look, record)
    assert verdict.state is state
    assert words in verdict.reason
    assert "0x" not in verdict.reason


DANGERS = [
    (seen(), PLACED, False),
    (seen(movable=gib(7)), PLACED, False),
    (seen(offline=[7]), PLACED, True),
    (seen(movable=gib(7), offline=[7]), PLACED, True),
    (seen(present=range(7)), PLACED, True),
    (seen(present=range(7), boot_ram=gib(*range(8))), ours(placement=placed(1)), True),
    (seen(offline=[0]), UNPLACED, True),
    (seen(), foreign(), False),
    (seen(movable=gib(7)), UNPLACED, False),
]


@pytest.mark.parametrize(("look", "record", "danger"), DANGERS)
def test_danger_is_memory_that_went_and_not_memory_that_may_go(
    look: Observation, record: ImageRecord, danger: bool
) -> None:
    assert judge(REBOOT, look, record).danger is danger


@pytest.mark.parametrize(
    "look", [seen(drift=Drift(extra=gib(9))), seen(crash=False), seen(header=False)]
)
def test_a_crash_image_is_never_a_danger(look: Observation) -> None:
    """It lies in memory of its own; even a stale one is better than none."""
    assert not judge(CRASH, look, ours()).danger


@pytest.mark.parametrize(
    ("look", "record", "proof"),
    [(seen(), ours(), "read-back"), (seen(header=False), ours(), "ledger")],
)
def test_a_verdict_says_what_it_rests_on(
    look: Observation, record: ImageRecord, proof: str
) -> None:
    assert judge(CRASH, look, record).proof == proof


@pytest.mark.parametrize(
    ("look", "record", "proof"),
    [
        (seen(), ours(placement=placed(7, source=PlacedBy.LOG)), "placement"),
        (seen(), ours(placement=placed(7, source=PlacedBy.LOADER)), "loader"),
        (seen(), ours(placement=placed(7, source=PlacedBy.PREDICTION)), "prediction"),
        (seen(movable=gib(7)), ours(placement=placed(7, source=PlacedBy.LOADER)), "loader"),
        (seen(offline=[2]), UNPLACED, "ledger"),
        (seen(), foreign(), "ledger"),
        (seen(movable=gib(7)), UNPLACED, "ledger"),
        (seen(), UNPLACED, "ledger"),
        (seen(present=range(7), boot_ram=gib(*range(8))), PLACED, "boot memory"),
    ],
)
def test_what_says_where_a_reboot_image_is(
    look: Observation, record: ImageRecord, proof: str
) -> None:
    assert judge(REBOOT, look, record).proof == proof


@pytest.mark.parametrize("source", PlacedBy)
@pytest.mark.parametrize(
    ("look", "found"),
    [
        (seen(), ()),
        (seen(movable=gib(7)), (Hazard.MOVABLE,)),
        (seen(movable=gib(6, 7), offline=[7]), (Hazard.OFFLINE, Hazard.MOVABLE)),
    ],
)
def test_a_verdict_has_each_part_that_lies_wrong(
    look: Observation, found: tuple[Hazard, ...], source: PlacedBy
) -> None:
    verdict = judge(REBOOT, look, ours(placement=placed(6, 7, source=source)))
    assert tuple(risk.hazard for risk in verdict.risks) == found
    by_rules = "(predicted: this kernel does not log where it loads)"
    assert verdict.reason.endswith(by_rules) is (source is PlacedBy.PREDICTION)


def test_one_part_in_danger_is_danger() -> None:
    look = seen(movable=gib(6), offline=[7])
    assert judge(REBOOT, look, ours(placement=placed(6, 7))).danger


def test_a_drift_is_told_whole() -> None:
    drift = Drift(gib(1), RangeSet.of((9 * GIB, 9 * GIB + 1024)), ("cpu1", "vmcoreinfo"))
    assert judge(CRASH, seen(drift=drift), ours()).drift == drift
    assert describe(drift) == (
        "1 GiB of memory would be missing from a dump; 1 KiB that it lists is no longer there;"
        " the notes of 2 CPU(s) would be missing"
    )
