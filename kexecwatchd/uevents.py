# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory and CPU uevents from the kernel's netlink socket, into the asyncio loop.

Events say when to look and at which memory blocks; what is so is always read from sysfs. When the
socket overflows (ENOBUFS) events were lost, so everything is to be read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pyudev

# A hot-add of 480 GiB in blocks of 128 MiB is 7,680 events at about 1 KiB of socket memory each.
RECEIVE_BUFFER = 16 << 20

# Events that are read at a time, so that the bus and the watchdog get their turn: a full socket has
# more than ten thousand. To read all of them took longer than callers on the bus wait (seen under
# emulation, on a busy host).
AT_ONCE = 256


@dataclass(slots=True)
class Batch:
    """What came since the last batch. `blocks`: numbers of memory blocks; `lost`: an overflow."""

    events: int = 0
    blocks: set[int] = field(default_factory=set)
    lost: bool = False

    def __bool__(self) -> bool:
        return bool(self.events or self.lost)


class Uevents:
    """Collects events; calls `wake` whenever something was added to the batch."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._batch = Batch()
        self._error: OSError | None = None
        # "kernel": udevd's own copies come later, and not at all while udevd is stopped.
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        self._monitor.filter_by("memory")
        self._monitor.filter_by("cpu")
        self._monitor.set_receive_buffer_size(RECEIVE_BUFFER)
        self._socket = socket.socket(fileno=os.dup(self._monitor.fileno()))

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._monitor.start()
        loop.add_reader(self._monitor.fileno(), self._read)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._monitor.fileno())
        self._socket.close()

    def take(self) -> Batch:
        """The batch so far; a new one begins. Raises OSError when the socket has failed for good:
        a daemon that hears nothing is to end, and be started again.
        """
        if self._error is not None:
            raise self._error
        batch, self._batch = self._batch, Batch()
        return batch

    def _read(self) -> None:
        try:
            for _ in range(AT_ONCE):
                device = self._monitor.poll(timeout=0)
                if device is None:
                    break
                self._add(device)
        except OSError as error:
            # An overflow shows as POLLERR, which pyudev raises without a number and without
            # taking it off the socket: the socket would be readable ever after.
            number = error.errno or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number not in (0, errno.ENOBUFS):
                self._error = error
            self._batch.lost = True
        self._wake()

    def _add(self, device: pyudev.Device) -> None:
        self._batch.events += 1
        number = device.sys_name.removeprefix("memory")
        if device.subsystem == "memory" and number.isdecimal():
            self._batch.blocks.add(int(number))
