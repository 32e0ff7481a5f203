# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's errors, its progress lines and its time limits. No I/O but standard error."""

from __future__ import annotations

import os
import sys


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
    """Say on standard error what the lab is busy with: the only place that prints."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def limit(seconds: float) -> float:
    """Scale a hang guard by KEXECWATCHD_LAB_TIMEOUT_SCALE, for machines slower than usual."""
    return seconds * float(os.environ.get("KEXECWATCHD_LAB_TIMEOUT_SCALE", "1"))
