# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks the checks and gathers their answers. A check that fails takes no other one with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kexecwatchd.addresses import without_addresses
from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.report import CheckResult

log = logging.getLogger(__name__)


def ask(host: Host, checks: Iterable[Check]) -> list[CheckResult]:
    """Every check's answer, in their order."""
    return [result(check, examine(host, check)) for check in checks]


def examine(host: Host, check: Check) -> Finding:
    """One check's answer; "cannot tell" where it has none."""
    # What was left out on purpose must not pass for something that the machine does not have.
    for name in (*check.addresses, *(source.name for source in check.asks)):
        if why := host.left_out(name):
            return Finding(Answer.CANNOT_TELL, f"{name}: {why}")
    try:
        return check.look(host)
    except (CannotTell, OSError, ValueError) as error:
        return Finding(Answer.CANNOT_TELL, host.words_for(error))
    except Exception as error:
        log.exception("the check %s failed", check.name)
        kind = type(error).__name__
        return Finding(Answer.CANNOT_TELL, f"this check failed with {kind}: please report it")


def result(check: Check, finding: Finding) -> CheckResult:
    """What everyone is told. A finding has no addresses; what it quotes may have had some."""
    return CheckResult(
        name=check.name,
        question=check.question,
        answer=finding.answer.value,
        summary=without_addresses(finding.summary),
        explanation=without_addresses(finding.explanation),
        remedy=without_addresses(finding.remedy),
        facts={name: _without_addresses(fact) for name, fact in finding.facts.items()},
    )


def _without_addresses(fact: Fact) -> Fact:
    if isinstance(fact, str):
        return without_addresses(fact)
    if isinstance(fact, dict):
        return {without_addresses(str(k)): _without_addresses(v) for k, v in fact.items()}
    if isinstance(fact, list):
        return [_without_addresses(v) for v in fact]
    return fact
