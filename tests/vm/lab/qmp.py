# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's machine protocol for code that is not asynchronous.

The library qemu.qmp speaks the protocol, in an event loop on a thread of its own; every event is
kept, with the time it came, so that a caller can also ask about the past.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError, Runstate

from .report import LabError, LabTimeout, MachineDied, limit


@dataclass(frozen=True)
class Event:
    """One QMP event; `at` is the host's time.monotonic() when it arrived."""

    name: str
    data: Mapping[str, Any]
    at: float = field(default_factory=time.monotonic)


class QmpRefused(LabError):
    """QEMU answered a command with an error."""


class Qmp:
    """A connection to one QEMU's QMP socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.events: list[Event] = []
        self._arrived = threading.Condition()
        self._gone = False
        self._client = QMPClient("lab")
        # The library warns on every disconnect, and QEMU ending is normal here.
        self._client.logger.setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab-qmp", daemon=True)
        self._thread.start()
        self._listener = EventListener()
        self._client.register_listener(self._listener)
        self._await(self._client.connect(connection), 60)
        for task in (self._collect(), self._watch()):
            asyncio.run_coroutine_threadsafe(task, self._loop)

    def command(self, name: str, **arguments: object) -> Any:
        """Run a command and return its result; an underscore in an argument becomes a hyphen.

        Raises QmpRefused with QEMU's words, MachineDied when the connection is gone.
        """
        values = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self._await(self._client.execute(name, values or None), 300)

    def wait_event(
        self, match: Callable[[Event], bool], since: int = 0, timeout: float = 300
    ) -> Event:
        """Return the first event at index `since` or later that matches, waiting for it.

        `len(qmp.events)` before an action is the index to give. Raises LabTimeout, MachineDied.
        """
        deadline = time.monotonic() + limit(timeout)
        with self._arrived:
            while True:
                for event in self.events[since:]:
                    if match(event):
                        return event
                since = len(self.events)
                if self._gone:
                    raise MachineDied("QEMU ended while the lab waited for an event")
                if not self._arrived.wait(deadline - time.monotonic()):
                    seen = [(e.name, dict(e.data)) for e in self.events]
                    raise LabTimeout(f"no such event within {timeout:g} s; seen: {seen}")

    def close(self) -> None:
        """Disconnect and end the thread. Safe to call again."""
        if not self._thread.is_alive():
            return
        # Whatever ended the session (often EOFError: QEMU is gone) is raised once more here.
        with contextlib.suppress(LabError, OSError, EOFError):
            self._await(self._client.disconnect(), 10)
        self._await(self._cancel_all(), 10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _collect(self) -> None:
        async for message in self._listener:
            data = message.get("data")
            self._add(Event(str(message["event"]), data if isinstance(data, dict) else {}))

    async def _watch(self) -> None:
        while await self._client.runstate_changed() == Runstate.RUNNING:
            pass
        with self._arrived:
            self._gone = True
            self._arrived.notify_all()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _add(self, event: Event) -> None:
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def _await(self, coroutine: Any, timeout: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(limit(timeout))
        except ExecuteError as error:
            raise QmpRefused(str(error)) from error
        except QMPError as error:
            raise MachineDied(f"QMP: {error}") from error
        except TimeoutError as error:
            future.cancel()
            raise LabTimeout(f"QEMU did not answer within {timeout:g} s") from error
