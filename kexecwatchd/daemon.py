# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon around the engine: uevents, signals, the bus, the watchdog. It decides nothing.

There is one loop; it waits until something happens or is due, has the engine work, and tells the
watchdog. Requests from the bus are answered by the same loop, so nothing ever runs twice at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from kexecwatchd import configured, notify
from kexecwatchd.bus import Bus, delayed_shutdown
from kexecwatchd.config import Config, ConfigError, Sources
from kexecwatchd.desk import Desk
from kexecwatchd.engine import Engine, now
from kexecwatchd.filewatch import Alarm
from kexecwatchd.imagefiles import ImageFilesWatch
from kexecwatchd.metrics import Textfile
from kexecwatchd.model import ImageName, Mode
from kexecwatchd.report import Decision, Details, History, ImageStatus, Status
from kexecwatchd.requests import LoadFailed, NoSuchHold, Refused, TooManyHolds
from kexecwatchd.summary import one_line
from kexecwatchd.uevents import Uevents

T = TypeVar("T")


class Daemon:
    """One machine's daemon, and the Backend of its bus."""

    def __init__(self, sources: Sources, config: Config, root: Path = Path("/")) -> None:
        self._sources = sources
        self._wake = asyncio.Event()
        self._uevents = Uevents(self._wake.set)
        self._alarm = Alarm(self._wake.set)
        self._engine = Engine(
            root,
            config,
            self._uevents.take,
            self._publish,
            ImageFilesWatch(
                root,
                self._alarm,
                sources=lambda: configured.sources_of(self._engine.configured),
                sources_changed=self._on_sources_changed,
            ),
            decided=self._decided,
            loading=delayed_shutdown,
        )
        self._desk = Desk(self._engine)
        self._bus = Bus(self)
        self._textfile = Textfile(root / "run/kexecwatchd/kexecwatchd.prom")
        self._stop = False
        self._reconfigure = False
        self._recomplete = False
        self._requests: list[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = []
        self._verifications: list[asyncio.Future[asyncio.Future[None]]] = []

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. The images stay loaded; a load in flight is waited for."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        # Before the first look, so that nothing can happen unseen between the two.
        self._uevents.start(loop)
        self._alarm.start(loop)
        await self._engine.start()
        beside = [loop.create_task(self._bus.run()), loop.create_task(self._announce())]
        try:
            while not self._stop:
                await self._turn()
        finally:
            notify.stopping()
            self._textfile.end()
            self._uevents.stop(loop)
            self._alarm.stop(loop)
            for task in beside:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _announce(self) -> None:
        """Say that we are ready once we can be asked; the work does not wait for that."""
        await self._bus.tried()
        notify.ready()

    async def _turn(self) -> None:
        """Work, answer who asked, and wait for the next reason to."""
        self._wake.clear()
        if self._reconfigure:
            self._reconfigure = False
            self._read_config()
        if self._recomplete:
            self._recomplete = False
            self._complete_config()
        await self._engine.work()
        await self._answer()
        notify.alive()
        if self._requests or self._verifications or self._stop:
            return
        pause = self._engine.deadline() - now().boot
        watchdog = notify.watchdog_seconds()
        if watchdog is not None:
            pause = min(pause, watchdog / 3)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(pause, 0.0))

    async def _answer(self) -> None:
        """Do what was asked over the bus, in order; all who asked for a look share one, and one
        round."""
        verifications, self._verifications = self._verifications, []
        if verifications:
            self._engine.look_at_everything()
            await self._engine.look()
            checked = self._engine.check()
            for verification in verifications:
                if not verification.done():
                    verification.set_result(checked)
        requests, self._requests = self._requests, []
        for work, answer in requests:
            if answer.done():
                continue  # who asked has left
            try:
                result = await work()
            except (Refused, LoadFailed, NoSuchHold, TooManyHolds) as refusal:
                if not answer.done():
                    answer.set_exception(refusal)
            else:
                if not answer.done():
                    answer.set_result(result)

    def _read_config(self) -> None:
        """On SIGHUP. A configuration that is wrong leaves the old one in force, and is told."""
        try:
            config = configured.read(self._sources)
        except ConfigError as error:
            self._desk.refuse(error)
        else:
            self._recomplete = False  # that is done with it
            self._desk.reconfigure(config)

    def _complete_config(self) -> None:
        """The files of the distribution's tool changed. What kexecwatchd.toml says is left as it is
        until a reload is asked for."""
        toml = self._engine.configured.toml
        self._desk.recomplete(configured.complete(toml, self._sources))

    def _publish(self, status: Status) -> None:
        notify.status(one_line(status))
        self._bus.publish(status)
        self._textfile.write(status)

    def _decided(self, decision: Decision) -> None:
        self._bus.decided(decision)

    def _on_sources_changed(self) -> None:
        self._recomplete = True
        self._wake.set()

    def _on_stop(self) -> None:
        self._stop = True
        self._wake.set()

    def _on_hangup(self) -> None:
        self._reconfigure = True
        self._wake.set()

    # The Backend of the bus

    def status(self) -> Status:
        return self._engine.status()

    def details(self) -> Details:
        return self._engine.details()

    def history(self) -> History:
        return self._engine.book.history()

    async def verify(self) -> Status:
        looked: asyncio.Future[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._verifications.append(looked)
        self._wake.set()
        # Waited for here, not in the loop that does the work. Others wait for the same one.
        await asyncio.shield(await looked)
        return self._engine.status()

    async def reload(self, image: ImageName, by: str) -> ImageStatus:
        return await self._ask(lambda: self._desk.reload(image, by))

    async def discard(self, image: ImageName, by: str) -> ImageStatus:
        return await self._ask(lambda: self._desk.discard(image, by))

    async def set_mode(self, image: ImageName, mode: Mode | None, by: str) -> ImageStatus:
        return await self._ask(lambda: self._desk.set_mode(image, mode, by))

    async def hold(self, holder: str, who: str, why: str, by: str) -> int:
        return await self._ask(lambda: self._desk.hold(holder, who, why, by))

    async def release(self, holder: str, number: int, by: str) -> None:
        await self._ask(lambda: self._desk.release(holder, number, by))

    def holders(self) -> Collection[str]:
        return {record.holder for record in self._engine.book.ledger.holds}

    def gone(self, holder: str) -> None:
        self._ask(lambda: self._desk.gone(holder))

    def _ask(self, work: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Have the loop do it, in its turn."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._requests.append((work, answer))
        self._wake.set()
        return answer
