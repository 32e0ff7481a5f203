# SPDX-License-Identifier: GPL-2.0-or-later
"""What the service manager is told: sd_notify(3)."""

from __future__ import annotations

import functools
import os

import sdnotify
from systemd import daemon


@functools.cache
def _notifier() -> sdnotify.SystemdNotifier:
    return sdnotify.SystemdNotifier()


def _tell(state: str) -> None:
    # Without this sdnotify opens a socket and forgets it.
    if "NOTIFY_SOCKET" in os.environ:
        _notifier().notify(state)


def ready() -> None:
    _tell("READY=1")


def alive() -> None:
    """For the watchdog: called by the loop that does the work, after its work."""
    _tell("WATCHDOG=1")


def stopping() -> None:
    _tell("STOPPING=1")


def status(text: str) -> None:
    """The line that systemctl status shows.

    Through libsystemd, because sdnotify encodes as latin-1 and drops what does not fit.
    """
    daemon.notify(f"STATUS={text}")


def watchdog_seconds() -> float | None:
    """How often the watchdog wants to hear from us (WatchdogSec=), None when it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else None
