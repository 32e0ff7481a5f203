# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of the last files that loaded: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kexecwatchd import lastgood
from kexecwatchd.ledger import LastGood
from kexecwatchd.preflight import Files, signature
from tests.unit.core.cases import PAIR


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"kernel" * 100_000)
    return path


@pytest.fixture
def initrd(tmp_path: Path) -> Path:
    path = tmp_path / "initrd.img"
    path.write_bytes(b"initrd" * 1000)
    return path


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "var/last-good"


@contextmanager
def opened(kernel: Path, initrd: Path | None = None) -> Iterator[Files]:
    kernel_fd = os.open(kernel, os.O_RDONLY)
    initrd_fd = None if initrd is None else os.open(initrd, os.O_RDONLY)
    try:
        yield Files(
            kernel_fd,
            initrd_fd,
            signature(kernel_fd),
            "" if initrd_fd is None else signature(initrd_fd),
        )
    finally:
        os.close(kernel_fd)
        if initrd_fd is not None:
            os.close(initrd_fd)


def keep(copies: Path, kernel: Path, initrd: Path | None = None) -> LastGood:
    with opened(kernel, initrd) as files:
        return lastgood.keep(copies, PAIR, files)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda kernel, initrd: os.utime(initrd), True),
        (lambda kernel, initrd: initrd.rename(initrd.with_name("other")), False),
        (lambda kernel, initrd: initrd.write_bytes(b"initrd" * 1001), False),
        (lambda kernel, initrd: initrd.write_bytes(b"initrd" * 999), False),
        (lambda kernel, initrd: kernel.write_bytes(b"Kernel" * 100_000 + b"?"), False),
        (lambda kernel, initrd: kernel.write_bytes(b"kernel" * 99_999 + b"kerneL"), False),
    ],
)
def test_the_same_content_is_known(
    copies: Path,
    kernel: Path,
    initrd: Path,
    change: Callable[[Path, Path], object],
    same: bool,
) -> None:
    kept = keep(copies, kernel, initrd)
    change(kernel, initrd)
    with opened(kernel, initrd if initrd.exists() else None) as files:
        assert lastgood.same(copies, kept, files) == same


def test_copies_that_are_gone_are_the_same_as_nothing(copies: Path, kernel: Path) -> None:
    kept = keep(copies, kernel)
    lastgood.prune(copies, [])
    with opened(kernel) as files:
        assert not lastgood.same(copies, kept, files)


@pytest.mark.parametrize("damage", ["truncate in place", "remove", "replace"])
def test_copies_survive_what_happens_to_the_originals(
    copies: Path, kernel: Path, initrd: Path, damage: str
) -> None:
    originals = kernel.read_bytes(), initrd.read_bytes()
    kept = keep(copies, kernel, initrd)
    for path in (kernel, initrd):
        if damage == "truncate in place":
            os.truncate(path, 10)
        else:
            path.unlink()
        if damage == "replace":
            path.write_bytes(b"another")
    paths = lastgood.paths_of(copies, kept)
    assert paths.initrd is not None
    assert (paths.kernel.read_bytes(), paths.initrd.read_bytes()) == originals
    assert paths.cmdline == PAIR.cmdline


def test_only_root_may_look_and_change(copies: Path, kernel: Path) -> None:
    kept = keep(copies, kernel)
    assert copies.stat().st_mode & 0o777 == 0o700
    assert lastgood.paths_of(copies, kept).kernel.stat().st_mode & 0o777 == 0o600


def test_without_an_initrd(copies: Path, kernel: Path) -> None:
    kept = keep(copies, kernel)
    assert kept.initrd_signature == ""
    assert lastgood.paths_of(copies, kept).initrd is None


def test_a_file_is_copied_once(copies: Path, kernel: Path) -> None:
    kept = keep(copies, kernel)
    copy = lastgood.paths_of(copies, kept).kernel
    first = copy.stat()
    assert keep(copies, kernel) == kept
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_a_changed_file_is_another(copies: Path, kernel: Path) -> None:
    before = keep(copies, kernel)
    with kernel.open("ab") as file:
        file.write(b"more")
    after = keep(copies, kernel)
    assert after != before
    assert len(list(copies.iterdir())) == 2


class Killed(BaseException):
    """kill -9."""


def test_a_copy_that_is_cut_short_never_bears_the_name(
    copies: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill runs no cleaning up either: what it leaves is nobody's, and pruned."""

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(os, "replace", die)
    monkeypatch.setattr(os, "unlink", die)
    with pytest.raises(Killed):
        keep(copies, kernel)
    monkeypatch.undo()
    with opened(kernel) as files:
        kept = LastGood(pair=PAIR, kernel_signature=files.kernel_signature)
    assert not lastgood.paths_of(copies, kept).kernel.exists()
    assert len(list(copies.iterdir())) == 1
    lastgood.prune(copies, [kept])
    assert not list(copies.iterdir())


def test_a_full_disk_leaves_nothing(
    copies: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        keep(copies, kernel)
    assert not list(copies.iterdir())


def test_a_file_that_changes_while_it_is_copied_is_not_kept(copies: Path, kernel: Path) -> None:
    with opened(kernel) as files:
        os.truncate(kernel, 10)
        with pytest.raises(OSError, match="changed while"):
            lastgood.keep(copies, PAIR, files)
    assert not list(copies.iterdir())


def test_pruning_keeps_what_either_image_needs(copies: Path, kernel: Path, initrd: Path) -> None:
    crash = keep(copies, kernel, initrd)
    with initrd.open("ab") as file:
        file.write(b"more")
    reboot = keep(copies, kernel, initrd)
    with kernel.open("ab") as file:
        file.write(b"more")
    keep(copies, kernel)
    assert len(list(copies.iterdir())) == 4
    lastgood.prune(copies, [crash, reboot, None])
    assert len(list(copies.iterdir())) == 3
    lastgood.prune(copies, [None, crash])
    paths = lastgood.paths_of(copies, crash)
    assert set(copies.iterdir()) == {paths.kernel, paths.initrd}
    lastgood.prune(copies, [])
    assert not list(copies.iterdir())


def test_pruning_what_cannot_be_pruned_is_no_error(copies: Path) -> None:
    lastgood.prune(copies, [])
    (copies / "a directory").mkdir(parents=True)
    lastgood.prune(copies, [])
