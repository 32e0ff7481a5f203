# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways to load an image. Each has a `load` that answers with a Call.

kexec_file.py: kexec_file_load(2); the kernel reads the files and chooses the place. kexec_tools.py:
the program kexec with kexec_load(2); for reboot images that must lie below an address.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kexecwatchd.model import Placement


class LoadError(Exception):
    """A load failed; the message is a sentence for people, without addresses.

    `number`: the errno that the kernel answered, 0 where it was not asked. `blames_files`: these
    files would fail again.
    """

    def __init__(self, message: str, number: int = 0, *, blames_files: bool = False) -> None:
        super().__init__(message)
        self.number = number
        self.blames_files = blames_files


@dataclass(frozen=True, slots=True)
class Call:
    """What became of one load, or unload. `error` is None when it succeeded.

    `seconds`: how long it took, 0 when nothing was called or only a busy lock was met. `placement`
    is None where the loader could not tell it whole. `refused_flags`: those of the optional flags
    that this kernel does not know.
    """

    error: LoadError | None
    seconds: float = 0.0
    placement: Placement | None = None
    refused_flags: int = 0


def patiently(call: Callable[[], None], pauses: Sequence[float]) -> tuple[LoadError | None, float]:
    """Make the call, again after each pause while another kexec operation holds the kernel's lock
    (EBUSY), which it does most often for milliseconds.

    Returns the last error, None for success, and how long the last call took, in seconds; 0 when
    that one met a busy lock too.
    """
    for pause in (*pauses, None):
        started = time.monotonic()
        try:
            call()
        except LoadError as error:
            if error.number != errno.EBUSY:
                return error, time.monotonic() - started
            if pause is None:
                return error, 0.0
            time.sleep(pause)
        else:
            break
    return None, time.monotonic() - started
