# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate after the daemon's end, on a fake kernel: what it starts, unloads and refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kexecwatchd import gate
from kexecwatchd.config import Config
from kexecwatchd.model import ImageName, Mode, State, WhenUnsafe
from tests.fake_kernel import DIMM
from tests.integration.world import World
from tests.unit.kernel.trees import populate

Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What the console shows, checked for addresses."""

    def text() -> str:
        shown = capsys.readouterr().out
        assert not re.search(r"0x[0-9a-f]{4,}|\b[0-9a-f]{6,}\b", shown), shown
        assert all(line.startswith("kexecwatchd: ") for line in shown.splitlines())
        return shown

    return text


def guarding(w: World) -> Config:
    config = w.configured(crash="off", reboot="ensure")
    reboot = config.reboot.model_copy(update={"when_unsafe": WhenUnsafe.GUARD})
    return config.model_copy(update={"reboot": reboot})


def write_config(w: World, mode: str = "ensure") -> None:
    boot = w.kernel.path("boot")
    populate(
        w.kernel.root,
        {
            "etc/kexecwatchd/kexecwatchd.toml": f'[reboot]\nmode = "{mode}"\n'
            f'kernel = "{boot}/vmlinuz"\ncmdline = "quiet"\nwhen_unsafe = "guard"\n'
        },
    )


@pytest.fixture
async def w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine with the reboot image in a DIMM; its daemon knows where, and runs no more."""
    w = World(tmp_path, monkeypatch)
    write_config(w)
    w.kernel.add_dimm()
    await w.start(guarding(w))
    await w.run(20)
    assert w.kernel.loaded("reboot")
    return w


def test_a_good_image_is_started(w: World, said: Said) -> None:
    assert gate.check(w.kernel.root) == gate.START
    assert w.kernel.loaded("reboot")
    assert "kexec goes on" in said()


def test_one_whose_memory_went_is_unloaded(w: World, said: Said) -> None:
    w.kernel.remove_dimm()
    assert gate.check(w.kernel.root) == gate.START
    assert not w.kernel.loaded("reboot")
    shown = said()
    assert "unloaded" in shown
    assert "no longer there" in shown
    assert "full reboot" in shown


def test_one_whose_memory_is_offline_is_unloaded(w: World, said: Said) -> None:
    w.kernel.set_state(DIMM + 3, "offline")
    assert gate.check(w.kernel.root) == gate.START
    assert not w.kernel.loaded("reboot")
    assert "offline" in said()


@pytest.mark.parametrize(
    ("sysctl", "value"), [("kexec_load_disabled", "1"), ("kexec_load_limit_reboot", "0")]
)
def test_one_that_cannot_be_unloaded_is_refused(
    w: World, said: Said, sysctl: str, value: str
) -> None:
    w.kernel.remove_dimm()
    w.kernel.write(f"proc/sys/kernel/{sysctl}", f"{value}\n")
    assert gate.check(w.kernel.root) == gate.REFUSE
    assert w.kernel.loaded("reboot")
    shown = said()
    assert "EPERM" in shown
    assert "full reboot" in shown


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_who_only_wants_to_look_is_told_and_obeyed(w: World, said: Said, mode: str) -> None:
    write_config(w, mode)
    w.kernel.remove_dimm()
    before = len(w.kernel.calls)
    assert gate.check(w.kernel.root) == gate.START
    assert w.kernel.loaded("reboot")
    assert len(w.kernel.calls) == before
    shown = said()
    assert "kexec goes on" in shown
    assert mode in shown


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.OBSERVE])
async def test_a_mode_that_somebody_set_until_the_next_boot_counts(
    w: World, said: Said, mode: Mode
) -> None:
    await w.desk.set_mode(ImageName.REBOOT, mode, "uid 0")
    w.kernel.remove_dimm()
    assert gate.check(w.kernel.root) == gate.START
    assert w.kernel.loaded("reboot")
    assert f"mode is {mode}" in said()


def test_nothing_loaded_is_nothing_to_stop(w: World, said: Said) -> None:
    w.kernel.set_loaded("reboot", False)
    before = len(w.kernel.calls)
    assert gate.check(w.kernel.root) == gate.START
    assert len(w.kernel.calls) == before
    assert "no reboot image" in said()


def test_a_wrong_configuration_counts_as_none(w: World, said: Said) -> None:
    populate(w.kernel.root, {"etc/kexecwatchd/kexecwatchd.toml": "[reboot\n"})
    w.kernel.remove_dimm()
    assert gate.check(w.kernel.root) == gate.START
    assert not w.kernel.loaded("reboot")
    assert "the defaults are used" in said()


@pytest.mark.parametrize("toml", ["[reboot\n", ""])
def test_one_in_memory_that_can_go_but_is_there_is_started(w: World, said: Said, toml: str) -> None:
    """Nor does a wrong configuration stop a guarded one."""
    for number in range(DIMM, DIMM + 4):
        w.kernel.zones[number] = "Movable"
        w.kernel.set_state(number, "online")
    populate(w.kernel.root, {"etc/kexecwatchd/kexecwatchd.toml": toml})
    assert gate.check(w.kernel.root) == gate.START
    assert w.kernel.loaded("reboot")
    shown = said()
    assert "kexec goes on" in shown
    assert "movable" in shown


def test_a_kernel_without_kexec_is_nothing_to_stop(w: World, said: Said) -> None:
    for name in ("sys/kernel/kexec_loaded", "sys/kernel/kexec_crash_loaded"):
        w.kernel.path(name).unlink()
    assert gate.check(w.kernel.root) == gate.START
    assert "no reboot image" in said()


@pytest.mark.parametrize("ledger", ["", "{", None])
def test_without_a_ledger_nothing_is_known_against_it(
    w: World, said: Said, ledger: str | None
) -> None:
    path = w.kernel.path("run/kexecwatchd/ledger.json")
    if ledger is None:
        path.unlink()
    else:
        path.write_text(ledger)
    w.kernel.remove_dimm()
    assert gate.check(w.kernel.root) == gate.START
    assert w.kernel.loaded("reboot")
    assert f"image is {State.UNKNOWN}" in said()


def test_a_map_that_cannot_be_read_is_no_reason_to_stop(w: World, said: Said) -> None:
    w.kernel.show_map(hidden=True)
    assert gate.check(w.kernel.root) == gate.START
    assert w.kernel.loaded("reboot")
    assert f"image is {State.UNKNOWN}" in said()


def test_an_error_of_our_own_is_no_reason_to_stop(
    w: World, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(root: Path) -> int:
        raise KeyError("0x12345678")

    monkeypatch.setattr(gate, "check", broken)
    assert gate.main() == gate.START
    assert w.kernel.loaded("reboot")
    assert "could not be checked (KeyError)" in said()


async def test_one_of_a_load_that_the_daemon_did_not_outlive_answers_for_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    w = World(tmp_path, monkeypatch)
    write_config(w)
    w.kernel.add_dimm()
    path = w.kernel.path("run/kexecwatchd/ledger.json")
    in_the_middle: list[str] = []
    w.during_load.append(lambda: in_the_middle.append(path.read_text()))
    await w.start(guarding(w))
    await w.run(20)
    w.kernel.write("run/kexecwatchd/ledger.json", in_the_middle[0])
    w.kernel.remove_dimm()
    assert gate.check(w.kernel.root) == gate.START
    assert not w.kernel.loaded("reboot")
    assert "where it lies is not known" in said()
