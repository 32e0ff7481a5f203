# SPDX-License-Identifier: GPL-2.0-or-later
"""May this machine's root run its daemon from that Python environment?"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

# What a unit and a #! line take as it is.
_PLAIN = re.compile(r"(/[A-Za-z0-9._+-]+)+")
# The kernel reads that much of the first line (BINPRM_BUF_SIZE), here with room for the rest.
_LONGEST = 200
# What ProtectHome= covers; kexecwatchd-boot-memory.service has it hide these.
_HOMES = ("/home", "/root", "/run/user")
_HERE = Path("/")
_SHOWN = 5
_ADVICE = "make another one: python3 -m venv --system-site-packages /opt/kexecwatchd"


def problems(environment: Path, root: Path = Path("/")) -> list[str]:
    """What speaks against it, one thing to put right a line.

    `environment` is its path, free of links, below `root`, which is another machine's unless it is
    /. Raises OSError where it cannot be looked at.
    """
    if not _PLAIN.fullmatch(str(environment)) or len(str(environment)) > _LONGEST:
        return [f"{environment}: the name is too long, or has letters that units mind; {_ADVICE}"]
    here = root / environment.relative_to("/")
    if not (here / "pyvenv.cfg").is_file():
        return [f"{here}: is no environment of its own (has no pyvenv.cfg); {_ADVICE}"]
    # That of another machine may not exist on this one.
    interpreters = [(here / "bin/python3").resolve()] if root == _HERE else []
    found = [
        f"{place}: is in a home directory, and units do not see those; {_ADVICE}"
        for place in (environment, *interpreters)
        if any(place.is_relative_to(home) for home in _HOMES)
    ]
    if root == _HERE and here.stat().st_dev not in {os.stat(p).st_dev for p in ("/", "/usr")}:
        found.append(
            f"{environment}: is on a file system of its own, which is not there early in the boot"
            " and late in the shutdown, when two of the units run; make one beside /etc or /usr"
        )
    return found + _writable(here, interpreters, root)


def _writable(environment: Path, interpreters: list[Path], root: Path) -> list[str]:
    """Whatever others than root could change."""
    paths = {p for place in (environment, *interpreters) for p in (place, *place.parents)}
    paths = {path for path in paths if path.is_relative_to(root)}
    for directory, names, files in os.walk(environment, onerror=_fail):
        paths |= {Path(directory, name) for name in names + files}
    wrong = [told for path in sorted(paths) if (told := _wrong(path))]
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return wrong[:_SHOWN] + more


def _wrong(path: Path) -> str | None:
    status = path.lstat()
    if status.st_uid not in (0, os.geteuid()):
        return f"{path}: belongs to uid {status.st_uid}, not to root: chown -h root {path}"
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable and not stat.S_ISLNK(status.st_mode):
        mode = stat.S_IMODE(status.st_mode)
        return f"{path}: others may write to it (mode {mode:04o}): chmod go-w {path}"
    return None


def _fail(error: OSError) -> None:
    raise error
