# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person at a terminal sees while something takes long."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncGenerator

from kexecwatchd.ctl.text import plain

# To the line's start, and wiped from there to its end.
_WIPED = "\r\x1b[K"


@contextlib.asynccontextmanager
async def waiting(text: str) -> AsyncGenerator[None, None]:
    """While the body runs, show `text` and the seconds that it has taken, on one line of stderr.

    It comes after the first second, so that what is quick shows nothing, and is wiped in the end.
    Nothing is shown where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield
        return
    counting = asyncio.create_task(_count(text))
    try:
        yield
    finally:
        counting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await counting


async def _count(text: str) -> None:
    began = time.monotonic()
    await asyncio.sleep(1)
    try:
        while True:
            seconds = f" {time.monotonic() - began:.0f} s"
            # A line that is as wide as the terminal is not wiped as one.
            room = shutil.get_terminal_size().columns - len(seconds) - 1
            _show(f"{_WIPED}{plain(text)[: max(room, 0)]}{seconds}")
            await asyncio.sleep(1)
    finally:
        _show(_WIPED)


def _show(text: str) -> None:
    # A terminal that went away is no reason to end what is waited for.
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
