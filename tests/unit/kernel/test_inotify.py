# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import inotify
from kexecwatchd.kernel.inotify import Event, Inotify


@pytest.fixture
def queue() -> Iterator[Inotify]:
    queue = Inotify()
    yield queue
    queue.close()


def told(queue: Inotify) -> set[tuple[str, int]]:
    return {(event.name, event.mask) for event in queue.read()}


def test_nothing_happened(queue: Inotify, tmp_path: Path) -> None:
    queue.add(tmp_path)
    assert queue.read() == []


def test_what_happens_in_a_directory_is_told(queue: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "initrd.img"
    watch = queue.add(tmp_path)
    path.write_bytes(b"one")
    assert queue.read() == [
        Event(watch, inotify.IN_CREATE, "initrd.img"),
        Event(watch, inotify.IN_CLOSE_WRITE, "initrd.img"),
    ]
    path.chmod(0o600)
    assert told(queue) == {("initrd.img", inotify.IN_ATTRIB)}
    path.rename(tmp_path / "old")
    assert told(queue) == {("initrd.img", inotify.IN_MOVED_FROM), ("old", inotify.IN_MOVED_TO)}
    (tmp_path / "old").unlink()
    assert told(queue) == {("old", inotify.IN_DELETE)}


def test_each_write_is_not_told(queue: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "initrd.img"
    path.write_bytes(b"one")
    queue.add(tmp_path)
    with path.open("ab") as file:
        file.write(b"two")
        file.flush()
        assert queue.read() == []


def test_the_same_directory_has_one_watch(queue: Inotify, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert queue.add(tmp_path) == queue.add(tmp_path / "link")


def test_a_watch_ends_with_its_directory(queue: Inotify, tmp_path: Path) -> None:
    directory = tmp_path / "boot"
    directory.mkdir()
    watch = queue.add(directory)
    directory.rmdir()
    assert [event.mask & 0xFFFF for event in queue.read()] == [
        inotify.IN_DELETE_SELF,
        inotify.IN_IGNORED,
    ]
    queue.remove(watch)


def test_after_the_end_of_a_watch_nothing_is_told(queue: Inotify, tmp_path: Path) -> None:
    queue.remove(queue.add(tmp_path))
    (tmp_path / "file").touch()
    assert [event.mask for event in queue.read()] == [inotify.IN_IGNORED]


@pytest.mark.parametrize(("what", "number"), [("nothing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_only_directories_can_be_watched(
    queue: Inotify, tmp_path: Path, what: str, number: int
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be watched") as caught:
        queue.add(tmp_path / what)
    assert caught.value.errno == number


def test_without_an_instance_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(flags: int) -> int:
        ctypes.set_errno(errno.EMFILE)
        return -1

    monkeypatch.setattr(inotify._libc, "inotify_init1", refused)
    with pytest.raises(OSError, match="inotify") as caught:
        Inotify()
    assert caught.value.errno == errno.EMFILE


@given(
    st.lists(
        st.tuples(
            st.integers(-1, 1 << 30),
            st.integers(0, (1 << 32) - 1),
            st.binary(max_size=255).filter(lambda name: b"\0" not in name),
        )
    )
)
def test_events_are_read_as_the_kernel_writes_them(events: list[tuple[int, int, bytes]]) -> None:
    data = b""
    for watch, mask, name in events:
        padded = name + bytes(-len(name) % 16 or 16) if name else b""
        data += struct.pack("iIII", watch, mask, 7, len(padded)) + padded
    found = [(e.watch, e.mask, os.fsencode(e.name)) for e in inotify.parse(data)]
    assert found == events
