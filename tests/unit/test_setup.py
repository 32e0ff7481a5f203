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


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt that knows packages as Debian 12 does, and a dpkg-deb that unpacks what it left."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {
        "apt-cache": 'for last; do :; done\n[ "$last" != promtool ]',
        "apt-get": 'for last; do :; done\n[ -z "$FAILS" ] && : >$last.deb',
        "dpkg-deb": "mkdir -p $3/usr/bin && : >$3/usr/bin/promtool"
        " && : >$3/usr/bin/prometheus-node-exporter && : >$3/usr/bin/prometheus",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return tmp_path / "into"


def test_programs_are_fetched_from_the_package_that_has_them_here(
    apt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tools.setup.main(["programs", str(apt)]) == 0
    assert {path.name for path in apt.iterdir()} == set(tools.setup.PROGRAMS)
    assert re.search(r"promtool +of prometheus\n", capsys.readouterr().out)


def test_programs_that_cannot_be_fetched_are_told_with_advice(
    apt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "yes")
    assert tools.setup.main(["programs", str(apt)]) == 1
    assert "run as root: apt-get update" in capsys.readouterr().err
    assert list(apt.iterdir()) == []


@pytest.mark.usefixtures("apt")
def test_a_package_that_apt_does_not_know_is_told_with_advice() -> None:
    with pytest.raises(tools.setup.SetupError, match="knows no package promtool; run as root"):
        tools.setup.available(["promtool"])


def test_a_command_that_fails_is_told_with_advice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(tools.setup.SetupError, match="exit code 3; try again"):
        tools.setup.run(["sh", "-c", "exit 3"], "try again")
    assert "$ sh -c exit 3" in capsys.readouterr().out
