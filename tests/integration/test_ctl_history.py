# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl history, from the service on a real bus and from the ledger without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kexecwatchd import ledger
from kexecwatchd.ctl import history as history_verb
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from kexecwatchd.ledger import Ledger
from kexecwatchd.model import Action, ImageName
from kexecwatchd.report import Decision, History
from tests.integration.harness import DECISION, NOBODY, FakeBackend, ctl, serving

BOOT = "6d1b5c0e-0f5e-4c55-9a43-0a4e8c4bd6a9"
DECISIONS = [
    DECISION.model_copy(update={"number": 1}),
    DECISION.model_copy(update={"number": 2, "image": ImageName.REBOOT}),
    Decision(number=3, at=DECISION.at, action=Action.HOLD, why="held by apt"),
    DECISION.model_copy(update={"number": 4, "why": "somebody asked"}),
]


@pytest.fixture
def full(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    monkeypatch.setattr(backend, "history", lambda: History(decisions=DECISIONS))
    return backend


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize("uid", [0, NOBODY])
async def test_everyone_sees_all_of_it_the_newest_last(full: FakeBackend, uid: int) -> None:
    async with serving(full):
        screen = await ctl("history", uid=uid)
        data = await ctl("history", "--json", uid=uid)
    assert (screen.code, screen.err, data.code, data.err) == (ExitCode.CURRENT, "", 0, "")
    assert screen.out.index("reboot image LOADED") < screen.out.index("HOLD TAKEN")
    assert screen.out.index("HOLD TAKEN") < screen.out.index("somebody asked")
    assert "\x1b" not in screen.out
    assert History.model_validate_json(data.out).decisions == DECISIONS


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["crash"], [1, 3, 4]),
        (["reboot"], [2, 3]),
        (["-n", "2"], [3, 4]),
        (["crash", "-n", "2"], [3, 4]),
        (["reboot", "-n", "9"], [2, 3]),
    ],
)
async def test_an_image_and_a_number_choose(
    full: FakeBackend, arguments: list[str], numbers: list[int]
) -> None:
    async with serving(full):
        ran = await ctl("history", *arguments, "--json")
    assert [d.number for d in History.model_validate_json(ran.out).decisions] == numbers


@pytest.mark.parametrize("arguments", [["-n", "0"], ["-n", "x"], ["panic"]])
async def test_what_cannot_be_chosen_is_a_usage_error(arguments: list[str]) -> None:
    ran = await ctl("history", *arguments)
    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert repr(arguments[-1]) in ran.err


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no kexecwatchd runs."""
    boot_id = tmp_path / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text(f"{BOOT}\n")
    (tmp_path / "run/kexecwatchd").mkdir(parents=True)
    monkeypatch.setattr(history_verb, "_ROOT", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("system_bus")
async def test_without_the_daemon_root_sees_the_ledger(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = Ledger(boot_id=BOOT, decisions=tuple(DECISIONS))
    ledger.write(root / "run/kexecwatchd/ledger.json", written)
    code = await asyncio.to_thread(main, ["history", "--json"])
    out, err = capsys.readouterr()
    assert code == ExitCode.CURRENT
    assert History.model_validate_json(out).decisions == DECISIONS
    assert err.startswith("kexecwatchctl: from the ledger, because kexecwatchd is not running")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("system_bus", "root")
async def test_no_ledger_is_an_empty_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert await asyncio.to_thread(main, ["history"]) == ExitCode.CURRENT
    assert capsys.readouterr().out == "Nothing has been decided in this boot.\n"


@pytest.mark.usefixtures("system_bus")
async def test_a_broken_ledger_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "run/kexecwatchd/ledger.json").write_text("{")
    assert await asyncio.to_thread(main, ["history"]) == ExitCode.ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert "ledger.json could not be used" in err


@pytest.mark.usefixtures("system_bus")
async def test_the_ledger_is_roots_alone() -> None:
    ran = await ctl("history", uid=NOBODY)
    assert (ran.code, ran.out) == (ExitCode.UNREACHABLE, "")
    assert "kexecwatchd is not running" in ran.err
    assert "ledger" not in ran.err
