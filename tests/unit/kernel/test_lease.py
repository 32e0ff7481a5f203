# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kexecwatchd.kernel.lease import open_for_writing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "initrd.img"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield fd
    os.close(fd)


def test_nobody_writes(fd: int) -> None:
    assert open_for_writing(fd) is False


def test_readers_do_not_count(path: Path, fd: int) -> None:
    with path.open("rb"):
        assert open_for_writing(fd) is False


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_a_writer_counts_for_as_long_as_it_has_the_file_open(
    path: Path, fd: int, mode: str
) -> None:
    with path.open(mode):
        assert open_for_writing(fd) is True
    assert open_for_writing(fd) is False


def test_one_that_has_it_mapped_counts_after_the_file_is_closed(path: Path, fd: int) -> None:
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert open_for_writing(fd) is True
    mapped.close()
    assert open_for_writing(fd) is False


def test_another_process_counts(path: Path, fd: int) -> None:
    code = f"file = open({str(path)!r}, 'ab'); print(flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    assert open_for_writing(fd) is True
    writer.communicate(b"\n")
    assert open_for_writing(fd) is False


def test_of_what_has_no_leases_nobody_knows() -> None:
    reader, writer = os.pipe()
    try:
        assert open_for_writing(reader) is None
    finally:
        os.close(reader)
        os.close(writer)


def test_a_writer_that_comes_at_that_moment_ends_nobody_and_is_not_ended(
    path: Path, fd: int
) -> None:
    """The signal that tells of it would end the process if it were SIGIO."""
    opened = 0
    stop = threading.Event()

    def write() -> None:
        nonlocal opened
        while not stop.is_set():
            path.open("ab").close()
            opened += 1

    writer = threading.Thread(target=write)
    writer.start()
    while opened < 300:
        open_for_writing(fd)
    stop.set()
    writer.join()
    assert open_for_writing(fd) is False
