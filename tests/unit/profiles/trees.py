# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with a kdump tool, as files below a root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kexecwatchd.profiles import SetUp, find
from tests.unit.kernel.trees import populate

RELEASE = "6.1.0-56-amd64"


def set_up(root: Path, files: Mapping[str, str | bytes]) -> SetUp:
    """What is found below `root` once it has these files."""
    populate(root, files)
    found = find(root)
    assert found is not None
    return found


def cmdline_of(root: Path, files: Mapping[str, str | bytes]) -> str:
    """The command line that is found."""
    found = set_up(root, files)
    assert found.files is not None, found.obstacle
    return found.files.cmdline


def obstacle_of(root: Path, files: Mapping[str, str | bytes]) -> str:
    """Why nothing is found."""
    found = set_up(root, files)
    assert found.files is None
    return found.obstacle
