# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import asyncio
import os
import sys

import pytest

from kexecwatchd.ctl.progress import waiting


async def _shown(monkeypatch: pytest.MonkeyPatch, *, counted: bool) -> str:
    """What a terminal gets while something takes so long that it is counted, or not."""
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as reader, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        os.set_blocking(reader.fileno(), False)
        got = b""
        async with waiting("the crash image\n is being loaded:"):
            while counted and b" s" not in got:
                got += reader.read() or b""
                await asyncio.sleep(0.01)
        got += reader.read() or b""
    return got.decode()


async def test_a_terminal_sees_the_seconds_and_then_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asyncio.timeout(20):
        shown = await _shown(monkeypatch, counted=True)
    assert shown.startswith("\r\x1b[Kthe crash image  is being loaded: ")
    assert shown.endswith(" s\r\x1b[K")


async def test_what_is_quick_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _shown(monkeypatch, counted=False) == ""


async def test_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with waiting("the crash image is being loaded:"):
        await asyncio.sleep(1.1)
    assert capsys.readouterr().err == ""
