# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl as a program, against the service on a real bus."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest
from dbus_fast import BusType
from dbus_fast.aio import MessageBus

from kexecwatchd.bus import names
from kexecwatchd.ctl import client as ctl_client
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from kexecwatchd.report import ConfigReport, Details, Status
from kexecwatchd.requests import LoadFailed
from tests.integration.harness import (
    MISSING,
    NOBODY,
    ROOT,
    SEGMENT,
    STALE,
    FakeBackend,
    PrivateBus,
    ctl,
    serving,
)


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize("uid", [0, NOBODY])
@pytest.mark.parametrize("verb", ["status", "verify"])
async def test_exit_code_and_first_line_agree(backend: FakeBackend, verb: str, uid: int) -> None:
    async with serving(backend) as service:
        good = await ctl(verb, uid=uid)
        backend.now = STALE
        service.publish(STALE)
        bad = await ctl(verb, uid=uid)
    assert (good.code, bad.code) == (ExitCode.CURRENT, ExitCode.NOT_CURRENT)
    assert good.out.startswith("COVERED: ")
    assert bad.out.startswith("NOT COVERED: crash image is stale")
    assert good.err == bad.err == ""
    assert "\x1b" not in good.out + bad.out
    assert backend.verifies == (2 if verb == "verify" else 0)


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize("uid", [0, NOBODY])
async def test_json_is_the_model_and_only_root_gets_details(backend: FakeBackend, uid: int) -> None:
    async with serving(backend):
        told = await ctl("status", "--json", uid=uid)
        verified = await ctl("verify", "--json", uid=uid)
    assert Status.model_validate_json(told.out) == backend.now
    document = json.loads(verified.out)
    details = document.pop("details", None)
    assert Status.model_validate(document) == backend.now
    if uid == 0:
        assert Details.model_validate(details) == backend.details()
    else:
        assert details is None


@pytest.mark.usefixtures("system_bus")
async def test_ranges_are_on_roots_screen_alone(backend: FakeBackend) -> None:
    async with serving(backend):
        roots = await ctl("verify")
        theirs = await ctl("verify", uid=NOBODY)
    assert f"{MISSING.start}-{MISSING.end}  1 GiB" in roots.out
    assert SEGMENT.start in roots.out
    assert "0x" not in theirs.out


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize(("verb", "uid"), [("status", 0), ("verify", NOBODY)])
async def test_no_daemon_is_said_with_what_to_do_and_is_not_started(verb: str, uid: int) -> None:
    """The bus has our activation file, whose Exec is /bin/false: an attempt would show."""
    ran = await ctl(verb, uid=uid)
    assert ran.code == ExitCode.UNREACHABLE
    assert ran.out == ""
    assert "kexecwatchd is not running" in ran.err
    assert "systemctl start kexecwatchd" in ran.err
    assert "journalctl -b -u kexecwatchd" in ran.err


@pytest.mark.usefixtures("system_bus")
async def test_without_a_daemon_root_verifies_all_the_same() -> None:
    """Whatever this machine is like; what is seen of one, tests/unit/ctl/test_standin.py has."""
    ran = await ctl("verify", "--json")
    assert (ran.code, ran.err) in ((ExitCode.CURRENT, ""), (ExitCode.NOT_CURRENT, ""))
    document = json.loads(ran.out)
    assert document["daemon_version"] == ""
    assert "kexecwatchd is not running" in document["problem"]
    assert [image["image"] for image in document["details"]["images"]] == ["crash", "reboot"]


@pytest.mark.usefixtures("absent_bus")
async def test_no_bus_is_said_with_its_address() -> None:
    ran = await ctl("status")
    assert ran.code == ExitCode.UNREACHABLE
    assert "no connection to the system bus" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.usefixtures("system_bus")
async def test_an_error_of_the_daemon_is_an_error(backend: FakeBackend) -> None:
    backend.trouble = RuntimeError("broken")
    async with serving(backend):
        ran = await ctl("verify")
    assert ran.code == ExitCode.ERROR
    assert "refused Verify" in ran.err
    assert "journalctl" in ran.err


@pytest.mark.usefixtures("open_bus")
async def test_a_mute_daemon_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ctl_client, "_ANSWER_TIMEOUT", 0.5)
    mute = await MessageBus(bus_type=BusType.SYSTEM).connect()
    await mute.request_name(names.BUS_NAME)
    mute.add_message_handler(lambda message: True)
    assert await asyncio.to_thread(main, ["status"]) == ExitCode.UNREACHABLE
    assert "did not answer GetStatus within" in capsys.readouterr().err
    mute.disconnect()
    await mute.wait_for_disconnect()  # type: ignore[no-untyped-call]


# dbus-fast before 5.0 leaves the socket of a bus that went away to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("system_bus")
async def test_a_daemon_that_dies_in_mid_answer_is_unreachable(
    backend: FakeBackend, system_bus: PrivateBus
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def verify() -> Status:
        asked.set()
        await answer.wait()
        return backend.now

    backend.verify = verify  # type: ignore[method-assign]
    async with serving(backend):
        run = asyncio.ensure_future(ctl("verify", uid=NOBODY))
        await asked.wait()
        system_bus.stop()
        ran = await run
        answer.set()  # to nobody
        await asyncio.sleep(0.1)
    assert ran.code == ExitCode.UNREACHABLE
    assert "hung up" in ran.err
    assert "Traceback" not in ran.err
    gc.collect()  # while the filter above is in force


@pytest.mark.usefixtures("system_bus")
async def test_a_closed_pipe_is_quiet_and_keeps_the_exit_code(backend: FakeBackend) -> None:
    backend.now = STALE
    async with serving(backend):
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", '"$0" -m kexecwatchd.ctl status; echo "code $?" >&2'),
            sys.executable,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        _, err = await process.communicate()
    assert err.decode() == f"code {ExitCode.NOT_CURRENT.value}\n"


@pytest.mark.usefixtures("system_bus")
async def test_a_poor_terminal_gets_all_of_it(backend: FakeBackend) -> None:
    backend.now = STALE.model_copy(update={"problem": "/boot/größe: no such file"})
    async with serving(backend):
        ran = await ctl("status", PYTHONIOENCODING="ascii", COLUMNS="60")
    assert ran.code == ExitCode.NOT_CURRENT
    assert "gr\\xf6\\xdfe" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 70


def fit_to_start(backend: FakeBackend, obstacle: str = "") -> None:
    """Have the daemon say whether the reboot image may be started."""
    crash, reboot = backend.now.images
    reboot = reboot.model_copy(update={"start_obstacle": obstacle, "reason": "all is online"})
    backend.now = backend.now.model_copy(update={"images": [crash, reboot]})


class Systemctl:
    """In the place of systemctl: notes how it is called; fails with exit code 4 when told to."""

    def __init__(self, directory: Path) -> None:
        self._called = directory / "called"
        self._failing = directory / "failing"
        program = directory / "bin/systemctl"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{self._called}\n'
            f"if [ -e {self._failing} ]; then echo it is inhibited >&2; exit 4; fi\n"
        )
        program.chmod(0o755)
        self.path = str(program.parent)

    def fail(self) -> None:
        self._failing.touch()

    def calls(self) -> list[str]:
        return self._called.read_text().splitlines() if self._called.exists() else []


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    made = Systemctl(tmp_path)
    monkeypatch.setenv("PATH", f"{made.path}:{os.environ['PATH']}")
    return made


@pytest.mark.usefixtures("system_bus")
async def test_exec_hands_a_fit_image_over_to_systemd(
    backend: FakeBackend, systemctl: Systemctl
) -> None:
    fit_to_start(backend)
    async with serving(backend):
        ran = await ctl("exec")
    assert (ran.code, ran.err) == (ExitCode.CURRENT, "")
    assert "The reboot image is current: all is online." in ran.out
    assert systemctl.calls() == ["kexec"]
    assert backend.verifies == 1


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize("obstacle", ["", "its memory went away"])
async def test_a_dry_run_says_it_and_starts_nothing(
    backend: FakeBackend, systemctl: Systemctl, obstacle: str
) -> None:
    fit_to_start(backend, obstacle)
    async with serving(backend):
        ran = await ctl("exec", "--dry-run")
    assert ran.code == (ExitCode.NOT_CURRENT if obstacle else ExitCode.CURRENT)
    assert ("systemctl kexec" in ran.out) is (not obstacle)
    assert not systemctl.calls()


@pytest.mark.usefixtures("system_bus")
async def test_exec_refuses_with_the_reason_and_what_to_do(
    backend: FakeBackend, systemctl: Systemctl
) -> None:
    fit_to_start(backend, "its memory went away")
    async with serving(backend):
        ran = await ctl("exec")
    assert (ran.code, ran.out) == (ExitCode.NOT_CURRENT, "")
    assert "not started: its memory went away" in ran.err
    assert "systemctl reboot" in ran.err
    assert not systemctl.calls()
    assert backend.verifies == 1


@pytest.mark.usefixtures("system_bus")
async def test_what_systemctl_says_is_shown_and_is_an_error(
    backend: FakeBackend, systemctl: Systemctl
) -> None:
    fit_to_start(backend)
    systemctl.fail()
    async with serving(backend):
        ran = await ctl("exec")
    assert ran.code == ExitCode.ERROR
    assert "it is inhibited" in ran.err
    assert "systemctl kexec failed" in ran.err


@pytest.mark.usefixtures("system_bus")
async def test_without_systemctl_exec_says_so(backend: FakeBackend, tmp_path: Path) -> None:
    fit_to_start(backend)
    async with serving(backend):
        ran = await ctl("exec", PATH=str(tmp_path))
    assert ran.code == ExitCode.ERROR
    assert "systemctl cannot be run" in ran.err


@pytest.mark.usefixtures("system_bus")
async def test_exec_without_a_daemon_starts_nothing(systemctl: Systemctl) -> None:
    assert (await ctl("exec")).code == ExitCode.UNREACHABLE
    assert not systemctl.calls()


@pytest.mark.usefixtures("system_bus")
async def test_a_daemon_that_does_not_say_it_is_not_taken_to_agree(
    backend: FakeBackend, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an earlier version: the field is missing, and its default would be a yes."""

    def without(model: Status, **_: object) -> str:
        data = json.loads(pydantic.BaseModel.model_dump_json(model))
        for image in data["images"]:
            del image["start_obstacle"]
        return json.dumps(data)

    monkeypatch.setattr(Status, "model_dump_json", without)
    fit_to_start(backend)
    async with serving(backend):
        ran = await ctl("exec")
    assert ran.code == ExitCode.ERROR
    assert "systemctl restart kexecwatchd" in ran.err
    assert not systemctl.calls()


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize("uid", [0, NOBODY])
async def test_config_tells_of_the_daemon_beside_the_problems_of_the_files(
    backend: FakeBackend, uid: int
) -> None:
    """Nothing is installed on a machine that tests this; where something is, it is shown."""
    async with serving(backend):
        ran = await ctl("config", uid=uid)
    assert "did not take the last change: a configuration error" in ran.out + ran.err
    assert "kexecwatchctl mode crash configured" in ran.out + ran.err
    assert "0x" not in ran.out + ran.err


@pytest.mark.usefixtures("system_bus")
async def test_config_needs_no_daemon() -> None:
    ran = await ctl("config", "--json")
    assert ran.code in (ExitCode.CURRENT, ExitCode.ERROR)
    assert ConfigReport.model_validate_json(ran.out).notes == []
    assert ran.err == ""


CTL = [sys.executable, "-m", "kexecwatchd.ctl"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help | true", ExitCode.CURRENT),
        ("nosuch 2>&1 | true", ExitCode.USAGE),
        ("config --config packaging/kexecwatchd.toml >/dev/full", ExitCode.ERROR),
        ("status <&- >&- 2>&-", ExitCode.UNREACHABLE),
        ("reload crash <&-", ExitCode.UNREACHABLE),
    ],
)
@pytest.mark.usefixtures("absent_bus")
async def test_streams_that_fail_are_no_traceback(line: str, code: ExitCode) -> None:
    shell = f'set -o pipefail; "$@" {line}'
    ran = await asyncio.create_subprocess_exec(
        *("bash", "-c", shell, "bash", *CTL),
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await ran.communicate()
    assert ran.returncode == code, err
    assert b"Traceback" not in out + err
    assert b"Exception ignored" not in out + err


@pytest.mark.usefixtures("system_bus")
async def test_what_the_daemon_says_does_not_steer_the_terminal(backend: FakeBackend) -> None:
    backend.trouble = LoadFailed("\x1b[31mred\x1b]0;title\x07")
    async with serving(backend):
        ran = await ctl("reload", "crash")
    assert ran.code == ExitCode.ERROR
    assert "red" in ran.err
    assert "\x1b" not in ran.out + ran.err


def test_file_names_may_be_any_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.toml")
    assert main(["config", "--json", "--config", missing]) == ExitCode.ERROR
    assert "udcff.toml" in json.loads(capsys.readouterr().out)["problems"][0]
