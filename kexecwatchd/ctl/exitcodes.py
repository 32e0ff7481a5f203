# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit codes of kexecwatchctl: the one table behind --help, the manual and the README."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """`meaning` says what each stands for."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        self = int.__new__(cls, code)
        self._value_ = code
        self.meaning = meaning
        return self

    CURRENT = 0, "done, and every image that was looked at is what its mode asks for"
    ERROR = 1, "it could not be done: refused, not permitted, or an error on the way"
    USAGE = 2, "the command line cannot be understood"
    NOT_CURRENT = 3, "an image that should be current is not; check: a problem was found"
    UNREACHABLE = 4, "the daemon cannot be reached: it does not run, or does not answer"
