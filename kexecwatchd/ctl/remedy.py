# SPDX-License-Identifier: GPL-2.0-or-later
"""Not covered: what to do. Pure; one sentence with the one command that helps most."""

from __future__ import annotations

from kexecwatchd.model import ImageName, Mode
from kexecwatchd.reconcile import HELD_OFF
from kexecwatchd.report import ImageStatus, Status

# What can stand in the way of an image: the first one that is a problem is it.
_CHECKS = {
    ImageName.CRASH: ("permission", "lockdown", "reservation", "boot-files", "paging-levels"),
    ImageName.REBOOT: ("permission", "lockdown", "boot-files", "paging-levels"),
}


def todo_for(status: Status) -> str:
    """What helps the first image that is not covered; nothing where all are."""
    image = next((image for image in status.images if not image.covered), None)
    if image is None:
        return ""
    if status.problem:
        # Nobody sees the machine, or nobody does anything: the problem says what would help.
        return "mend the problem named above, then kexecwatchctl verify"
    if image.in_progress:
        return "wait, it is being worked on: kexecwatchctl monitor"
    if image.mode is Mode.OBSERVE:
        wish = f"kexecwatchctl mode {image.image} follow"
        return f"mode observe touches nothing; to have it mended: {wish}"
    if status.holds and image.next_step.endswith(HELD_OFF):
        return f"wait for {status.holds[0].who}: the hold ends with it"
    return _in_the_way(image, status)


def _in_the_way(image: ImageStatus, status: Status) -> str:
    wrong = {check.name for check in status.checks if check.answer == "problem"}
    check = next((name for name in _CHECKS[image.image] if name in wrong), "")
    if check:
        return f"kexecwatchctl check {check}"
    if status.config_error:
        return "kexecwatchctl config --check, and mend the configuration"
    if image.last_error:
        return f"mend what the last error says, then kexecwatchctl reload {image.image}"
    if image.next_try:
        return "nothing, it is loaded by itself; kexecwatchctl monitor shows when"
    if image.next_step:
        return 'mend what "next" names; kexecwatchctl check knows more'
    return "kexecwatchctl check"
