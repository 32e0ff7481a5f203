# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory blocks: /sys/devices/system/memory/memoryN.

A machine can have thousands, and events say which ones changed, so states are remembered and only
the directory is listed anew. Format: Documentation/ABI/testing/sysfs-devices-memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from kexecwatchd.model import Block, Blocks, BlockState

_GONE = frozenset({errno.ENOENT, errno.ENODEV})


class BlockReader:
    """Reads memory blocks; keeps their states from one read to the next."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._directory = root / "sys/devices/system/memory"
        self._size = 0
        self._known: dict[int, Block] = {}
        self._zones: dict[int, str] = {}

    def read(self, changed: Iterable[int] | None) -> Blocks:
        """All blocks, in the order of their numbers.

        `changed` are the blocks whose state is to be read afresh, besides new ones; None means all.
        Without a memory directory (no CONFIG_MEMORY_HOTPLUG) there are none, and the size is 0.
        Raises OSError, or ValueError where block_size_bytes is no number.
        """
        if changed is None or not self._size:
            self._known, self._zones = {}, {}
            self._size = self._read_size()
        if not self._size:
            return Blocks(size=0, by_number={})
        stale = frozenset(changed or ())
        known: dict[int, Block] = {}
        for number in self._present():
            block = self._known.get(number)
            # A failed offline sends no event, so this state is never to be relied on.
            if not block or number in stale or block.state is BlockState.GOING_OFFLINE:
                block = self._read_block(number)
                self._zones.pop(number, None)  # it changes only while a block is offline
            if block:
                known[number] = block
        self._known = known
        return Blocks(size=self._size, by_number=known)

    def zone(self, number: int) -> str:
        """The first word of valid_zones: of an online block its zone, or "none" where it spans
        several; of an offline one the zone it would get. "" where it cannot be read.

        Remembered until `read` reads the block afresh."""
        known = self._zones.get(number)
        if known is not None:
            return known
        try:
            words = _read(self._directory / f"memory{number}/valid_zones").split()
        except OSError:
            return ""
        self._zones[number] = words[0] if words else ""
        return self._zones[number]

    def _read_size(self) -> int:
        """Bytes; 0 where there is no such file."""
        path = self._directory / "block_size_bytes"
        try:
            text = _read(path)
        except FileNotFoundError:
            return 0
        try:
            return int(text, 16)
        except ValueError:
            raise ValueError(f"{path}: {text[:40]!r} is no hexadecimal number") from None

    def _present(self) -> list[int]:
        with os.scandir(self._directory) as entries:
            numbers = [block_number(entry.name) for entry in entries]
        return sorted(number for number in numbers if number is not None)

    def _read_block(self, number: int) -> Block | None:
        """None when the block is gone by now."""
        try:
            word = _read(self._directory / f"memory{number}/state")
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        try:
            return Block(number, BlockState(word))
        except ValueError:
            # The kernel's other word is "ERROR-UNKNOWN-n" (state_show(), drivers/base/memory.c).
            # Nothing may be taken to be safe there, and that is what offline says.
            return Block(number, BlockState.OFFLINE)


def block_number(name: str) -> int | None:
    """The N of "memoryN"; None for the directory's other entries."""
    number = name.removeprefix("memory")
    if number == name or not (number.isascii() and number.isdecimal()):
        return None
    return int(number)


def _read(path: Path) -> str:
    """A short file in three system calls; opening through io costs several times that."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
