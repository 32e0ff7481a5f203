# SPDX-License-Identifier: GPL-2.0-or-later
"""Another process that holds a lock on a file, as package managers do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What dpkg and rpm do (fcntl(2), not flock(2)); then it waits for a line.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], sys.argv[2])
fcntl.lockf(file, {"w": fcntl.LOCK_EX, "r": fcntl.LOCK_SH}[sys.argv[2][0]])
print(flush=True)
input()
"""


@contextmanager
def held(path: Path, mode: str = "w") -> Iterator[None]:
    """The lock is held, for writing or ("r") for reading, by somebody else."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    yield
    holder.communicate(b"\n")
