# SPDX-License-Identifier: GPL-2.0-or-later
"""Not covered: what to do. Pure; one sentence with the one command that helps most."""

from __future__ import annotations

from kexecwatchd.model import Mode, State
from kexecwatchd.report import ImageStatus, Status

# In the order of kexecwatchctl check's own importance: the first one that is a problem is it.
_CHECKS = ("permission", "lockdown", "reservation", "boot-files", "paging-levels")


def todo_for(status: Status) -> str:
    """ "" where every image is covered."""
    worst = next((image for image in status.images if not image.covered), None)
    if worst is None:
        return ""
    if not status.daemon_version:
        # kexecwatchctl has looked itself (standin.py), and nobody mends anything.
        return "systemctl start kexecwatchd"
    if worst.in_progress:
        return "wait, it is being worked on: kexecwatchctl monitor"
    if status.holds:
        return f"wait for {status.holds[0].who}, or end it: nothing is loaded while it holds"
    return _for(worst, status)


def _for(image: ImageStatus, status: Status) -> str:
    wrong = {check.name for check in status.checks if check.answer == "problem"}
    check = next((name for name in _CHECKS if name in wrong), "")
    if image.mode is Mode.OBSERVE:
        wish = f"kexecwatchctl mode {image.image} follow"
        return f"mode observe touches nothing; to have it mended: {wish}"
    if check:
        return f"kexecwatchctl check {check}"
    if status.config_error:
        return "kexecwatchctl config --check, and mend the configuration"
    if image.last_error:
        return f"mend what the last error says, then kexecwatchctl reload {image.image}"
    if image.next_try:
        return "nothing, it is loaded by itself; kexecwatchctl monitor shows when"
    if image.state in (State.UNKNOWN, State.UNSAFE):
        return f"kexecwatchctl reload {image.image}, or see why: kexecwatchctl check"
    return "kexecwatchctl check"
