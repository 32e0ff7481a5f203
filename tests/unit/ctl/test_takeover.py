# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb: whose rules are switched off, when not, and what is said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.rivals import CHECK
from kexecwatchd.ctl import takeover
from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from tests.unit.checks.machines import Case, host_of
from tests.unit.checks.test_rivals import OURS, PLAIN, RUNS, TOML

NAME = "50-kdump-tools.rules"
LINK = f"etc/udev/rules.d/{NAME}"
TENDED: Mapping[str, str | bytes | None] = {**PLAIN, **RUNS, TOML: OURS}


def words(log: Path) -> list[str]:
    """What udevadm was told, of all its calls."""
    return log.read_text().split() if log.exists() else []


def machine(root: Path, files: Mapping[str, str | bytes | None]) -> Host:
    return host_of(Case("", Answer.OK, "", files), root)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a udevadm of ours writes what it is told."""
    log = tmp_path / "udevadm.log"
    program = tmp_path / "bin/udevadm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    # No daemon to be told.
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    return log


async def test_off_and_on_again(
    tmp_path: Path, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "machine"
    host = machine(root, TENDED)
    assert await takeover.take(host) is ExitCode.CURRENT
    assert f"/usr/lib/udev/rules.d/{NAME} (kdump-tools)" in capsys.readouterr().out
    assert os.readlink(root / LINK) == "/dev/null"
    assert CHECK.look(Host(root, live=False)).facts["rules"] == [], "no rival is left"
    assert words(told) == ["control", "--reload"]

    assert await takeover.take(host) is ExitCode.CURRENT
    assert "Already switched off" in capsys.readouterr().out

    assert await takeover.revert(root) is ExitCode.CURRENT
    assert NAME in capsys.readouterr().out
    assert not (root / LINK).is_symlink()
    assert words(told) == ["control", "--reload"] * 2

    assert await takeover.revert(root) is ExitCode.CURRENT
    assert "Nothing is switched off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({TOML: OURS.replace("ensure", "observe")}, "does not keep the crash image right"),
        (dict.fromkeys(RUNS), "does not keep the crash image right"),
        ({LINK: PLAIN[f"usr/lib/udev/rules.d/{NAME}"]}, "administrator's own"),
    ],
    ids=["it only observes", "it does not run", "a rule in /etc"],
)
async def test_not_where_it_would_harm(
    tmp_path: Path, told: Path, changes: dict[str, str | None], says: str
) -> None:
    root = tmp_path / "machine"
    host = machine(root, {**TENDED, **changes})
    with pytest.raises(AnswerError, match=says):
        await takeover.take(host)
    assert not (root / LINK).is_symlink()
    assert words(told) == [], "udev has nothing to read again"


async def test_nothing_to_switch_off(
    tmp_path: Path, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = f"usr/lib/udev/rules.d/{NAME}"
    assert await takeover.take(machine(tmp_path / "machine", {**TENDED, rule: None})) == 0
    assert "nothing to switch off" in capsys.readouterr().out
    assert words(told) == []


async def test_udev_that_cannot_be_told_is_an_error(
    tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AnswerError, match="udev was not told"):
        await takeover.take(machine(tmp_path / "machine", TENDED))


@pytest.mark.parametrize("more", [[], ["--revert"]])
def test_it_is_roots_business(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    monkeypatch.setattr("kexecwatchd.ctl.takeover.os.geteuid", lambda: 65534)
    assert main(["takeover", *more]) == ExitCode.ERROR
    assert "run it as root" in capsys.readouterr().err
