# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts: states of the machine against what the ledger knows."""

from __future__ import annotations

import pytest

from kexecwatchd.judge import describe, judge
from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import Drift, ImageName, Observation, State
from kexecwatchd.ranges import RangeSet
from tests.unit.core.cases import CRASH, GIB, REBOOT, foreign, gib, ours, seen

NONE = ImageRecord()
KEEPS_OFF = "acpi_no_memhotplug ro"
FAILED = ImageRecord(last_error="the disk is full")
PLACED = ours(segments=gib(7))
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
    (REBOOT, seen(), PLACED, State.CURRENT, "online"),
    (REBOOT, seen(offline=[7]), PLACED, State.UNSAFE, "offline"),
    (REBOOT, seen(present=range(7)), PLACED, State.UNSAFE, "no longer there"),
    (REBOOT, seen(offline=[6]), PLACED, State.CURRENT, "online"),
    (REBOOT, seen(present=[0, 7]), PLACED, State.CURRENT, "online"),
    (REBOOT, seen(zones={7: "Movable"}), PLACED, State.UNSAFE, "1 movable"),
    (REBOOT, seen(zones={7: "none", 6: "Movable"}), PLACED, State.CURRENT, "online"),
    # the reboot image, its place not known
    (REBOOT, seen(), UNPLACED, State.CURRENT, "where it lies is not known"),
    (REBOOT, seen(present=range(9)), UNPLACED, State.CURRENT, "where it lies is not known"),
    (REBOOT, seen(offline=[2]), UNPLACED, State.UNSAFE, "where it lies is not known"),
    (REBOOT, seen(present=range(7)), UNPLACED, State.UNSAFE, "1 GiB"),
    (REBOOT, seen(), foreign(), State.UNKNOWN, "someone else"),
    (REBOOT, seen(offline=[2]), foreign(), State.UNSAFE, "where it lies is not known"),
    (REBOOT, seen(offline=[5]), ours(online=gib(0, 1, 2)), State.UNKNOWN, "5 GiB of memory was"),
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
    (seen(zones={7: "Movable"}), PLACED, False),
    (seen(offline=[7]), PLACED, True),
    (seen(zones={7: "Movable"}, offline=[7]), PLACED, True),
    (seen(present=range(7)), PLACED, True),
    (seen(offline=[0]), UNPLACED, True),
    (seen(), foreign(), False),
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


def test_a_drift_is_told_whole() -> None:
    drift = Drift(gib(1), RangeSet.of((9 * GIB, 9 * GIB + 1024)), ("cpu1", "vmcoreinfo"))
    assert judge(CRASH, seen(drift=drift), ours()).drift == drift
    assert describe(drift) == (
        "1 GiB of memory would be missing from a dump; 1 KiB that it lists is no longer there;"
        " the notes of 2 CPU(s) would be missing"
    )
