# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kexecwatchd.filewatch import LINKS_MAX, Alarm, steps
from kexecwatchd.kernel import inotify


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm(lambda: None)
    yield alarm
    alarm.close()


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").touch()
    assert steps(tmp_path / "vmlinuz") == [(tmp_path, "vmlinuz")]


def test_links_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "boot/6.12").mkdir(parents=True)
    (tmp_path / "boot/6.12/vmlinuz").touch()
    (tmp_path / "boot/current").symlink_to("6.12")
    (tmp_path / "kdump").mkdir()
    (tmp_path / "kdump/vmlinuz").symlink_to("../boot/./current/vmlinuz")
    (tmp_path / "vmlinuz").symlink_to(tmp_path / "kdump/vmlinuz")
    assert steps(tmp_path / "vmlinuz") == [
        (tmp_path, "vmlinuz"),
        (tmp_path / "kdump", "vmlinuz"),
        (tmp_path / "boot", "current"),
        (tmp_path / "boot/6.12", "vmlinuz"),
    ]


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("vmlinuz", ("", "vmlinuz")),
        ("no/such/directory/vmlinuz", ("", "no")),
        ("file/vmlinuz", ("", "file")),
        ("dangling", ("", "nothing")),
    ],
)
def test_where_the_way_ends_the_nearest_directory_is_watched(
    tmp_path: Path, path: str, last: tuple[str, str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    assert steps(tmp_path / path)[-1] == (tmp_path / last[0], last[1])


def test_links_that_lead_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert len(steps(tmp_path / "one")) == LINKS_MAX + 1


def test_it_rings_for_what_is_watched_and_for_nothing_beside_it(
    alarm: Alarm, tmp_path: Path
) -> None:
    (tmp_path / "vmlinuz").touch()
    alarm.watch([tmp_path / "vmlinuz"])
    assert not alarm.take()
    (tmp_path / "vmlinuz.new").write_text("new")
    assert not alarm.take()
    (tmp_path / "vmlinuz.new").rename(tmp_path / "vmlinuz")
    assert alarm.take()
    assert not alarm.take()
    (tmp_path / "vmlinuz").unlink()
    assert alarm.take()


def test_what_is_watched_no_more_does_not_ring(alarm: Alarm, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    alarm.watch([tmp_path / "vmlinuz"])
    alarm.watch([tmp_path / "other/vmlinuz"])
    (tmp_path / "vmlinuz").touch()
    assert not alarm.take()
    (tmp_path / "other/vmlinuz").touch()
    assert alarm.take()


def test_a_directory_that_is_made_anew_is_watched_again(alarm: Alarm, tmp_path: Path) -> None:
    path = tmp_path / "boot/vmlinuz"
    for _ in range(2):
        path.parent.mkdir()
        alarm.watch([path])
        alarm.take()
        path.touch()
        assert alarm.take()
        path.unlink()
        path.parent.rmdir()
        assert alarm.take()
        alarm.watch([path])


def test_an_overflow_rings(alarm: Alarm, tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    alarm.watch([tmp_path / "vmlinuz"])
    names = [tmp_path / "one", tmp_path / "two"]
    for number in range(limit + 10):
        os.close(os.open(names[number % 2], os.O_WRONLY | os.O_CREAT))
    assert alarm.take()


async def test_the_loop_is_woken(tmp_path: Path) -> None:
    woken = asyncio.Event()
    alarm = Alarm(woken.set)
    loop = asyncio.get_running_loop()
    alarm.start(loop)
    alarm.watch([tmp_path / "vmlinuz"])
    (tmp_path / "other").touch()
    await asyncio.sleep(0)
    assert not woken.is_set()
    (tmp_path / "vmlinuz").touch()
    async with asyncio.timeout(20):
        await woken.wait()
    assert alarm.take()
    alarm.stop(loop)


def test_what_cannot_be_watched_is_said(
    alarm: Alarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words for the journal, whatever the directory's name is."""

    def refused(queue: int, directory: bytes, mask: int) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    odd = tmp_path / os.fsdecode(b"odd-\xff")
    odd.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(inotify._libc, "inotify_add_watch", refused)
        alarm.watch([odd / "vmlinuz"])
    said = "odd-\\udcff cannot be watched: fs.inotify.max_user_watches is used up"
    assert alarm.problem == f"{tmp_path}/{said}"
    alarm.watch([tmp_path / "vmlinuz"])
    assert alarm.problem == ""
