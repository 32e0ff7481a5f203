# SPDX-License-Identifier: GPL-2.0-or-later
"""What is collected of a machine, what is left out on purpose, and that the checks know."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.collection import WITHOUT_ADDRESSES, collect
from kexecwatchd.checks.doctor import ask, examine
from kexecwatchd.checks.host import ABOUT, COLLECTED, FILES, PROFILE, CannotTell, Host, Source
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl import collect as verb
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from tests.unit.kernel.trees import populate

from .machines import COMMON

OPEN: Source[int] = Source("open", int, lambda host: 7)
SECRET: Source[int] = Source("secret", int, lambda host: 8, addresses=True)


def _fails(host: Host) -> int:
    raise CannotTell("nobody knows")


FAILING: Source[int] = Source("failing", int, _fails)


def check_of(*asks: Source[Any], **more: Any) -> Check:
    return Check(
        name="it",
        question="Is it?",
        look=lambda host: Finding(Answer.OK, " ".join(str(host.ask(source)) for source in asks)),
        answers=frozenset({Answer.OK}),
        asks=asks,
        **more,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    root = tmp_path / "machine"
    populate(root, COMMON)
    return Host(root)


def unpacked(host: Host, *checks: Check, to: Path, with_addresses: bool = False) -> Host:
    """The machine as it arrives elsewhere."""
    files = collect(host, checks, with_addresses=with_addresses).files
    populate(to, {name: content for name, (content, _) in files.items()})
    return Host(to, live=False)


def test_only_what_a_check_reads(machine: Host) -> None:
    populate(machine.root, {"etc/one": "1", "etc/two": "2"})
    found = collect(machine, [check_of(files=("etc/one", "etc/none"))], with_addresses=True)
    profile = f"{COLLECTED}/{PROFILE.name}.json"
    assert set(found.files) == {*FILES, "etc/one", f"{COLLECTED}/{ABOUT}", profile}


def test_what_has_addresses_only_when_asked_for(machine: Host, tmp_path: Path) -> None:
    populate(machine.root, {"proc/iomem": "secret\n"})
    check = check_of(OPEN, SECRET, files=("proc/iomem",), addresses=("proc/iomem",))
    without = unpacked(machine, check, to=tmp_path / "without")
    assert not without.path("/proc/iomem").exists()
    assert not without.path(f"{COLLECTED}/{SECRET.name}.json").exists()
    finding = examine(without, check)
    assert (finding.answer, WITHOUT_ADDRESSES in finding.summary) == (Answer.CANNOT_TELL, True)
    # That it asks for no secret Source does not make the file one that the machine lacks.
    finding = examine(without, check_of(OPEN, addresses=("proc/iomem",)))
    assert (finding.answer, WITHOUT_ADDRESSES in finding.summary) == (Answer.CANNOT_TELL, True)
    full = unpacked(machine, check, to=tmp_path / "full", with_addresses=True)
    assert full.path("/proc/iomem").exists()
    assert examine(full, check) == Finding(Answer.OK, "7 8")


def test_a_source_that_had_no_answer_has_none_elsewhere_either(
    machine: Host, tmp_path: Path
) -> None:
    check = check_of(FAILING)
    there = examine(machine, check)
    assert "nobody knows" in there.summary
    elsewhere = examine(unpacked(machine, check, to=tmp_path / "copy"), check)
    assert (elsewhere.answer, "nobody knows" in elsewhere.summary) == (Answer.CANNOT_TELL, True)


def test_links_are_followed(machine: Host, tmp_path: Path) -> None:
    populate(machine.root, {"outside": "there\n"})
    link = machine.path("/etc/a")
    link.parent.mkdir()
    link.symlink_to(machine.path("/outside"))
    (link.parent / "masked").symlink_to("/dev/null")
    (link.parent / "nowhere").symlink_to("none")
    copy = unpacked(machine, check_of(files=("etc/*",)), to=tmp_path / "copy")
    assert not copy.path("/etc/a").is_symlink()
    assert copy.path("/etc/a").read_text() == "there\n"
    assert copy.path("/etc/masked").read_bytes() == b""
    assert copy.path("/etc/nowhere").read_bytes() == b""


def test_what_cannot_be_taken_is_told(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexecwatchd.checks.collection._MOST", 1 << 20)
    populate(machine.root, {"etc/large": bytes((1 << 20) + 1)})
    found = collect(machine, [check_of(files=("etc/large",))], with_addresses=False)
    assert "etc/large" not in found.files
    assert found.unreadable == {"etc/large": "more than 1 MiB"}
    os.mknod(machine.path("/etc/socket"), stat.S_IFSOCK | 0o600)
    found = collect(machine, [check_of(files=("etc/socket",))], with_addresses=False)
    assert found.unreadable == {"etc/socket": "No such device or address"}


def test_it_changes_no_answer(machine: Host, tmp_path: Path) -> None:
    """Asked elsewhere, every check says the same."""
    copy = unpacked(machine, *CHECKS, to=tmp_path / "copy", with_addresses=True)
    assert ask(copy, CHECKS) == ask(machine, CHECKS)


def test_the_archive(machine: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tar"
    assert verb.write(path, machine, with_addresses=False) == ExitCode.CURRENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert "without physical addresses" in capsys.readouterr().out
    with tarfile.open(path) as archive:
        members = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        populate(tmp_path / "copy", {name: file.read() for name, file in members.items() if file})
    about = json.loads((tmp_path / "copy" / COLLECTED / ABOUT).read_bytes())
    assert (about["machine"], about["with_addresses"]) == ("x86_64", False)
    assert main(["check", "permission", "--root", str(tmp_path / "copy")]) == ExitCode.CURRENT


def test_modes_are_kept(machine: Host, tmp_path: Path) -> None:
    os.chmod(machine.path("/proc/cmdline"), 0o640)
    found = collect(machine, [check_of(OPEN, files=("proc/cmdline",))], with_addresses=False)
    assert found.files["proc/cmdline"][1] == 0o640
    # What is no file of the machine is root's alone.
    assert {found.files[f"{COLLECTED}/{name}"][1] for name in (ABOUT, "open.json")} == {0o600}


def test_without_root_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kexecwatchd.ctl.collect.os.geteuid", lambda: 65534)
    assert main(["collect", str(tmp_path / "m.tar")]) == ExitCode.ERROR
    assert "run it as root" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error(
    machine: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexecwatchd.ctl.collect.os.geteuid", lambda: 0)
    monkeypatch.setattr("kexecwatchd.ctl.collect.Host", lambda: machine)
    assert main(["collect", str(tmp_path / "none" / "m.tar")]) == ExitCode.ERROR
