# SPDX-License-Identifier: GPL-2.0-or-later
"""Follows the guest's serial console, which QEMU writes to a file."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from .report import LabTimeout, MachineDied, limit


class Console:
    """What the guest has printed since QEMU started. Positions are character offsets."""

    def __init__(self, path: Path, alive: Callable[[], bool]) -> None:
        self.path = path
        self._alive = alive

    def text(self, start: int = 0) -> str:
        """Everything printed from position `start` on, with plain newlines."""
        return self.path.read_bytes().decode("latin-1").replace("\r\n", "\n")[start:]

    def position(self) -> int:
        """The position of whatever comes next."""
        return len(self.text())

    def wait_for(self, pattern: str, start: int = 0, timeout: float = 300) -> re.Match[str]:
        """Return the first match of a (multi-line) regular expression at `start` or later.

        Raises LabTimeout, or MachineDied when QEMU ended without printing it.
        """
        expression = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + limit(timeout)
        while True:
            alive = self._alive()  # asked before the text is read, so the last words count
            if match := expression.search(self.text(start)):
                return match
            tail = self.text()[-1500:]
            if not alive:
                raise MachineDied(f"QEMU ended without printing {pattern!r}; the end:\n{tail}")
            if time.monotonic() > deadline:
                raise LabTimeout(f"no {pattern!r} within {timeout:g} s; the end:\n{tail}")
            time.sleep(0.05)
