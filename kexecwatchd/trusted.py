# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that root may trust: regular ones that only root, or we, can change.

What is judged is what was opened, not what a name pointed to a moment before: use the descriptor.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class Untrusted(Exception):
    """The file is not to be used. `problems` has one line for each thing to put right."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def open_file(path: Path) -> int:
    """Open for reading; returns the descriptor, closed on exec. Raises Untrusted."""
    try:
        # Without O_NONBLOCK the open of a FIFO waits for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Untrusted([f"{path}: does not exist; correct the name or create it"]) from None
    except OSError as error:
        advice = f"check it with: namei -l {path}"
        raise Untrusted([f"{path}: cannot open it: {error.strerror}; {advice}"]) from None
    wrong = _problems(path, os.fstat(fd))
    if wrong:
        os.close(fd)
        raise Untrusted(wrong)
    return fd


def _problems(path: Path, status: os.stat_result) -> list[str]:
    if not stat.S_ISREG(status.st_mode):
        return [f"{path}: is not a regular file; give a file, or a symbolic link to one"]
    wrong = []
    if status.st_uid not in (0, os.geteuid()):
        wrong.append(f"{path}: belongs to uid {status.st_uid}, not to root: chown root {path}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        wrong.append(f"{path}: others may write to it (mode {mode:04o}): chmod go-w {path}")
    return wrong
