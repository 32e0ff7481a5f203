# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kexecwatchd import __version__
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["discard"],
        ["status", "--jsn"],
        ["status", "extra"],
        ["verify", "--js"],
        ["exec", "now"],
    ],
)
def test_usage_errors_are_2_and_explained(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    assert "usage: kexecwatchctl" in capsys.readouterr().err


def test_help_lists_the_verbs_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "status" in shown
    assert "verify" in shown
    assert "map" in shown
    assert "exec" in shown
    for code in ExitCode:
        assert f"\n  {code.value}  " in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kexecwatchctl {__version__}\n"


def test_exit_codes_are_a_promise() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "CURRENT": 0,
        "ERROR": 1,
        "USAGE": 2,
        "NOT_CURRENT": 3,
        "UNREACHABLE": 4,
    }
