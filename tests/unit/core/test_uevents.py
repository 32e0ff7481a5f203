# SPDX-License-Identifier: GPL-2.0-or-later
"""Events off a real netlink socket, one of ours in the place of the kernel's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import pyudev
from pyudev._os.poll import Poll

from kexecwatchd import uevents
from kexecwatchd.uevents import Batch, Uevents

NETLINK_USERSOCK = 2
GROUP = 1 << (os.getpid() % 31)


@dataclass
class Device:
    subsystem: str
    sys_name: str


class Monitor:
    """pyudev.Monitor, with its way of waiting for the socket, on any socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_USERSOCK
        )
        self.socket.bind((0, GROUP))
        self.filters: set[str] = set()

    def filter_by(self, subsystem: str) -> None:
        self.filters.add(subsystem)

    def set_receive_buffer_size(self, size: int) -> None:
        self.size = size

    def start(self) -> None:
        pass

    def fileno(self) -> int:
        return self.socket.fileno()

    def poll(self, timeout: int) -> Device | None:
        if not Poll.for_events((self, "r")).poll(timeout):
            return None
        subsystem, _, name = self.socket.recv(4096).decode().rstrip().partition("/")
        return Device(subsystem, name)


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    try:
        made = Monitor()
    except PermissionError:
        pytest.skip("needs root: netlink groups are root's alone")
    monkeypatch.setattr(pyudev.Monitor, "from_netlink", lambda context, source: made)
    yield made
    made.socket.close()


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK) as made:
        yield made


def send(sender: socket.socket, device: str) -> None:
    # What goes to a group goes to the kernel too, which has no use for it.
    with contextlib.suppress(ConnectionRefusedError):
        sender.sendto(device.ljust(500).encode(), (0, GROUP))


async def batch_of(events: Uevents, woken: asyncio.Event) -> Batch:
    async with asyncio.timeout(20):
        await woken.wait()
    woken.clear()
    return events.take()


async def test_a_batch_has_the_blocks_that_were_named(
    monitor: Monitor, sender: socket.socket
) -> None:
    woken = asyncio.Event()
    events = Uevents(woken.set)
    assert monitor.filters == {"memory", "cpu"}
    assert monitor.size == uevents.RECEIVE_BUFFER
    for device in ("memory/memory36", "memory/memory7", "cpu/cpu1", "memory/memory36"):
        send(sender, device)
    loop = asyncio.get_running_loop()
    events.start(loop)
    assert await batch_of(events, woken) == Batch(events=4, blocks={7, 36})
    assert not events.take()
    send(sender, "memory/soft_offline_page")
    assert await batch_of(events, woken) == Batch(events=1)
    events.stop(loop)


async def test_a_full_socket_holds_nobody_up(
    monitor: Monitor, sender: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others get their turn before all of it is read; and all of it is."""
    monkeypatch.setattr(uevents, "AT_ONCE", 20)
    woken = asyncio.Event()
    events = Uevents(woken.set)
    for number in range(3 * uevents.AT_ONCE):
        send(sender, f"memory/memory{number}")
    events.start(asyncio.get_running_loop())
    batches = [await batch_of(events, woken) for _ in range(3)]
    assert [batch.events for batch in batches] == [uevents.AT_ONCE] * 3
    assert not any(batch.lost for batch in batches)
    events.stop(asyncio.get_running_loop())


async def test_an_overflow_is_told_and_over(monitor: Monitor, sender: socket.socket) -> None:
    """What is left in the socket is read, and the next events come as ever."""
    monitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    woken = asyncio.Event()
    events = Uevents(woken.set)
    for number in range(100):
        send(sender, f"memory/memory{number}")
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    events.start(loop)
    batch = await batch_of(events, woken)
    assert batch.lost
    while not batch.blocks:
        batch = await batch_of(events, woken)
    assert 0 in batch.blocks
    await asyncio.sleep(0)
    events.take()
    woken.clear()
    send(sender, "memory/memory500")
    assert await batch_of(events, woken) == Batch(events=1, blocks={500})
    assert not complaints
    events.stop(loop)


async def test_an_overflow_that_the_read_finds(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can come between the wait and the read."""

    def overflow(timeout: int) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    events = Uevents(lambda: None)
    monkeypatch.setattr(monitor, "poll", overflow)
    events._read()
    assert events.take() == Batch(lost=True)
    events.stop(asyncio.get_running_loop())


def test_a_batch_is_true_when_something_happened() -> None:
    assert not Batch()
    assert Batch(events=1)
    assert Batch(lost=True)
