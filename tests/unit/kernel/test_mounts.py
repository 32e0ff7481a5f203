# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts and the file systems behind them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.mounts import MountUnknown, is_read_only, mount_id, super_options

# As a service with ProtectSystem=strict sees it (6.12, systemd 257), and a tmpfs that is read-only.
MOUNTINFO = """\
87 57 254:0 / / ro,relatime shared:46 master:1 - ext4 /dev/vda rw,discard
91 87 0:25 / /run rw,nosuid,nodev shared:50 master:6 - tmpfs tmpfs rw,size=199080k,mode=755
95 87 0:42 / /mnt/my\\040disk ro,relatime - tmpfs none ro,inode64
"""


@pytest.mark.parametrize(("mount", "writable"), [("87", True), ("91", True), ("95", False)])
def test_what_the_superblock_says(mount: str, writable: bool) -> None:
    assert ("rw" in super_options(MOUNTINFO, mount)) == writable
    assert ("ro" in super_options(MOUNTINFO, mount)) != writable


def test_an_unknown_mount_is_an_error() -> None:
    with pytest.raises(MountUnknown, match="mount 8 is not"):
        super_options(MOUNTINFO, "8")
    with pytest.raises(MountUnknown):
        super_options("87 57 254:0 / / ro,relatime\n", "87")


def test_mount_id() -> None:
    assert mount_id("pos:\t0\nflags:\t012100000\nmnt_id:\t87\nino:\t2\n") == "87"
    with pytest.raises(MountUnknown):
        mount_id("pos:\t0\n")


def test_a_directory_that_is_written_to_is_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not is_read_only(tmp_path)


def test_nothing_stays_open_and_ro_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexecwatchd.kernel.mounts.super_options", lambda *_: ["ro", "inode64"])
    before = len(os.listdir("/proc/self/fd"))
    assert is_read_only(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_read_only(tmp_path / "none")


@given(st.text(), st.text())
def test_any_text_is_read_or_refused(text: str, mount: str) -> None:
    for read in (lambda: super_options(text, mount), lambda: mount_id(text)):
        with contextlib.suppress(MountUnknown):
            read()
