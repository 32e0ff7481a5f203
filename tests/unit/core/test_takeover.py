# SPDX-License-Identifier: GPL-2.0-or-later
"""Links over other tools' rules: only ours are taken back, and exactly these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kexecwatchd import takeover
from kexecwatchd.takeover import OVERRIDES, RECORD, TakeoverError

NAME = "50-kdump-tools.rules"
OTHER = "70-kdump.rules"


def tree(root: Path) -> dict[str, str]:
    """Every file and directory below `root`, with what is in it."""
    return {
        str(path.relative_to(root)): (
            os.readlink(path)
            if path.is_symlink()
            else "" if path.is_dir() else path.read_text()
        )
        for path in root.rglob("*")
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with udev, and our service's state directory."""
    (tmp_path / OVERRIDES).mkdir(parents=True)
    (tmp_path / RECORD).parent.mkdir(parents=True)
    return tmp_path


def test_reverted_nothing_is_left_of_it(root: Path) -> None:
    before = tree(root)
    takeover.take(root, [NAME, OTHER])
    assert os.readlink(root / OVERRIDES / NAME) == "/dev/null"
    assert takeover.switched_off(root) == [NAME, OTHER]
    assert takeover.revert(root) == ([NAME, OTHER], [])
    assert tree(root) == before
    assert takeover.switched_off(root) == []


def test_a_directory_that_was_made_is_removed_unless_it_is_used(tmp_path: Path) -> None:
    takeover.take(tmp_path, [NAME])
    (tmp_path / OVERRIDES / "99-mine.rules").touch()
    takeover.revert(tmp_path)
    assert [path.name for path in (tmp_path / OVERRIDES).iterdir()] == ["99-mine.rules"]

    (tmp_path / OVERRIDES / "99-mine.rules").unlink()
    (tmp_path / OVERRIDES).rmdir()
    takeover.take(tmp_path, [NAME])
    takeover.take(tmp_path, [NAME, OTHER])  # the second time it is there
    takeover.revert(tmp_path)
    assert not (tmp_path / OVERRIDES).exists()


def test_what_was_off_before_is_not_switched_on(root: Path) -> None:
    (root / OVERRIDES / NAME).symlink_to("/dev/null")
    before = tree(root)
    takeover.take(root, [NAME])
    assert takeover.revert(root) == ([], [])
    assert tree(root) == before


def test_a_file_of_the_administrators_is_left_alone(root: Path) -> None:
    (root / OVERRIDES / OTHER).write_text("# mine\n")
    before = tree(root)
    with pytest.raises(TakeoverError, match="administrator"):
        takeover.take(root, [NAME, OTHER])
    assert tree(root) == before, "neither of the two is switched off"


def test_what_took_the_links_place_is_named_and_left(root: Path) -> None:
    takeover.take(root, [NAME])
    (root / OVERRIDES / NAME).unlink()
    (root / OVERRIDES / NAME).write_text("# mine\n")
    assert takeover.switched_off(root) == []
    assert takeover.revert(root) == ([], [NAME])
    assert (root / OVERRIDES / NAME).read_text() == "# mine\n"


def test_a_link_that_somebody_removed_is_no_longer_in_force(root: Path) -> None:
    takeover.take(root, [NAME])
    (root / OVERRIDES / NAME).unlink()
    assert takeover.switched_off(root) == []
    assert takeover.revert(root) == ([], [])
    assert not (root / RECORD).exists()


@pytest.mark.parametrize("links", [0, 1])
def test_one_that_was_cut_short_can_be_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch, links: int
) -> None:
    before = tree(root)
    left = [links]
    real = Path.symlink_to

    def symlink_to(self: Path, target: str) -> None:
        if not left[0]:
            raise OSError("killed")
        left[0] -= 1
        real(self, target)

    monkeypatch.setattr(Path, "symlink_to", symlink_to)
    with pytest.raises(OSError, match="killed"):
        takeover.take(root, [NAME, OTHER])
    takeover.revert(root)
    assert tree(root) == before


def test_the_record_is_roots_alone(root: Path) -> None:
    takeover.take(root, [NAME])
    assert (root / RECORD).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", '{"rules": 3}'])
def test_a_damaged_record_is_told_and_changes_nothing(root: Path, text: str) -> None:
    (root / RECORD).write_text(text)
    before = tree(root)
    for work in (lambda: takeover.take(root, [NAME]), lambda: takeover.revert(root)):
        with pytest.raises(TakeoverError, match="damaged"):
            work()
    assert tree(root) == before


def test_a_record_that_others_can_write_is_not_believed(root: Path) -> None:
    takeover.take(root, [NAME])
    (root / RECORD).chmod(0o666)
    before = tree(root)
    with pytest.raises(TakeoverError, match=r"others may write to it \(mode 0666\)"):
        takeover.revert(root)
    assert tree(root) == before
