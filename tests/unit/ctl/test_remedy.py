# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do, by what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from kexecwatchd.ctl.remedy import todo_for
from kexecwatchd.model import Mode, State
from kexecwatchd.reconcile import HELD_OFF
from tests.integration.harness import HOLD, checked, status

FINE: dict[str, Any] = {"problem": "", "config_error": "", "holds": [], "checks": []}
BAD: dict[str, Any] = {
    "covered": False,
    "state": State.STALE,
    "in_progress": "",
    "last_error": "",
    "next_step": "",
    "next_try": 0,
}
PERMISSION = checked("problem").model_copy(update={"name": "permission"})
HELD = {"next_step": f"nothing: held by apt: {HELD_OFF}"}

# (changes of the status, changes of the crash image, what the sentence must have)
CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"problem": "iomem is zeros", "holds": [HOLD]}, HELD, "mend the problem named above"),
    ({}, {"in_progress": "load"}, "kexecwatchctl monitor"),
    ({"holds": [HOLD]}, HELD, "wait for apt"),
    ({"holds": [HOLD]}, {**HELD, "mode": Mode.OBSERVE}, "kexecwatchctl mode crash follow"),
    ({"holds": [HOLD], "checks": [PERMISSION]}, {}, "kexecwatchctl check permission"),
    ({"checks": [PERMISSION]}, {"last_error": "x"}, "kexecwatchctl check permission"),
    ({"checks": [checked("problem")]}, {}, "kexecwatchctl check"),
    ({"config_error": "x"}, {}, "kexecwatchctl config --check"),
    ({}, {"last_error": "the initrd is gone"}, "kexecwatchctl reload crash"),
    ({}, {"next_try": 1_700_000_100}, "nothing, it is loaded by itself"),
    ({}, {"state": State.UNSAFE, "next_step": "nothing: add it to cmdline"}, '"next"'),
    ({}, {"next_step": "nothing: no kernel is configured"}, '"next"'),
    ({}, {"state": State.UNKNOWN}, "kexecwatchctl check"),
]


@pytest.mark.parametrize(("machine", "crash", "expected"), CASES)
def test_what_helps(machine: dict[str, Any], crash: dict[str, Any], expected: str) -> None:
    now = status(**{**BAD, **crash}).model_copy(update={**FINE, **machine})
    assert expected in todo_for(now)


def test_nothing_where_all_is_covered() -> None:
    assert todo_for(status().model_copy(update={"holds": [HOLD]})) == ""


def test_a_check_of_the_crash_image_says_nothing_of_the_other() -> None:
    now = status()
    reboot = now.images[1].model_copy(update={**BAD, "last_error": "busy"})
    reservation = checked("problem").model_copy(update={"name": "reservation"})
    changes = {**FINE, "checks": [reservation], "images": [now.images[0], reboot]}
    assert "reload reboot" in todo_for(now.model_copy(update=changes))
