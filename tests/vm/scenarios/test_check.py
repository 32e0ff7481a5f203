# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl check and collect on real kernels: what is said there, and of the collected copy.

Without the daemon: it is installed, and not started.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.collection import WITHOUT_ADDRESSES
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl.main import main
from tests.vm.lab import Lab
from tests.vm.scenarios.conftest import Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import CRASH_CMDLINE, Watched

pytestmark = pytest.mark.vm


def answers(text: str) -> dict[str, dict[str, Any]]:
    """The results of check --json, by name."""
    return {result["name"]: result for result in json.loads(text)["results"]}


def elsewhere(archive: bytes, to: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What check says of a collected machine, here on the host."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None, f"{member.name} is no file"
            path = to / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read())
            path.chmod(member.mode)
    capsys.readouterr()
    main(["check", "--json", "--root", str(to)])
    return answers(capsys.readouterr().out)


def collected(watched: Watched, *options: str) -> bytes:
    watched.vm.run(f"kexecwatchctl collect {' '.join(options)} /run/machine.tar")
    return watched.vm.get("/run/machine.tar")


@pytest.mark.parametrize("kernel", Lab.KERNELS)
def test_the_collected_machine_answers_as_the_machine(
    guest: Guest, kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with guest(kernel) as watched:
        watched.configure(crash="observe", reboot="observe")
        bare_load(watched.vm, "crash", CRASH_CMDLINE)
        there = answers(watched.vm.run("kexecwatchctl check --json", check=False).text)
        full = elsewhere(collected(watched, "--with-addresses"), tmp_path / "full", capsys)
        without = elsewhere(collected(watched), tmp_path / "without", capsys)
    assert list(there) == [check.name for check in CHECKS]
    assert full == there
    for name, result in without.items():
        if result != there[name]:
            assert result["answer"] == Answer.CANNOT_TELL
            assert WITHOUT_ADDRESSES in result["summary"]
