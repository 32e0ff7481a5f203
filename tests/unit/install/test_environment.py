# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from kexecwatchd.install.environment import problems

PLACE = Path("/opt/kexecwatchd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Another machine, with an environment of root's."""
    return machine(tmp_path, PLACE)


def machine(root: Path, place: Path) -> Path:
    here = root / place.relative_to("/")
    (here / "bin").mkdir(parents=True)
    (here / "lib/python3.11/site-packages").mkdir(parents=True)
    (here / "bin/python3").symlink_to("/usr/bin/python3")
    for name in ("pyvenv.cfg", "bin/kexecwatchctl", "lib/python3.11/site-packages/a.py"):
        (here / name).touch(0o644)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o022)
    return root


def test_roots_own_is_fine(root: Path) -> None:
    assert problems(PLACE, root) == []


@pytest.mark.parametrize(
    "name", ["", "opt", "opt/kexecwatchd/lib/python3.11/site-packages/a.py", "opt/kexecwatchd/bin"]
)
@pytest.mark.parametrize("writer", [0o020, 0o002])
def test_one_that_others_may_write_to_is_not(root: Path, name: str, writer: int) -> None:
    path = root / name
    path.chmod(path.stat().st_mode | writer)
    (told,) = problems(PLACE, root)
    assert told.startswith(f"{path}: others may write to it")
    assert told.endswith(f"chmod go-w {path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="not on this platform: only root gives files away")
def test_one_that_belongs_to_others_is_not(root: Path) -> None:
    path = root / "opt/kexecwatchd/bin/kexecwatchctl"
    os.chown(path, 65534, -1)
    (told,) = problems(PLACE, root)
    assert told == f"{path}: belongs to uid 65534, not to root: chown -h root {path}"


def test_many_problems_are_counted(root: Path) -> None:
    for number in range(9):
        path = root / f"opt/kexecwatchd/lib/{number}"
        path.touch()
        path.chmod(0o666)
    told = problems(PLACE, root)
    assert (len(told), told[-1]) == (6, "and 4 more")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/home/me/kexecwatchd", "home directory"),
        ("/root/kexecwatchd", "home directory"),
        ("/opt/100%", "letters that units mind"),
        ("/opt/kexec watchd", "letters that units mind"),
        ("/opt/" + "long/" * 50 + "kexecwatchd", "too long"),
    ],
)
def test_some_places_are_none(tmp_path: Path, place: str, said: str) -> None:
    machine(tmp_path, Path(place))
    (told,) = problems(Path(place), tmp_path)
    assert said in told
    assert "python3 -m venv" in told


def test_what_is_no_environment_of_its_own_is_refused(root: Path) -> None:
    (root / "opt/kexecwatchd/pyvenv.cfg").unlink()
    (told,) = problems(PLACE, root)
    assert "is no environment of its own" in told


def test_on_this_machine_the_interpreter_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tmp_path is below /tmp, which everyone may write to; and the interpreter is somebody's."""
    machine(tmp_path, Path("/env"))
    python = tmp_path / "home/me/python3"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "env/bin/python3").unlink()
    (tmp_path / "env/bin/python3").symlink_to(python)
    monkeypatch.setattr("kexecwatchd.install.environment._HOMES", (str(tmp_path / "home"),))
    told = "\n".join(problems(tmp_path / "env"))
    assert f"{python}: is in a home directory" in told


def test_a_file_system_of_its_own_is_not_there_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, Path("/env"))
    real = os.stat

    def stat(path: str | Path, **how: bool) -> os.stat_result:
        found = real(path, **how)
        if path not in ("/", "/usr"):
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))

    monkeypatch.setattr(os, "stat", stat)
    assert any("on a file system of its own" in told for told in problems(tmp_path / "env"))
