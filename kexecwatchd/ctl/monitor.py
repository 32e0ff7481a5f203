# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl monitor`: what the daemon sees, decides and does, live.

A signal only says when to ask: what is new is found by comparing, so none is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

from kexecwatchd.ctl import historyscreen, output
from kexecwatchd.ctl.client import Client, UnreachableError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.screen import answer
from kexecwatchd.ctl.text import plain
from kexecwatchd.report import Decision, MonitorLine, Status

HELP = "show live what kexecwatchd sees, decides and does, until interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)


async def run(args: argparse.Namespace) -> ExitCode:
    """Ends with 0 when interrupted, or when nobody reads any more. Raises UnreachableError when the
    bus is lost."""
    woken, stopped = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    news = News()
    async with connected() as daemon:
        await daemon.watch(woken.set)
        ends = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(daemon.lost())]
        try:
            while not any(end.done() for end in ends):
                woken.clear()
                asking = asyncio.ensure_future(_lines(daemon, news))
                await asyncio.wait([*ends, asking], return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():  # whoever wants to end does not wait for a daemon that hangs
                    asking.cancel()
                    break
                for line in asking.result():
                    if not output.write(line.model_dump_json() if args.json else text_of(line)):
                        return ExitCode.CURRENT
                await _any_of(*ends, woken.wait())
        finally:
            for end in ends:
                end.cancel()
    if stopped.is_set():
        return ExitCode.CURRENT
    raise UnreachableError("the system bus is gone: nothing can be told any more")


async def _lines(daemon: Client, news: News) -> list[MonitorLine]:
    try:
        status, history = await daemon.status(), await daemon.history()
    except UnreachableError:
        return list(news.gone(time.time()))
    return list(news.seen(time.time(), status, history.decisions))


async def _any_of(*events: Any) -> None:
    """Wait for the first; futures go on, coroutines end."""
    tasks = [asyncio.ensure_future(event) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, event in zip(tasks, events, strict=True):
        if task is not event:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class News:
    """What is new compared with what was told last. Pure but for its memory."""

    def __init__(self) -> None:
        self._there: bool | None = None
        self._last = -1  # the number of the last decision that was told; -1 = before the first look
        self._status: Status | None = None

    def gone(self, at: float) -> Iterator[MonitorLine]:
        """The daemon does not answer."""
        if self._there is not False:
            yield MonitorLine(at=at, event="gone")
        self._there = False

    def seen(self, at: float, status: Status, decisions: list[Decision]) -> Iterator[MonitorLine]:
        """The daemon says this. The decisions from before the first look are no news."""
        if self._there is False:
            yield MonitorLine(at=at, event="back")
        self._there = True
        newest = decisions[-1].number if decisions else 0
        if self._last > newest:
            self._last = 0  # a ledger begun anew
        if self._last >= 0:
            for decision in decisions:
                if decision.number > self._last:
                    yield MonitorLine(at=at, event="decision", decision=decision)
        self._last = newest
        before, self._status = self._status, status
        if before is None or (before.images, before.holds) != (status.images, status.holds):
            yield MonitorLine(at=at, event="status", status=status)


def text_of(line: MonitorLine) -> str:
    """The line for people."""
    if line.decision is not None:
        return historyscreen.in_one_line(line.decision)
    if line.status is not None:
        parts = [answer(line.status)]
        parts += [
            f"{image.image} image: {image.in_progress} under way"
            for image in line.status.images
            if image.in_progress
        ]
        parts += [f"held by {hold.who}" for hold in line.status.holds]
        said = "; ".join(parts)
    else:
        said = {"gone": "kexecwatchd does not answer", "back": "kexecwatchd is back"}[line.event]
    return f"{historyscreen.moment(line.at)}  {plain(said)}"
