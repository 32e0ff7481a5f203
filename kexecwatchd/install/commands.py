# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs what has to be told of the files, and tells what failed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

READ_AGAIN = (
    ("systemctl", "daemon-reload"),
    ("udevadm", "control", "--reload"),
    ("systemctl", "reload", "dbus.service"),
    ("journalctl", "--update-catalog"),
)
# A pattern: that a unit is not there is no failure then.
_STOP = ("systemctl", "stop", "kexecwatchd*.service")
_DISABLE = ("systemctl", "disable", "kexecwatchd.service")
_UNIT = "etc/systemd/system/kexecwatchd.service"

# Of an error's text, the last ones.
_WORDS = 40
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def stop(root: Path) -> list[Sequence[str]]:
    """What stops our units below `root`, whichever there are.

    Not all are where an installation was cut short, or where the administrator has removed one.
    """
    return [_DISABLE, _STOP] if os.path.lexists(root / _UNIT) else [_STOP]


def run(commands: Sequence[Sequence[str]]) -> list[str]:
    """Run all of them; returns a line for each that failed."""
    return [told for command in commands if (told := _failure(command))]


def _failure(command: Sequence[str]) -> str | None:
    words = " ".join(command)
    program = shutil.which(command[0], path=_PATH)
    if program is None:
        return f"{words}: there is no {command[0]} in {_PATH}"
    done = subprocess.run(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.split()[-_WORDS:])
    return f"{words}: exit code {done.returncode}: {said}"
