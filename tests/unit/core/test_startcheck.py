# SPDX-License-Identifier: GPL-2.0-or-later
"""Which verdict lets the reboot image start, for exec and for the gate."""

from __future__ import annotations

import pytest

from kexecwatchd.config import RebootConfig
from kexecwatchd.model import State, Verdict, WhenUnsafe
from kexecwatchd.startcheck import known_bad, obstacle_to_start

GUARD, REFUSE = WhenUnsafe.GUARD, WhenUnsafe.REFUSE
WHY = "the verdict's own reason"


@pytest.mark.parametrize(
    ("state", "danger", "when_unsafe", "exec_may", "gate_may"),
    [
        (State.CURRENT, False, REFUSE, True, True),
        (State.CURRENT, False, GUARD, True, True),
        (State.UNSAFE, False, GUARD, True, True),
        (State.UNSAFE, False, REFUSE, False, True),
        (State.UNSAFE, True, GUARD, False, False),
        (State.UNSAFE, True, REFUSE, False, False),
        (State.UNKNOWN, False, GUARD, False, True),
        (State.UNKNOWN, False, REFUSE, False, True),
        (State.STALE, True, GUARD, False, False),
        (State.ABSENT, False, GUARD, False, True),
        (State.FAILED, False, GUARD, False, True),
    ],
)
def test_who_may_start_what(
    state: State, danger: bool, when_unsafe: WhenUnsafe, exec_may: bool, gate_may: bool
) -> None:
    verdict = Verdict(state, WHY, danger=danger)
    settings = RebootConfig(when_unsafe=when_unsafe)
    assert (obstacle_to_start(verdict, settings) == "") is exec_may
    assert (known_bad(verdict) == "") is gate_may


def test_the_reason_is_the_verdicts() -> None:
    verdict = Verdict(State.UNSAFE, WHY, danger=True)
    assert obstacle_to_start(verdict, RebootConfig()) == WHY
    assert known_bad(verdict) == WHY
