# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.install import commands

UNIT = "etc/systemd/system/kexecwatchd.service"
STOP = "systemctl stop kexecwatchd*.service"


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("there", ["systemctl disable kexecwatchd.service", STOP]),
        ("masked", ["systemctl disable kexecwatchd.service", STOP]),
        # To disable it, or to stop it by its name, would fail, and nothing could be taken back.
        ("not there", [STOP]),
    ],
)
def test_what_is_not_there_is_not_asked_to_stop(tmp_path: Path, unit: str, said: list[str]) -> None:
    path = tmp_path / UNIT
    path.parent.mkdir(parents=True)
    match unit:
        case "there":
            path.touch()
        case "masked":
            path.symlink_to("/dev/null")
    assert [" ".join(command) for command in commands.stop(tmp_path)] == said


def test_what_fails_is_told_and_the_rest_is_run() -> None:
    failed = commands.run([("ls", "/nowhere"), ("true",), ("no-such-program", "x")])
    assert [line.partition(": ")[0] for line in failed] == ["ls /nowhere", "no-such-program x"]
