# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine on a fake kernel, under a clock that only moves when told."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import config, decisions, engine, loaders
from kexecwatchd.bookkeeping import Now
from kexecwatchd.checks.check import Check
from kexecwatchd.config import Config
from kexecwatchd.desk import Desk
from kexecwatchd.engine import Engine
from kexecwatchd.filewatch import Alarm
from kexecwatchd.imagefiles import ImageFilesWatch
from kexecwatchd.kernel import kexec_file
from kexecwatchd.loaders import kexec_tools
from kexecwatchd.model import ImageName
from kexecwatchd.report import Decision, ImageStatus, Status
from kexecwatchd.uevents import Batch
from tests.fake_kernel import CMDLINE, FakeKernel

LOAD_SECONDS = 2.0
BOOTED = 1000.0
WALL = 1_700_000_000.0


# Alarms that a test has opened, and conftest.py closes.
opened: list[Alarm] = []


class Killed(BaseException):
    """kill -9: nothing of the daemon runs after this."""


class World:
    """A machine, its daemon's engine, and the time. Seconds throughout.

    `load_seconds` is how long each load takes; each of `during_load` is done in the middle of one.
    `journal` has the messages of the entries, `entries` their fields, `decided` the decisions and
    `published` what the bus would show. `checks` is what the daemon asks; a round takes no time,
    unless one of them `hangs`. `sources` are files that the configuration is completed from, and
    `sources_changed` when it was told that they did.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.kernel = FakeKernel(root, uevent=self._uevent, **options)
        self.kernel.while_loading = self._while_loading
        self.now = BOOTED
        self.load_seconds = LOAD_SECONDS
        self.during_load: list[Callable[[], None]] = []
        self.published: list[Status] = []
        self.journal: list[str] = []
        self.entries: list[dict[str, Any]] = []
        self.decided: list[Decision] = []
        self.checks: tuple[Check, ...] = ()
        self.hangs = False
        self.sources: list[Path] = []
        self.sources_changed: list[float] = []
        self.alarm: Alarm
        self._batch = Batch()
        self._planned: list[tuple[float, Callable[[], None]]] = []
        monkeypatch.setattr(engine, "now", lambda: Now(self.now, WALL + self.now - BOOTED))
        monkeypatch.setattr(
            loaders,
            "time",
            types.SimpleNamespace(monotonic=lambda: self.now, sleep=self._pass),
        )
        monkeypatch.setattr(kexec_file, "load", self.kernel.load)
        monkeypatch.setattr(kexec_file, "unload", self.kernel.unload)
        monkeypatch.setattr(kexec_tools, "run", self.kernel.load_with_tools)
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr(decisions, "entry", self._entry)
        self.engine: Engine
        self.desk: Desk

    def configured(
        self,
        *,
        crash: str = "follow",
        reboot: str = "off",
        when_unsafe: str = "guard",
        **pacing: float,
    ) -> Config:
        """Modes by image; both images from the same files."""
        files = {
            "kernel": str(self.kernel.path("boot/vmlinuz")),
            "initrd": str(self.kernel.path("boot/initrd.img")),
            "cmdline": CMDLINE,
        }
        return config.from_tables(
            {
                "crash": {"mode": crash, **files},
                "reboot": {"mode": reboot, "when_unsafe": when_unsafe, **files},
                "pacing": pacing,
            },
            {},
        )

    async def start(self, config: Config) -> None:
        """Start a daemon, or start it again: what the one before knew is on disk or lost."""
        decisions._found.clear()
        self.alarm = Alarm(lambda: None)
        opened.append(self.alarm)
        files = ImageFilesWatch(
            self.kernel.root,
            self.alarm,
            sources=lambda: self.sources,
            sources_changed=lambda: self.sources_changed.append(self.now),
        )
        self.engine = Engine(
            self.kernel.root,
            config,
            self._take,
            self._publish,
            files,
            decided=self.decided.append,
            checks=self.checks,
        )
        self.desk = Desk(self.engine)
        await self.engine.start()

    async def run(self, seconds: float) -> None:
        """Let the time pass, work whenever there is something to do."""
        end = self.now + seconds
        turns = 0
        while True:
            turns += 1
            assert turns < 20_000, "the engine goes round and round"
            self._do_planned()
            await self.engine.work()
            await self._end_of_round()
            due = max(self.engine.deadline(), self.now)
            upcoming = min([due, *(moment for moment, _ in self._planned)])
            if upcoming > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, upcoming)

    async def _end_of_round(self) -> None:
        task = self.engine._rounds._task
        if task is not None and not self.hangs:
            await task

    def at(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something that many seconds from now, in the middle of a load if need be."""
        self._planned.append((self.now + seconds, functools.partial(action, *arguments)))
        self._planned.sort(key=lambda planned: planned[0])

    def status(self, image: str) -> ImageStatus:
        return next(i for i in self.engine.status().images if i.image is ImageName(image))

    def crash(self) -> ImageStatus:
        return self.status("crash")

    def reboot(self) -> ImageStatus:
        return self.status("reboot")

    def _do_planned(self) -> None:
        while self._planned and self._planned[0][0] <= self.now:
            self._planned.pop(0)[1]()

    def _pass(self, seconds: float) -> None:
        """Time passes while a worker thread is busy: other things go on."""
        end = self.now + seconds
        while self._planned and self._planned[0][0] <= end:
            self.now = max(self.now, self._planned[0][0])
            self._planned.pop(0)[1]()
        self.now = end

    def _while_loading(self, image: str) -> None:
        self._pass(self.load_seconds / 2)
        if self.during_load:
            self.during_load.pop(0)()
        self._pass(self.load_seconds / 2)

    def _uevent(self, subsystem: str, action: str, name: str) -> None:
        self._batch.events += 1
        if subsystem == "memory":
            self._batch.blocks.add(int(name.removeprefix("memory")))

    def lose_events(self) -> None:
        """The socket overflowed: what came so far is lost."""
        self._batch = Batch(lost=True)

    def _entry(self, message: str, priority: int, **fields: Any) -> None:
        self.journal.append(message)
        self.entries.append(fields)

    def _take(self) -> Batch:
        batch, self._batch = self._batch, Batch()
        return batch

    def _publish(self, status: Status) -> None:
        self.published.append(status)
