# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's errors, its progress lines and its time limits. No I/O but standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator


class LabError(Exception):
    """Something in the lab (not in the thing under test) went wrong; the text says what to do."""


class LabUnavailable(LabError):
    """The host lacks something that the lab needs: a reason to skip, or to fail under CI."""


class LabTimeout(LabError):
    """A hang guard ran out. Never a measurement: the limits are far above what is normal."""


class MachineDied(LabError):
    """QEMU has ended while the lab still needed the guest (a triple fault does this too)."""


class CommandFailed(LabError):
    """A command in the guest returned non-zero and the caller asked for success."""


def progress(text: str) -> None:
    """Say something on standard error: the only place, with `working`, that prints."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Say what the block does; then how long it took, and on a terminal how long it has taken."""
    began = time.monotonic()
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(1):
            print(f"\rlab: {text} {time.monotonic() - began:.0f} s", end="", file=sys.stderr)

    if not sys.stderr.isatty():
        progress(text)
        yield
        progress(f"… done, {time.monotonic() - began:.0f} s")
        return
    print(f"lab: {text}", end="", file=sys.stderr, flush=True)
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()
        print(f"\rlab: {text} {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def limit(seconds: float) -> float:
    """Scale a hang guard by KEXECWATCHD_LAB_TIMEOUT_SCALE, for machines slower than usual."""
    return seconds * float(os.environ.get("KEXECWATCHD_LAB_TIMEOUT_SCALE", "1"))
