# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb: for root alone, without the daemon; what it prints, and what it writes where."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from kexecwatchd.ctl.map import show
from kexecwatchd.memorypicture import MemoryPicture
from tests.fake_kernel import FakeKernel


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("kexecwatchd.ctl.map.os.geteuid", lambda: 0)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "machine").mkdir()
    return FakeKernel(tmp_path / "machine").root


def test_without_root_it_says_so_and_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kexecwatchd.ctl.map.os.geteuid", lambda: 65534)
    assert main(["map"]) == ExitCode.ERROR
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "kexecwatchctl: the map shows physical addresses, which are for root alone:"
        " run it as root\n"
    )


def test_it_prints_the_screen(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(as_json=False, svg=None, root=root) == ExitCode.CURRENT
    printed = capsys.readouterr()
    assert printed.out.startswith("Memory         1023.6 MiB in 8 blocks of 128 MiB\n")
    assert printed.err == ""


def test_a_broad_terminal_is_used(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    show(as_json=False, svg=None, root=root)
    assert f"\n0x8000000  {'#' * 128}\n" in capsys.readouterr().out


def test_json_is_the_picture(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(as_json=True, svg=None, root=root) == ExitCode.CURRENT
    picture = MemoryPicture.model_validate_json(capsys.readouterr().out)
    assert picture.blocks[0].last == 7


def test_svg_is_roots_file_and_takes_the_place_of_another(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.svg"
    path.write_text("old")
    path.chmod(0o666)
    with path.open() as held:
        assert show(as_json=False, svg=path, root=root) == ExitCode.CURRENT
        assert held.read() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert sorted(os.listdir(tmp_path)) == ["machine", "map.svg"]


def test_svg_and_json_go_together(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.svg"
    show(as_json=True, svg=path, root=root)
    printed = capsys.readouterr()
    assert MemoryPicture.model_validate_json(printed.out).block_size == 128 << 20
    assert printed.err == f"wrote {path}\n"
    assert path.is_file()


def test_svg_goes_through_no_link_and_into_no_directory(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    for path in (link, tmp_path, Path("/dev/null")):
        with pytest.raises(AnswerError, match=f"^{path} is not written: it is no regular file"):
            show(as_json=False, svg=path, root=root)
    assert target.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none/map.svg", "No such file or directory"), ("x" * 300, "File name too long")],
)
def test_a_file_that_cannot_be_written_is_an_error(
    root: Path, tmp_path: Path, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    with pytest.raises(AnswerError) as refused:
        show(as_json=False, svg=path, root=root)
    assert str(refused.value) == f"{path} cannot be written: {reason}"
    assert capsys.readouterr().out == ""


def test_nothing_is_left_of_a_write_that_failed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kexecwatchd.ctl.map.os.replace", fail)
    with pytest.raises(AnswerError, match=r"map\.svg cannot be written: No space left on device"):
        show(as_json=False, svg=tmp_path / "map.svg", root=root)
    assert os.listdir(tmp_path) == ["machine"]


def test_what_cannot_be_seen_is_an_error(root: Path) -> None:
    (root / "proc/iomem").unlink()
    with pytest.raises(AnswerError, match="the memory map cannot be read"):
        show(as_json=False, svg=None, root=root)
