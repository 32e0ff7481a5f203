# SPDX-License-Identifier: GPL-2.0-or-later
"""inotify(7): the kernel says that something changed in a directory.

An event is no more than a hint. The queue can overflow, network file systems tell of nothing that
another machine does, and a mount over a directory is no event in it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# include/uapi/linux/inotify.h
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000

# What can mean another file of a name, or another content. Not IN_MODIFY, which comes with each
# write: whoever writes closes the file in the end.
CHANGES = (
    IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
)

_HEADER = struct.Struct("iIII")  # wd, mask, cookie, len
_BUFFER = 64 << 10  # an event takes up to 16 + NAME_MAX + 1 bytes

# What these mean here, where strerror(3) speaks of disks and files.
_USED_UP = {
    errno.ENOSPC: "fs.inotify.max_user_watches is used up",
    errno.EMFILE: "fs.inotify.max_user_instances, or LimitNOFILE=, is used up",
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = [ctypes.c_int]
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_libc.inotify_rm_watch.argtypes = [ctypes.c_int, ctypes.c_int]


class Event(NamedTuple):
    """`watch`: which one, -1 for an overflow. `name`: in that directory, "" = the directory."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of events; raises OSError where none can be had."""

    def __init__(self) -> None:
        self._fd = _checked(
            _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "no inotify instance can be had"
        )

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def add(self, directory: Path) -> int:
        """Watch a directory for CHANGES; returns the number of the watch, which is the one that
        the same directory has already. Raises OSError: ENOSPC when fs.inotify.max_user_watches is
        used up."""
        answer = _libc.inotify_add_watch(self._fd, os.fsencode(directory), CHANGES | IN_ONLYDIR)
        return _checked(answer, f"{directory} cannot be watched")

    def remove(self, watch: int) -> None:
        """End a watch; one that has ended with its directory is no error."""
        if _libc.inotify_rm_watch(self._fd, watch) and ctypes.get_errno() != errno.EINVAL:
            _checked(-1, f"watch {watch} cannot be ended")

    def read(self) -> list[Event]:
        """The events that are there, up to a buffer full; never waits. Raises OSError."""
        try:
            return list(parse(os.read(self._fd, _BUFFER)))
        except BlockingIOError:
            return []


def parse(data: bytes) -> Iterator[Event]:
    """The events of a read(2)."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        name = data[at : at + length].split(b"\0", 1)[0]
        at += length
        yield Event(watch, mask, os.fsdecode(name))


def _checked(answer: int, what: str) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {_USED_UP.get(number) or os.strerror(number)}")
    return answer
