# SPDX-License-Identifier: GPL-2.0-or-later
"""The suite's own rule: CI has no skips that the platform could run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parent.parent / "conftest.py"
SKIPS = """
import pytest

@pytest.mark.skip(reason="too lazy")
def test_marked(): ...

def test_called():
    pytest.skip("no time")

@pytest.mark.skip(reason="not on this platform: no such CPU")
def test_elsewhere(): ...

@pytest.mark.xfail(reason="known")
def test_known():
    raise ValueError
"""


def run(pytester: pytest.Pytester, test: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(test)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")


def test_ci_turns_skips_into_failures(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(pytester, SKIPS)
    result.assert_outcomes(errors=1, failed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["skipped in CI: too lazy*", "skipped in CI: no time*"])


def test_ci_fails_a_module_that_skips_itself(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(pytester, "import pytest\npytest.importorskip('no_such_module')\n")
    result.assert_outcomes(errors=1)


def test_elsewhere_skips_stay_skips(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    run(pytester, SKIPS).assert_outcomes(skipped=3, xfailed=1)
