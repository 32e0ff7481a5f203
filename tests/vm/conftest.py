# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab as fixtures. A host without QEMU skips, but fails where CI=true promises one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from tests.vm.lab import Lab, LabUnavailable, Machine
from tests.vm.watched import ROOT

#: What the scenarios measured in this run, a JSON object a line; every worker appends.
FIGURES = ROOT / "build" / "figures.jsonl"


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # not in a worker of pytest-xdist
        FIGURES.parent.mkdir(exist_ok=True)
        FIGURES.write_text("")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures := FIGURES.read_text().splitlines():
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab; its cache lasts from run to run."""
    try:
        return Lab()
    except LabUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def machine(lab: Lab) -> Iterator[Callable[..., Machine]]:
    """machine("6.12", …), as Lab.machine(): guests that end with the test."""
    with contextlib.ExitStack() as running:
        yield lambda *args, **kwargs: running.enter_context(lab.machine(*args, **kwargs))
