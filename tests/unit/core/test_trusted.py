# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files root may trust. What the messages say is tested with the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kexecwatchd import trusted
from kexecwatchd.trusted import Untrusted


def test_a_file_of_ours_is_opened_and_not_inherited(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o755)
    (tmp_path / "link").symlink_to("file")
    fd = trusted.open_file(tmp_path / "link")
    assert os.pread(fd, 10, 0) == b"text"
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_every_problem_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("")
    status = os.stat_result((0o100666, 1, 1, 1, 4711, 0, 0, 0, 0, 0))
    monkeypatch.setattr("kexecwatchd.trusted.os.fstat", lambda _fd: status)
    with pytest.raises(Untrusted) as caught:
        trusted.open_file(path)
    first, second = caught.value.problems
    assert "belongs to uid 4711" in first
    assert "others may write to it (mode 0666)" in second
    assert str(caught.value) == f"{first}; {second}"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_refused_is_closed_again(tmp_path: Path, make: object) -> None:
    path = tmp_path / "thing"
    make(path)  # type: ignore[operator]
    before = os.listdir("/proc/self/fd")
    with pytest.raises(Untrusted, match="is not a regular file"):
        trusted.open_file(path)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="does not exist"):
        trusted.open_file(tmp_path / "none")
