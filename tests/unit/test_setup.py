# SPDX-License-Identifier: GPL-2.0-or-later
"""The development set-up: complete pins, and packages for everything that is used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import tools.setup
from tests.vm.lab.host import PROGRAMS

SOURCE = Path(__file__).parent.parent.parent
REQUIREMENTS = ["requirements-dev.txt", "requirements-debian13.txt"]
ESSENTIAL = {"coreutils", "tar"}
"""Debian packages that every Debian system has."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=]", r)[0].lower().replace("_", "-") for r in requirements}


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_every_requirement_is_an_exact_version(file: str) -> None:
    for pin in tools.setup.pins(SOURCE / file):
        assert re.fullmatch(r"[\w.-]+==[\w.]+", pin), pin


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_the_libraries_of_the_project_are_pinned(file: str) -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    assert names(project["dependencies"]) <= names(tools.setup.pins(SOURCE / file))


def test_the_packages_of_the_lab_are_installed() -> None:
    lab = {package for group in tools.setup.PACKAGES["lab"].values() for package in group}
    assert set(PROGRAMS.values()) - ESSENTIAL <= lab


@pytest.fixture
def dpkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dpkg-query that knows one installed and one removed package; alone in PATH."""
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\necho gcc installed\necho udev config-files\nexit 1\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return query


@pytest.mark.usefixtures("dpkg")
def test_only_what_is_installed_counts() -> None:
    assert tools.setup.installed(["gcc", "udev", "never-heard-of"]) == {"gcc"}


@pytest.mark.usefixtures("dpkg")
def test_without_root_and_sudo_it_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert tools.setup.main(["packages", "check"]) == 1
    said = capsys.readouterr()
    assert "libsystemd-dev" in said.out
    assert "gcc" not in said.out
    assert "run as root: apt-get install --no-install-recommends dbus-daemon" in said.err


def test_without_dpkg_it_says_what_to_install(
    dpkg: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dpkg.unlink()
    assert tools.setup.main(["packages", "lab"]) == 1
    assert "Debian 12 and 13 only; install by hand" in capsys.readouterr().err


def test_a_command_that_fails_is_told_with_advice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(tools.setup.SetupError, match="exit code 3; try again"):
        tools.setup.run(["sh", "-c", "exit 3"], "try again")
    assert "$ sh -c exit 3" in capsys.readouterr().out
