# SPDX-License-Identifier: GPL-2.0-or-later
"""A hold ends with its connection, whatever happens to the bus or to the daemon meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from dbus_fast import Message, MessageFlag
from dbus_fast.aio import MessageBus

from kexecwatchd.bus import Bus, connection, names
from tests.integration.harness import (
    FakeBackend,
    PrivateBus,
    call,
    client,
    is_served,
    running,
    serving,
    until,
)

ELSEWHERE = 32 * "0"


async def bus_guid(bus: MessageBus) -> str:
    reply = await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="GetId",
        )
    )
    return str(reply.body[0])


async def held_by(backend: FakeBackend, holders: set[str]) -> None:
    async def so_it_is() -> bool:
        return set(backend.held.values()) == holders

    await until(so_it_is)


@pytest.mark.usefixtures("system_bus")
async def test_a_hold_ends_when_released_or_when_its_connection_does(backend: FakeBackend) -> None:
    async with client() as stays, serving(backend):
        async with client() as leaves:
            first = (await call(stays, "Hold", "ss", "apt", "a kernel")).body[0]
            second = (await call(stays, "Hold", "ss", "apt", "an initrd")).body[0]
            for _ in range(2):
                await call(leaves, "Hold", "ss", "dracut", "")
            guid = await bus_guid(stays)
            kept, gone = f"{guid} {stays.unique_name}", f"{guid} {leaves.unique_name}"
            assert list(backend.held.values()) == [kept, kept, gone, gone]
            theirs = await call(leaves, "Release", "t", first)
            assert theirs.error_name == names.ERROR_NO_SUCH_HOLD
        await held_by(backend, {kept})
        assert set(backend.held) == {first, second}
        assert (await call(stays, "Release", "t", first)).body == []
        assert set(backend.held) == {second}
    assert set(backend.held) == {second}, "the end of the daemon ends no hold"


@pytest.mark.usefixtures("system_bus")
async def test_nobody_can_end_a_hold_by_a_forged_signal(backend: FakeBackend) -> None:
    async with serving(backend), client() as holder, client() as forger:
        await call(holder, "Hold", "ss", "apt", "")
        forged = Message.new_signal(
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "NameOwnerChanged",
            "sss",
            [holder.unique_name, holder.unique_name, ""],
        )
        forged.destination = names.BUS_NAME
        await forger.send(forged)
        await call(forger, "Verify")
        assert backend.held


class SlowToHold(FakeBackend):
    """A load is under way, and a hold waits for its end."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_to = asyncio.Event()
        self.may = asyncio.Event()

    async def hold(self, holder: str, who: str, why: str, by: str) -> int:
        self.asked_to.set()
        await self.may.wait()
        return await super().hold(holder, who, why, by)


@pytest.mark.usefixtures("system_bus")
async def test_who_leaves_before_the_hold_is_there_has_none() -> None:
    backend = SlowToHold()
    async with serving(backend):
        async with client() as bus:
            question = asyncio.ensure_future(call(bus, "Hold", "ss", "apt", ""))
            await backend.asked_to.wait()
        await asyncio.gather(question, return_exceptions=True)
        async with client() as other:
            # The bus tells of the end before it answers this.
            await call(other, "Verify")
            backend.may.set()
            await call(other, "Verify")
        await held_by(backend, set())
    assert [asked[0] for asked in backend.asked] == ["hold"]


@pytest.mark.usefixtures("system_bus")
async def test_a_new_daemon_finds_out_who_has_left(backend: FakeBackend) -> None:
    async with client() as stays:
        guid = await bus_guid(stays)
        kept = f"{guid} {stays.unique_name}"
        backend.held = {
            1: kept,
            2: f"{guid} :1.4242",
            3: f"{ELSEWHERE} {stays.unique_name}",
            4: "nonsense",
        }
        async with serving(backend):
            assert backend.held == {1: kept}
            assert (await call(stays, "Release", "t", 1)).body == []
            backend.held = {}
            await call(stays, "Hold", "ss", "apt", "")
    # And watches those who have not.
    async with client() as stays:
        kept = f"{guid} {stays.unique_name}"
        backend.held = {1: kept}
        async with serving(backend):
            stays.disconnect()
            await held_by(backend, set())


# dbus-fast before 5.0 leaves a socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_without_a_bus_nobody_holds(absent_bus: PrivateBus, backend: FakeBackend) -> None:
    backend.held = {1: f"{ELSEWHERE} :1.1"}
    async with running(Bus(backend, first_pause=0.01, longest_pause=0.05)):
        await held_by(backend, set())
        absent_bus.start()
        await until(is_served)
        with contextlib.suppress(EOFError, OSError):
            async with client() as bus:
                await call(bus, "Hold", "ss", "apt", "")
                assert backend.held
                absent_bus.stop()
                await held_by(backend, set())
    gc.collect()  # while the filter above is in force


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_bus_that_is_slow_ends_no_hold(
    absent_bus: PrivateBus, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and says nothing; whoever holds may still be on it."""
    monkeypatch.setattr(connection, "_TIMEOUT", 0.1)
    backend.held = {1: f"{ELSEWHERE} :1.1"}
    writers = []
    mute = await asyncio.start_unix_server(
        lambda _, writer: writers.append(writer), absent_bus.socket
    )
    service = Bus(backend, first_pause=0.01, longest_pause=0.05)
    async with running(service):
        await service.tried()
    assert writers
    assert list(backend.held) == [1]
    mute.close()
    for writer in writers:
        writer.close()
    gc.collect()  # while the filters above are in force


# dbus-fast before 5.0 leaves a socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_hold_that_is_there_after_its_bus_has_none(
    absent_bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    backend = SlowToHold()
    absent_bus.start()
    async with running(Bus(backend, first_pause=0.01, longest_pause=0.05)):
        await until(is_served)
        with contextlib.suppress(EOFError, OSError):
            async with client() as bus:
                question = asyncio.ensure_future(call(bus, "Hold", "ss", "apt", ""))
                await backend.asked_to.wait()
                absent_bus.stop()
                await asyncio.gather(question, return_exceptions=True)
        absent_bus.start()
        await until(is_served)
        backend.may.set()

        async def held_for_a_moment() -> bool:
            return bool(backend.asked)

        await until(held_for_a_moment)
        await held_by(backend, set())
        async with asyncio.timeout(20), client() as bus:
            assert (await call(bus, "Verify")).body == [True], "the new connection is heard"
    assert [r for r in caplog.records if r.levelname == "ERROR"] == [], "no answer into the void"
    gc.collect()  # while the filter above is in force


@pytest.mark.usefixtures("system_bus")
async def test_a_hold_may_be_taken_without_an_answer(backend: FakeBackend) -> None:
    """Whoever does so learns its number from the property Holds."""
    async with serving(backend):
        async with client() as bus:
            question: Any = Message(
                destination=names.BUS_NAME,
                path=names.MANAGER_PATH,
                interface=names.MANAGER_INTERFACE,
                member="Hold",
                signature="ss",
                body=["apt", ""],
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
            await bus.send(question)
            await held_by(backend, {f"{await bus_guid(bus)} {bus.unique_name}"})
        await held_by(backend, set())
