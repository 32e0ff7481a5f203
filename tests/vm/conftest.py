# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab as fixtures. A host without QEMU skips, but fails where CI=true promises one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from tests.vm.lab import Lab, LabUnavailable, Machine


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
