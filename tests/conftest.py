# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules for every test: no image is loaded, hypothesis has no clocks, CI has no silent skips."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from kexecwatchd.kernel import kexec_file

NOT_HERE = "not on this platform:"

# How fast a machine is must not decide whether a test passes.
settings.register_profile(
    "kexecwatchd", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kexecwatchd")


@pytest.fixture(autouse=True)
def no_kexec_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the system call of the machine that it runs on, where it may be root."""

    def refuse(*arguments: object) -> int:
        raise AssertionError(f"a test would have called kexec_file_load{arguments}")

    monkeypatch.setattr(kexec_file, "_syscall", refuse)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true, turn a skip into a failure unless its reason begins with NOT_HERE.

    A test that is expected to fail (xfail) also reports "skipped"; that is not one.
    """
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _reason(report)
    if not reason.startswith(NOT_HERE):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {reason}\n(a skip may only begin with {NOT_HERE!r})"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
