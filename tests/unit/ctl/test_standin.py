# SPDX-License-Identifier: GPL-2.0-or-later
"""verify without a daemon, on a machine of files."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from kexecwatchd import ledger
from kexecwatchd.config import Sources
from kexecwatchd.ctl import standin, verify
from kexecwatchd.ctl.client import AnswerError, UnreachableError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_ON_CRASH
from kexecwatchd.ledger import HoldRecord, ImageRecord, Ledger
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import Hold, ImageStatus, Status
from tests.fake_kernel import CMDLINE, FakeKernel

SILENCE = UnreachableError("nobody answers\n  start it:    systemctl start kexecwatchd")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    kernel = FakeKernel(tmp_path)
    configure(kernel, crash="ensure", reboot="off")
    return kernel


def configure(kernel: FakeKernel, *, crash: str, reboot: str) -> None:
    path = Sources(kernel.root).local
    path.parent.mkdir(parents=True, exist_ok=True)
    files = f'kernel = "{kernel.path("boot/vmlinuz")}"\ncmdline = "{CMDLINE}"\n'
    path.write_text(f'[crash]\nmode = "{crash}"\n{files}[reboot]\nmode = "{reboot}"\n{files}')
    path.chmod(0o644)


def load(kernel: FakeKernel, flags: int) -> None:
    kernel_fd = os.open(kernel.path("boot/vmlinuz"), os.O_RDONLY)
    initrd_fd = os.open(kernel.path("boot/initrd.img"), os.O_RDONLY)
    kernel.load(kernel_fd, initrd_fd, CMDLINE, flags)
    os.close(kernel_fd)
    os.close(initrd_fd)


def look(kernel: FakeKernel) -> Status:
    return standin.look(kernel.root, SILENCE)[0]


def crash(status: Status) -> ImageStatus:
    return status.images[0]


def test_a_good_image_covers_and_nobody_is_said_to_keep_it_so(kernel: FakeKernel) -> None:
    load(kernel, KEXEC_FILE_ON_CRASH)
    status, details = standin.look(kernel.root, SILENCE)
    assert crash(status).state is State.CURRENT
    assert status.covered
    assert status.daemon_version == ""
    assert status.problem == (
        "nobody answers; start it: systemctl start kexecwatchd; nobody keeps the images so,"
        " kexecwatchctl has looked itself"
    )
    assert details.images[0].elfcorehdr.startswith("0x")
    assert "0x" not in status.model_dump_json()


def test_what_the_daemon_would_do_is_not_said_to_come(kernel: FakeKernel) -> None:
    load(kernel, KEXEC_FILE_ON_CRASH)
    kernel.add_dimm()
    image = crash(look(kernel))
    assert (image.state, image.covered) == (State.STALE, False)
    assert image.next_step.startswith("nothing: ")
    assert image.next_step.endswith(", but kexecwatchd does not do it")
    assert image.next_try == 0


def test_what_the_daemon_noted_counts_but_for_holds(kernel: FakeKernel) -> None:
    hold = HoldRecord(holder=":1.7", hold=Hold(number=1, who="apt", why="", since=1))
    noted = Ledger(boot_id="a-boot", crash=ImageRecord(mode=Mode.OBSERVE), holds=(hold,))
    ledger.write(kernel.path("run/kexecwatchd/ledger.json"), noted)
    status = look(kernel)
    assert (crash(status).mode, crash(status).configured_mode) == (Mode.OBSERVE, Mode.ENSURE)
    assert status.holds == []


def test_a_reboot_image_seen_for_the_first_time_is_not_judged(kernel: FakeKernel) -> None:
    configure(kernel, crash="off", reboot="observe")
    kernel.add_dimm()
    load(kernel, 0)
    assert "kexecwatchd did not load it, and did not run since" in look(kernel).images[1].reason


def test_a_wrong_configuration_is_said_and_the_defaults_count(kernel: FakeKernel) -> None:
    Sources(kernel.root).local.write_text('[crash]\nmode = "often"\n')
    status = look(kernel)
    assert '"often" is not one of them' in status.config_error
    assert status.config_error.endswith("; until then the defaults count here")
    assert crash(status).mode is Mode.FOLLOW


def test_what_cannot_be_read_is_said_beside(kernel: FakeKernel) -> None:
    kernel.show_map(hidden=True)
    status = look(kernel)
    assert "kexecwatchctl has looked itself; the memory map cannot be read" in status.problem
    assert not status.covered


def test_where_nothing_can_be_read_both_are_said(tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=r"nobody answers.*nor can the machine be looked at"):
        standin.look(tmp_path, SILENCE)


@pytest.mark.parametrize("loaded", [True, False])
async def test_the_verb_shows_it_and_ends_by_the_verdict(
    kernel: FakeKernel,
    loaded: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={kernel.root / 'no-bus'}")
    monkeypatch.setattr("kexecwatchd.ctl.verify.os.geteuid", lambda: 0)
    if loaded:
        load(kernel, KEXEC_FILE_ON_CRASH)
    code = await verify.run(argparse.Namespace(json=True), kernel.root)
    assert code == (ExitCode.CURRENT if loaded else ExitCode.NOT_CURRENT)
    document = json.loads(capsys.readouterr().out)
    assert document["images"][0]["image"] == ImageName.CRASH
    assert "no connection to the system bus" in document["problem"]


async def test_only_root_gets_it(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={kernel.root / 'no-bus'}")
    monkeypatch.setattr("kexecwatchd.ctl.verify.os.geteuid", lambda: 65534)
    with pytest.raises(UnreachableError):
        await verify.run(argparse.Namespace(json=False), kernel.root)
