# SPDX-License-Identifier: GPL-2.0-or-later
"""The alarm: something happened to a file, or to a link on the way to it.

Files are replaced by rename and links are re-pointed, so directories are watched: the one that
holds the file, and those that hold the links that lead there. It is no more than an alarm: what
counts is what a look finds, and looks come without one too.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from kexecwatchd.kernel import inotify
from kexecwatchd.kernel.inotify import Inotify

# Of symbolic links in one path: MAXSYMLINKS of the kernel.
LINKS_MAX = 40


class Alarm:
    """Calls `wake` when something happened in what is watched. `problem`: why not all of it is, ""
    = it is."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._rang = False
        self._names: dict[int, set[str]] = {}
        self._queue: Inotify | None = None
        self.problem = ""
        try:
            self._queue = Inotify()
        except OSError as error:
            self.problem = _told(error)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._queue is not None:
            loop.add_reader(self._queue.fileno(), self._read)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._queue is not None:
            loop.remove_reader(self._queue.fileno())
        self.close()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def watch(self, paths: Iterable[Path]) -> None:
        """Watch these, and nothing else. To be called at each look: directories come and go. May
        run in another thread than the rest."""
        if self._queue is None:
            return
        names: dict[int, set[str]] = {}
        problem = ""
        for path in paths:
            for directory, name in steps(path):
                try:
                    number = self._queue.add(directory)
                except FileNotFoundError:
                    pass  # it went just now
                except OSError as error:
                    problem = _told(error)
                else:
                    names.setdefault(number, set()).add(name)
        before, self._names, self.problem = self._names, names, problem
        for number in before.keys() - names.keys():
            self._queue.remove(number)

    def take(self) -> bool:
        """Whether something happened since this was last asked."""
        self._read_all()
        rang, self._rang = self._rang, False
        return rang

    def _read(self) -> None:
        self._read_all()
        if self._rang:
            self._wake()

    def _read_all(self) -> None:
        while self._queue is not None and (events := self._queue.read()):
            self._rang = self._rang or any(self._matters(event) for event in events)

    def _matters(self, event: inotify.Event) -> bool:
        """Not the other files of a directory. An event without a name is about the directory, or
        the queue, which overflowed."""
        if event.mask & inotify.IN_IGNORED:
            return False
        return not event.name or event.name in self._names.get(event.watch, ())


def _told(error: OSError) -> str:
    """In words that UTF-8 can say: names of directories may be any bytes."""
    return str(error.strerror).encode(errors="backslashreplace").decode()


def steps(path: Path) -> list[tuple[Path, str]]:
    """Which names in which directories decide what file an absolute path leads to: the links on the
    way, and the last one; or the first that is not there."""
    found = []
    todo = list(path.parts[1:])
    here = Path("/")
    links = 0
    while todo:
        name = todo.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            here = here.parent  # no link is left in it
            continue
        entry = here / name
        try:
            mode = entry.lstat().st_mode
            target = os.readlink(entry) if stat.S_ISLNK(mode) else ""
        except OSError:
            mode, target = 0, ""
        if target:
            links += 1
            todo = target.split("/") + todo
            here = Path("/") if target.startswith("/") else here
        elif todo and stat.S_ISDIR(mode):
            here = entry
            continue
        found.append((entry.parent, name))
        if not target or links > LINKS_MAX:
            break
    return found
