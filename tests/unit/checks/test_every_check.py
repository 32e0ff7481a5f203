# SPDX-License-Identifier: GPL-2.0-or-later
"""Each check, on the machines of its test module (CASES): what it answers, and how it says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from kexecwatchd.addresses import without_addresses
from kexecwatchd.checks.check import Answer, Check
from kexecwatchd.checks.doctor import examine
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.report import CheckResult

from .machines import Case, answer_of

README = Path(__file__).parents[3] / "README.md"
ADDRESS = re.compile(r"0x[0-9a-f]{5,}|\b[0-9a-f]{5,}-[0-9a-f]{5,}\b")


def cases(check: Check) -> tuple[Case, ...]:
    found: tuple[Case, ...] = import_module(
        f"{__package__}.test_{check.name.replace('-', '_')}"
    ).CASES
    return found


def all_cases() -> Iterator[object]:
    for check in CHECKS:
        for case in cases(check):
            yield pytest.param(check, case, id=f"{check.name}: {case}")


@pytest.mark.parametrize(("check", "case"), list(all_cases()))
def test_answer(check: Check, case: Case, tmp_path: Path) -> None:
    finding = answer_of(check, case, tmp_path)
    assert finding.answer in check.answers | {Answer.CANNOT_TELL}
    assert finding.summary.strip()
    assert "\n" not in finding.summary
    for text in (finding.summary, finding.explanation, finding.remedy):
        assert not ADDRESS.search(text), "addresses are root's alone"
        assert without_addresses(text) == text, "the doctor would black this out"
    if finding.answer in (Answer.PROBLEM, Answer.WARNING):
        assert finding.explanation
        assert finding.remedy
    else:
        assert not finding.remedy, "there is nothing to do"
    for name in finding.facts:
        assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", name), (
            f"{name!r}: for programs, not people"
        )
    # As JSON, and so over the bus.
    CheckResult(
        name=check.name,
        question=check.question,
        answer=finding.answer,
        summary=finding.summary,
        facts=dict(finding.facts),
    ).model_dump_json()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_there_is_a_machine_for_each_answer(check: Check) -> None:
    assert {case.answer for case in cases(check)} >= check.answers | {Answer.CANNOT_TELL}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_where_nothing_was_collected_it_cannot_tell_or_does_not_apply(
    check: Check, tmp_path: Path
) -> None:
    """An empty directory is no machine without problems."""
    answer = examine(Host(tmp_path, live=False), check).answer
    assert answer in (Answer.CANNOT_TELL, Answer.NOT_APPLICABLE)


def test_names_and_questions() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", check.name)
        assert check.question.endswith("?")


def test_the_readme_lists_them_all() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+\?) \|$", README.read_text(), re.MULTILINE)
    assert rows == [(check.name, check.question) for check in CHECKS]
