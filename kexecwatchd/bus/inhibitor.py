# SPDX-License-Identifier: GPL-2.0-or-later
"""Has logind hold up a shutdown while an image is loaded: a "delay" lock (systemd-inhibit(1)).

A delay, not a block: logind gives up on us after its InhibitDelayMaxSec, so the daemon can be in
nobody's way. A machine without logind, or one that refuses, loses nothing by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus

log = logging.getLogger(__name__)

# Seconds. A load waits no longer than this for the lock.
_PATIENCE = 1.0


@contextlib.asynccontextmanager
async def delayed_shutdown() -> AsyncGenerator[None, None]:
    """Hold the lock for as long as the block runs, where there is one to be had. Never raises.

    On a connection of its own, which ends with the block: a logind that answers late gives the lock
    to the load that is still under way, or to nobody.
    """
    locks: list[int] = []

    def keep(message: Message) -> None:
        locks.extend(message.unix_fds)

    bus: MessageBus | None = None
    try:
        try:
            async with asyncio.timeout(_PATIENCE):
                bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
                bus.add_message_handler(keep)
                await bus.connect()
                await _inhibit(bus)
        except Exception as error:
            log.debug("shutdown is not held up during this load: %r", error)
        yield
    finally:
        if bus is not None and bus.connected:
            bus.disconnect()
            with contextlib.suppress(EOFError, OSError):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        for lock in locks:
            os.close(lock)


async def _inhibit(bus: MessageBus) -> None:
    """Ask for the lock; it comes with the answer, as a descriptor. Raises OSError when refused."""
    reply = await bus.call(
        Message(
            destination="org.freedesktop.login1",
            path="/org/freedesktop/login1",
            interface="org.freedesktop.login1.Manager",
            member="Inhibit",
            # A load is no reason to start a logind that was not there.
            flags=MessageFlag.NO_AUTOSTART,
            signature="ssss",
            body=["shutdown", "kexecwatchd", "An image is being loaded", "delay"],
        )
    )
    if reply.message_type is not MessageType.METHOD_RETURN:
        raise OSError(f"logind refused: {reply.error_name}")
