# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb: which machine, which checks, what it prints, and its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl.checkscreen import render
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from kexecwatchd.report import CheckReport, CheckResult
from tests.unit.checks.machines import Case, host_of

DISABLED = Case("", Answer.PROBLEM, "", {"proc/sys/kernel/kexec_load_disabled": "1\n"})
FINE = Case("", Answer.OK, "")


def result(answer: Answer, **more: str) -> CheckResult:
    texts = {"summary": "no: it is off", "explanation": "Because.", "remedy": "Switch it on."}
    return CheckResult(name="it", question="Is it on?", answer=answer, **{**texts, **more})


def test_without_root_it_says_so_and_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kexecwatchd.ctl.check.os.geteuid", lambda: 65534)
    assert main(["check"]) == ExitCode.ERROR
    printed = capsys.readouterr()
    assert (printed.out, "run it as root" in printed.err) == ("", True)


def test_a_problem_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host_of(DISABLED, tmp_path)
    assert main(["check", "permission", "--root", str(tmp_path)]) == ExitCode.NOT_CURRENT
    printed = capsys.readouterr().out
    assert printed.startswith("problem")
    assert "What to do: Find what sets it" in printed  # who names a check wants to know


def test_no_problem_is_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host_of(FINE, tmp_path)
    assert main(["check", "permission", "--root", str(tmp_path)]) == ExitCode.CURRENT
    assert "any number of times" in capsys.readouterr().out


def test_json_has_every_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host_of(FINE, tmp_path)
    main(["check", "--json", "--root", str(tmp_path)])
    report = CheckReport.model_validate_json(capsys.readouterr().out)
    assert [r.name for r in report.results] == [check.name for check in CHECKS]
    assert report.root == str(tmp_path)


def test_an_unknown_check_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "nonsense", "--root", str(tmp_path)]) == ExitCode.USAGE
    assert "there are: images, reservation" in capsys.readouterr().err


def test_a_missing_directory_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--root", str(tmp_path / "none")]) == ExitCode.ERROR
    assert "is no directory" in capsys.readouterr().err


class TestScreen:
    def test_a_line_a_question_and_a_hint(self) -> None:
        results = [result(Answer.OK, summary="yes"), result(Answer.PROBLEM)]
        assert render(results, explain=False, width=90, colour=False).splitlines() == [
            "ok              Is it on? yes",
            "problem         Is it on? no: it is off",
            "",
            "1 problem. What it means and what to do: kexecwatchctl check it",
        ]

    def test_explained(self) -> None:
        shown = render([result(Answer.WARNING)], explain=True, width=60, colour=False)
        assert shown.splitlines() == [
            "warning         Is it on? no: it is off",
            "                Because.",
            "                What to do: Switch it on.",
            "                (it)",
            "",
            "1 warning.",
        ]

    def test_nothing_wrong(self) -> None:
        shown = render([result(Answer.OK)], explain=False, width=60, colour=False)
        assert shown.splitlines()[-1] == "No problem found."

    def test_what_has_no_answer_is_counted(self) -> None:
        shown = render([result(Answer.CANNOT_TELL)] * 2, explain=False, width=80, colour=False)
        assert "2 unanswered questions." in shown

    def test_it_cannot_steer_the_terminal(self) -> None:
        shown = render(
            [result(Answer.OK, summary="\x1b[2J")], explain=False, width=80, colour=False
        )
        assert "\x1b" not in shown
