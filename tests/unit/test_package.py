# SPDX-License-Identifier: GPL-2.0-or-later
"""What packages are built from, and when."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import package

NAMES = ["kexecwatchd/__init__.py", "packaging/run"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree, with what is made in one beside it."""
    made = "build/x", "dist/x", "kexecwatchd/__pycache__/x.pyc", ".mypy_cache/x"
    for name in (*NAMES, *made):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('__version__ = "1.2"\n')
    (tmp_path / "tree/packaging/run").chmod(0o700)
    return tmp_path / "tree"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where something was built, by a builder that makes a file of the version."""
    calls: list[Path] = []

    def build(tree: Path) -> Path:
        calls.append(tree)
        result = tree.parent / f"{package.version(tree)}.fake"
        result.write_text("package")
        return result

    monkeypatch.setitem(package.BUILDERS, "fake", build)
    return calls


def git(tree: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(tree), *words], check=True, capture_output=True)


def test_without_git_all_but_what_is_made_is_source(tree: Path) -> None:
    assert [str(name) for name in package.sources(tree)] == NAMES


def test_with_git_what_it_tracks_is_source(tree: Path) -> None:
    git(tree, "init")
    git(tree, "add", *NAMES)
    (tree / "packaging/run").unlink()
    (tree / "kexecwatchd/scratch.py").touch()
    assert [str(name) for name in package.sources(tree)] == NAMES[:1]


def test_a_repository_that_git_refuses_is_a_tree_like_any(tree: Path) -> None:
    (tree / ".git").write_text("gitdir: nowhere\n")
    assert [str(name) for name in package.sources(tree)] == NAMES


def test_the_copy_has_these_files_and_the_rights_of_git(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "old").mkdir(parents=True)
    package.export(tree, package.sources(tree), copy)
    found = {
        str(path.relative_to(copy)): path.stat().st_mode & 0o777
        for path in copy.rglob("*")
        if path.is_file() or path.name == "old"
    }
    assert found == dict(zip(NAMES, [0o644, 0o755], strict=True))


def test_nothing_is_built_twice(tree: Path, tmp_path: Path, builds: list[Path]) -> None:
    scratch, results = tmp_path / "scratch", tmp_path / "results"
    for _ in range(2):
        assert package.build("fake", tree, scratch, results) == results / "1.2.fake"
    assert builds == [scratch / "kexecwatchd-1.2"]
    (results / "1.2.fake").unlink()
    package.build("fake", tree, scratch, results)
    assert (results / "1.2.fake").read_text() == "package"
    assert len(builds) == 2


@pytest.mark.parametrize("change", ["content", "rights", "name"])
def test_what_changed_is_built_again(
    tree: Path, tmp_path: Path, builds: list[Path], change: str
) -> None:
    package.build("fake", tree, tmp_path / "scratch", tmp_path)
    run = tree / "packaging/run"
    match change:
        case "content":
            run.write_text("changed")
        case "rights":
            run.chmod(0o644)
        case "name":
            run.rename(run.with_name("renamed"))
    package.build("fake", tree, tmp_path / "scratch", tmp_path)
    assert len(builds) == 2


def test_a_package_of_another_version_is_no_success(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(package.BUILDERS, "fake", lambda tree: tree.parent / "9.fake")
    with pytest.raises(package.PackageError, match=r"9\.fake did not come of it"):
        package.build("fake", tree, tmp_path / "scratch", tmp_path)


def test_what_a_failing_program_said_is_told(tmp_path: Path) -> None:
    with pytest.raises(package.PackageError, match="exit code 3\nso it is"):
        package.run(["sh", "-c", "echo so it is; exit 3"], tmp_path)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(package.PackageError, match="there is no never-heard-of"):
        package.run(["never-heard-of"], tmp_path)


def test_without_a_known_kind_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert package.main(["apk"]) == 2
    assert "package.py deb" in capsys.readouterr().err
