# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock that has logind wait for a load, against a logind of our own on a private bus.

No `from __future__ import annotations`: dbus-fast before 4.0 reads signatures as strings.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dbus_fast import BusType, DBusError
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, method

from kexecwatchd.bus import delayed_shutdown, inhibitor
from tests.integration.harness import PrivateBus, until
from tests.integration.world import World

if TYPE_CHECKING:
    # What the signatures below mean to a type checker.
    s = str
    h = int


class Logind(ServiceInterface):
    """org.freedesktop.login1.Manager, as far as Inhibit goes.

    `held`: the other ends of the locks that it gave out; each is readable (at its end) as soon as
    its lock was let go. `refuses`, and `mute` until set.
    """

    def __init__(self) -> None:
        super().__init__("org.freedesktop.login1.Manager")
        self.asked: list[tuple[str, str, str, str]] = []
        self.held: list[int] = []
        self.refuses = False
        self.answers = asyncio.Event()
        self.answers.set()

    @method()
    async def Inhibit(self, what: "s", who: "s", why: "s", mode: "s") -> "h":
        self.asked.append((what, who, why, mode))
        if self.refuses:
            raise DBusError("org.freedesktop.DBus.Error.AccessDenied", "no")
        await self.answers.wait()
        ours, theirs = os.pipe()
        self.held.append(ours)
        # Given away with the answer; this end must not keep the lock alive.
        asyncio.get_running_loop().call_later(0.2, os.close, theirs)
        return theirs

    def locked(self) -> bool:
        """Whether anyone has one of the locks; only some time after it was given out."""
        return any(not _ended(fd) for fd in self.held)


def _ended(fd: int) -> bool:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
async def logind(open_bus: PrivateBus) -> AsyncGenerator[Logind, None]:
    bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    service = Logind()
    bus.export("/org/freedesktop/login1", service)
    await bus.request_name("org.freedesktop.login1")
    yield service
    await asyncio.sleep(0.3)  # until its own ends are closed
    for fd in service.held:
        os.close(fd)
    bus.disconnect()
    with contextlib.suppress(EOFError, OSError):
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


def descriptors() -> int:
    gc.collect()  # dbus-fast 2.44 leaves the sockets of ended connections to it
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_lock_is_held_inside_and_only_there(logind: Logind) -> None:
    async with delayed_shutdown():
        assert [(a[0], a[1], a[3]) for a in logind.asked] == [("shutdown", "kexecwatchd", "delay")]
        await asyncio.sleep(0.3)
        assert logind.locked()

    async def let_go() -> bool:
        return not logind.locked()

    await until(let_go)


async def test_an_error_inside_lets_go_too(logind: Logind) -> None:
    with pytest.raises(ZeroDivisionError):
        async with delayed_shutdown():
            raise ZeroDivisionError

    async def let_go() -> bool:
        return len(logind.held) == 1 and not logind.locked()

    await until(let_go)


async def test_a_refusal_costs_nothing(logind: Logind) -> None:
    logind.refuses = True
    async with delayed_shutdown():
        pass
    assert logind.asked
    assert not logind.held


@pytest.mark.usefixtures("open_bus")
async def test_no_logind_costs_nothing() -> None:
    done = False
    async with delayed_shutdown():
        done = True
    assert done


@pytest.mark.usefixtures("absent_bus")
async def test_no_bus_costs_nothing() -> None:
    done = False
    async with delayed_shutdown():
        done = True
    assert done


async def test_a_mute_logind_is_not_waited_for(
    logind: Logind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inhibitor, "_PATIENCE", 0.1)
    logind.answers.clear()
    async with asyncio.timeout(20), delayed_shutdown():
        assert not logind.held
    logind.answers.set()


async def test_a_late_lock_holds_for_the_rest_and_is_let_go(
    logind: Logind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inhibitor, "_PATIENCE", 0.1)
    logind.answers.clear()
    async with delayed_shutdown():
        logind.answers.set()
        await asyncio.sleep(0.5)
        assert logind.locked()

    async def let_go() -> bool:
        return not logind.locked()

    await until(let_go)


async def test_no_descriptor_is_left(logind: Logind) -> None:
    async with delayed_shutdown():
        pass
    await asyncio.sleep(0.3)
    before = descriptors()
    for _ in range(5):
        async with delayed_shutdown():
            pass
    await asyncio.sleep(0.3)
    assert descriptors() - before == 5  # the fake logind's own ends


async def test_the_engine_loads_inside_it(
    logind: Logind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = World(tmp_path, monkeypatch)
    seen: list[int] = []
    w.during_load.append(lambda: seen.append(len(logind.held)))
    await w.start(w.configured(crash="ensure"))
    w.engine.hands._loading = delayed_shutdown
    await w.run(20)
    assert w.kernel.loaded("crash")
    assert seen == [1]
