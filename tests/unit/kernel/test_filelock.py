# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.kernel.filelock import locked
from tests.unit.kernel.locks import held


def test_nobody_holds_it(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert not locked(tmp_path / "lock")


def test_a_writer_holds_it_until_it_ends(tmp_path: Path) -> None:
    with held(tmp_path / "lock", "w"):
        assert locked(tmp_path / "lock")
    assert not locked(tmp_path / "lock")


def test_readers_do_not_count(tmp_path: Path) -> None:
    """Each rpm --query is one."""
    (tmp_path / "lock").touch()
    with held(tmp_path / "lock", "r"):
        assert not locked(tmp_path / "lock")


@pytest.mark.parametrize("name", ["nothing", "directory"])
def test_what_cannot_be_asked_is_not_locked(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    assert not locked(tmp_path / name)
