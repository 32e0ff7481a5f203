# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the service on the bus, and the bus out of the daemon's way.

A bus that is absent, restarted or unwilling costs the daemon nothing but being seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NoReturn

from dbus_fast import BusType, DBusError, Message, MessageType
from dbus_fast.aio import MessageBus

from kexecwatchd.bus import names
from kexecwatchd.bus.backend import Backend
from kexecwatchd.bus.service import Service
from kexecwatchd.report import Decision, Status

log = logging.getLogger(__name__)

# Seconds. A bus that takes the connection, or a question, and then says nothing is given up after
# this long.
_TIMEOUT = 30.0


class _Connection(MessageBus):
    """One connection, which ends when it has ended.

    dbus-fast would send on, say the reply to a load that was slow: into a descriptor that by then
    is the next connection's, whose reader it takes away (seen with 5.2).
    """

    def send(self, msg: Message) -> asyncio.Future[None]:  # type: ignore[override]
        if self.unique_name is None or self.connected:
            return super().send(msg)
        if msg.message_type is MessageType.METHOD_CALL:
            raise EOFError(f"the bus is gone, and cannot be asked for {msg.member}")
        nowhere: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nowhere.set_result(None)
        return nowhere


class Bus:
    """The daemon's side of the system bus (DBUS_SYSTEM_BUS_ADDRESS where set).

    Run `run()` as a task for as long as the daemon lives, call `publish()` after each look and each
    action, and `decided()` for each decision; while there is no bus these do nothing. All belong to
    the event loop's thread.
    """

    def __init__(
        self, backend: Backend, *, first_pause: float = 1.0, longest_pause: float = 60.0
    ) -> None:
        """Pauses between attempts to connect, in seconds; each is double the one before."""
        self._backend = backend
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._service: Service | None = None
        self._tried = asyncio.Event()

    async def tried(self) -> None:
        """Wait until `run()` serves, or has failed to once; not longer than a connection may take.

        So that whoever waits for the daemon to be ready can ask it then, and a machine without a
        bus has a daemon all the same.
        """
        await self._tried.wait()

    async def run(self) -> NoReturn:
        """Connect, serve until the connection ends, and again. Ends only by being cancelled."""
        clock = asyncio.get_running_loop().time
        pause = self._first_pause
        trouble = ""
        while True:
            began = clock()
            try:
                await self._serve()
                trouble = ""
                log.warning("lost the system bus; connecting again")
            except Exception as error:
                # Said once, not at each attempt: a machine may well have no system bus.
                self._tried.set()
                advice = _advice(error)
                if advice != trouble:
                    trouble = advice
                    log.warning("%s", advice)
            if clock() - began > self._longest_pause:
                pause = self._first_pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._longest_pause)

    def publish(self, status: Status) -> None:
        """Make `status` what the bus shows and signal what changed; never raises."""
        self._tell(lambda service: service.publish(status))

    def decided(self, decision: Decision) -> None:
        """Signal a decision; never raises."""
        self._tell(lambda service: service.decided(decision))

    def _tell(self, say: Callable[[Service], None]) -> None:
        service = self._service
        if service is None:
            return
        try:
            say(service)
        except Exception:
            # A connection that breaks here is run()'s to report, and to make again.
            if service.connected:
                log.exception("could not tell the system bus what is new")

    async def _serve(self) -> None:
        """One connection, from its beginning to its end; raises when it does not come about."""
        bus = await self._connected()
        try:
            service = Service(bus, self._backend)
            # Set before the name is ours, so that no change between the two is lost.
            self._service = service
            async with asyncio.timeout(_TIMEOUT):
                await service.start()
            self._tried.set()
            log.info("serving %s on the system bus", names.BUS_NAME)
            await _hung_up(bus)
        finally:
            self._service = None
            if bus.connected:
                bus.disconnect()
                await _hung_up(bus)

    async def _connected(self) -> MessageBus:
        """On the bus. Where there is none, nobody is on it, and so nobody holds."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await _Connection(bus_type=BusType.SYSTEM).connect()
        except TimeoutError:
            raise  # a bus that is slow is one, and those who hold may still be on it
        except Exception:
            for holder in list(self._backend.holders()):
                self._backend.gone(holder)
            raise


async def _hung_up(bus: MessageBus) -> None:
    """Wait until the connection has ended, for whatever reason."""
    with contextlib.suppress(EOFError, OSError):
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


def _advice(error: Exception) -> str:
    tried = f"not on the system bus as {names.BUS_NAME}"
    if isinstance(error, TimeoutError):
        return f"{tried}: the bus did not answer within {_TIMEOUT:.0f} s; trying on"
    if isinstance(error, DBusError):
        return f"{tried}: {error}; is the policy file {names.BUS_NAME}.conf installed? Trying on"
    return f"{tried}: {error!r}; trying on"
