# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon around the engine: uevents, signals, the bus, the watchdog. It decides nothing.

There is one loop; it waits until something happens or is due, has the engine work, and tells the
watchdog. Requests from the bus are answered by the same loop, so nothing ever runs twice at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from kexecwatchd import decisions, notify
from kexecwatchd.bus import Bus, delayed_shutdown
from kexecwatchd.config import Config, ConfigError, Sources, load
from kexecwatchd.engine import Engine, now
from kexecwatchd.model import ImageName
from kexecwatchd.report import Details, ImageStatus, Status
from kexecwatchd.requests import LoadFailed, Refused
from kexecwatchd.summary import one_line
from kexecwatchd.uevents import Uevents


class Daemon:
    """One machine's daemon, and the Backend of its bus."""

    def __init__(self, sources: Sources, config: Config, root: Path = Path("/")) -> None:
        self._sources = sources
        self._wake = asyncio.Event()
        self._uevents = Uevents(self._wake.set)
        self._engine = Engine(root, config, self._uevents.take, self._publish, delayed_shutdown)
        self._bus = Bus(self)
        self._stop = False
        self._reconfigure = False
        self._reloads: list[tuple[ImageName, asyncio.Future[ImageStatus]]] = []
        self._verifications: list[asyncio.Future[asyncio.Future[None]]] = []

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. The images stay loaded; a load in flight is waited for."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        # Before the first look, so that nothing can happen unseen between the two.
        self._uevents.start(loop)
        await self._engine.look()
        beside = [loop.create_task(self._bus.run()), loop.create_task(self._announce())]
        try:
            while not self._stop:
                await self._turn()
        finally:
            notify.stopping()
            self._uevents.stop(loop)
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
        await self._engine.work()
        await self._answer()
        notify.alive()
        if self._reloads or self._verifications or self._stop:
            return
        pause = self._engine.deadline() - now().boot
        watchdog = notify.watchdog_seconds()
        if watchdog is not None:
            pause = min(pause, watchdog / 3)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(pause, 0.0))

    async def _answer(self) -> None:
        """Do what was asked over the bus; all who asked for a look share one, and one round."""
        verifications, self._verifications = self._verifications, []
        if verifications:
            self._engine.look_at_everything()
            await self._engine.look()
            checked = self._engine.check()
            for verification in verifications:
                if not verification.done():
                    verification.set_result(checked)
        reloads, self._reloads = self._reloads, []
        for image, answer in reloads:
            try:
                result = await self._engine.reload(image)
                if not answer.done():
                    answer.set_result(result)
            except (Refused, LoadFailed) as refusal:
                if not answer.done():
                    answer.set_exception(refusal)

    def _read_config(self) -> None:
        """On SIGHUP. A configuration that is wrong leaves the old one in force, and is told."""
        try:
            config = load(self._sources)
        except ConfigError as error:
            self._engine.config_error = str(error)
            decisions.trouble(f"the old configuration stays in force: {error}")
            self._engine.look_at_everything()
            return
        self._engine.config_error = ""
        self._engine.reconfigure(config)

    def _publish(self, status: Status) -> None:
        notify.status(one_line(status))
        self._bus.publish(status)

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

    async def reload(self, image: ImageName, by: str) -> ImageStatus:
        answer: asyncio.Future[ImageStatus] = asyncio.get_running_loop().create_future()
        self._reloads.append((image, answer))
        self._wake.set()
        return await answer

    async def verify(self) -> Status:
        looked: asyncio.Future[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._verifications.append(looked)
        self._wake.set()
        # Waited for here, not in the loop that does the work. Others wait for the same one.
        await asyncio.shield(await looked)
        return self._engine.status()
