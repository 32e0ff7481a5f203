# SPDX-License-Identifier: GPL-2.0-or-later
"""May the reboot image be started at this very moment? Pure.

Two ask. `kexecwatchctl exec` wants it proven (`obstacle_to_start`); the gate in the way of
`systemctl kexec` stops only what is known to break (`known_bad`), so that a machine of which
nothing is known reboots as it would without us.
"""

from __future__ import annotations

from kexecwatchd.config import RebootConfig
from kexecwatchd.model import State, Verdict, WhenUnsafe


def obstacle_to_start(verdict: Verdict, settings: RebootConfig) -> str:
    """Why the reboot image is not proven to be fit to start, without addresses; "" when it is."""
    if verdict.state is State.CURRENT:
        return ""
    if verdict.state is State.UNSAFE and not verdict.danger:
        # In memory that can go away; at this moment it is there.
        return "" if settings.when_unsafe is WhenUnsafe.GUARD else verdict.reason
    if verdict.state is State.UNKNOWN:
        return f"nothing proves that it would start: {verdict.reason}"
    return verdict.reason


def known_bad(verdict: Verdict) -> str:
    """Why the reboot image would not start; "" also where nothing is known of it, and where its
    memory can go but is there at this moment."""
    return verdict.reason if verdict.danger else ""
