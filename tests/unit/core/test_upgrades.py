# SPDX-License-Identifier: GPL-2.0-or-later
"""What new files on disk call for: the table of cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kexecwatchd import bookkeeping, deeds, upgrades
from kexecwatchd.ledger import ImageRecord, Pair
from kexecwatchd.model import Drift, Load, Observation, State, Step, Verdict
from kexecwatchd.ondisk import OnDisk, Signatures
from kexecwatchd.reconcile import recognise
from tests.unit.core.cases import CRASH, book, configured, foreign, gib, ours, seen, step_for

OLD = Signatures("/boot/vmlinuz", "/boot/initrd.img", "k1", "i1")
NEW_INITRD = replace(OLD, of_initrd="i2")
NEW_KERNEL = replace(OLD, of_kernel="k2")
BOTH = replace(NEW_KERNEL, of_initrd="i2")
GONE = replace(OLD, of_kernel="")
ELSEWHERE = Signatures("/lab/vmlinuz", "", "k9", "")

OURS = ours(tried=OLD)
FOREIGN = foreign(tried=OLD)


def look(disk: OnDisk, **changes: Any) -> Observation:
    return seen(on_disk={CRASH: disk}, **changes)


CASES = [
    # (on disk, record, the load's reason, or why it is not done)
    (OnDisk(OLD), OURS, "", ""),
    (OnDisk(NEW_INITRD), OURS, "the initrd on disk was replaced", ""),
    (OnDisk(NEW_KERNEL), OURS, "the kernel on disk was replaced", ""),
    (OnDisk(BOTH), OURS, "the kernel and initrd on disk were replaced", ""),
    (
        OnDisk(NEW_INITRD),
        FOREIGN,
        "the initrd on disk was replaced, after somebody else loaded the image",
        "",
    ),
    # not finished
    (OnDisk(NEW_INITRD, written="initrd"), OURS, "", "a new initrd is being written"),
    (OnDisk(NEW_INITRD, quiet=False), OURS, "", "changed just now"),
    (OnDisk(NEW_INITRD, packages="dpkg"), OURS, "", "once dpkg has done its work"),
    (OnDisk(OLD, written="initrd"), OURS, "", ""),
    (OnDisk(OLD, quiet=False), OURS, "", ""),
    # not to be loaded
    (OnDisk(GONE, refused="it does not exist"), OURS, "", "cannot be loaded: it does not exist"),
    (OnDisk(NEW_INITRD, refused="truncated"), OURS, "", "cannot be loaded: truncated"),
    (
        OnDisk(NEW_INITRD, refused="truncated"),
        ours(tried=OLD, degraded="truncated"),
        "",
        "",
    ),
    # nobody knows what was there before
    (OnDisk(NEW_INITRD), ours(), "", ""),
    (OnDisk(NEW_INITRD), foreign(), "", ""),
]


@pytest.mark.parametrize("mode", ["ensure", "follow"])
@pytest.mark.parametrize(("disk", "record", "load", "held"), CASES)
def test_cases(disk: OnDisk, record: ImageRecord, load: str, held: str, mode: str) -> None:
    step = step_for(CRASH, look(disk), book(crash=record), configured(crash=mode))
    assert (step.action.why if isinstance(step.action, Load) else "") == load
    assert held in step.held
    assert bool(step.held) == bool(held)
    assert step.passing == (bool(held) and disk.unfinished)
    assert step.verdict.state is State.CURRENT


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_a_mode_that_touches_nothing(mode: str) -> None:
    step = step_for(CRASH, look(OnDisk(BOTH)), book(crash=OURS), configured(crash=mode))
    assert step.action is None


def test_none_is_loaded_for_new_files_alone() -> None:
    step = step_for(
        CRASH, look(OnDisk(BOTH), crash=False), book(crash=OURS), configured(crash="follow")
    )
    assert step.action is None


def test_drift_says_why_and_the_new_files_come_along() -> None:
    step = step_for(CRASH, look(OnDisk(BOTH), drift=Drift(gib(3))), book(crash=OURS), configured())
    assert isinstance(step.action, Load)
    assert "memory" in step.action.why


def test_new_files_are_loaded_although_drift_was_not_cured() -> None:
    drift = Drift(gib(3))
    record = OURS.model_copy(update={"uncured": drift})
    step = step_for(CRASH, look(OnDisk(BOTH), drift=drift), book(crash=record), configured())
    assert isinstance(step.action, Load)
    assert "on disk" in step.action.why
    waits = OnDisk(BOTH, quiet=False)
    step = step_for(CRASH, look(waits, drift=drift), book(crash=record), configured())
    assert "did not cure" in step.held
    assert not step.passing


def test_what_passes_is_no_news() -> None:
    """The load that follows is."""
    waits = Step(CRASH, Verdict(State.CURRENT, "it is"), held="it is written", passing=True)
    assert deeds.told_by(waits, "") == deeds.told_by(replace(waits, held="", passing=False), "")
    assert deeds.told_by(replace(waits, passing=False), "").why == "it is written"


# What the ledger takes for the files of the image


@pytest.mark.parametrize(
    ("disk", "record", "tried"),
    [
        (OnDisk(BOTH), ours(), BOTH),
        (OnDisk(BOTH), OURS, OLD),
        (OnDisk(BOTH, same=True), OURS, BOTH),
        (OnDisk(ELSEWHERE), FOREIGN, ELSEWHERE),
        (OnDisk(BOTH, quiet=False), foreign(), BOTH),
        (OnDisk(BOTH, written="initrd"), foreign(), upgrades.unfinished(BOTH)),
    ],
)
def test_what_is_adopted(disk: OnDisk, record: ImageRecord, tried: Signatures) -> None:
    assert recognise(look(disk), book(crash=record)).crash.tried == tried


def test_the_same_content_ends_what_was_degraded() -> None:
    record = ours(tried=OLD, degraded="truncated")
    after = recognise(look(OnDisk(BOTH, same=True)), book(crash=record)).crash
    assert after.degraded == ""


def test_another_image_of_somebodys_is_taken_for_one_of_the_files_of_now() -> None:
    after = recognise(look(OnDisk(BOTH), fingerprint="another"), book(crash=OURS)).crash
    assert (after.ours, after.tried, after.copied) == (False, BOTH, False)


@pytest.mark.parametrize(
    ("disk", "tried"),
    [
        (None, None),
        (OnDisk(BOTH), BOTH),
        (OnDisk(BOTH, refused="truncated"), BOTH),
        (OnDisk(BOTH, quiet=False), upgrades.unfinished(BOTH)),
        (OnDisk(BOTH, packages="dpkg"), upgrades.unfinished(BOTH)),
        (OnDisk(BOTH, written="kernel"), upgrades.unfinished(BOTH)),
    ],
)
def test_what_a_load_will_have_tried(disk: OnDisk | None, tried: Signatures | None) -> None:
    assert upgrades.tried(disk) == tried


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        (None, OnDisk(BOTH), True),
        (OnDisk(OLD), OnDisk(BOTH), True),
        (OnDisk(BOTH, quiet=False), OnDisk(BOTH), True),
        (OnDisk(BOTH), OnDisk(BOTH), False),
        (OnDisk(BOTH), OnDisk(BOTH, quiet=False), False),
        (OnDisk(BOTH), OnDisk(OLD), False),
    ],
)
def test_when_what_failed_is_tried_again(before: OnDisk | None, after: OnDisk, again: bool) -> None:
    ledger = book(crash=ours(tried=OLD, next_try=100.0))
    looks = {CRASH: before} if before else {}
    assert (bookkeeping.new_files(ledger, looks, {CRASH: after}).crash.next_try == 0) == again


@pytest.mark.parametrize(
    ("disk", "says"),
    [
        (OnDisk(OLD), ""),
        (OnDisk(OLD, quiet=False), ""),  # whoever reloads the configuration means these
        (OnDisk(GONE), "the kernel of it is not there"),
        (OnDisk(replace(OLD, of_initrd="")), "the initrd of it is not there"),
        (OnDisk(OLD, written="initrd"), "the initrd of it is being written"),
        (OnDisk(ELSEWHERE), ""),  # no initrd is configured
    ],
)
def test_files_that_are_newly_configured_must_be_there(disk: OnDisk, says: str) -> None:
    """A mistyped path is no reason to load the last good ones over what is loaded."""
    other = ours(pair=Pair(kernel="/boot/other", cmdline="x"))
    step = step_for(CRASH, look(disk), book(crash=other))
    assert isinstance(step.action, Load) is not bool(says)
    assert says in step.held


def test_memory_does_not_wait_for_files_that_are_newly_configured() -> None:
    other = ours(pair=Pair(kernel="/boot/other", cmdline="x"))
    step = step_for(CRASH, look(OnDisk(GONE), drift=Drift(gib(2))), book(crash=other))
    assert isinstance(step.action, Load)
    assert "another kernel" not in step.action.why
