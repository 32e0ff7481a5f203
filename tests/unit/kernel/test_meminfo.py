# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/meminfo: amounts, and CMA memory or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.meminfo import amounts, has_cma
from tests.unit.kernel.trees import populate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MemTotal: 1 kB\nCmaTotal:         196608 kB\nCmaFree: 0 kB\n", True),
        ("MemTotal: 1 kB\nCmaTotal:              0 kB\nCmaFree: 0 kB\n", False),
        ("MemTotal: 1 kB\n", False),
        ("", False),
    ],
)
def test_has_cma(tmp_path: Path, text: str, expected: bool) -> None:
    populate(tmp_path, {"proc/meminfo": text})
    assert has_cma(tmp_path) is expected


def test_a_machine_without_proc_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="meminfo"):
        has_cma(tmp_path)


def test_amounts_are_bytes(tmp_path: Path) -> None:
    text = "MemTotal:  2 kB\nHugePages_Total:  3\nMemFree: -1 kB\nnonsense\n"
    populate(tmp_path, {"proc/meminfo": text})
    assert amounts(tmp_path) == {"MemTotal": 2048}


@given(text=st.text())
def test_any_text_is_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("any")
    populate(root, {"proc/meminfo": text})
    assert all(size >= 0 for size in amounts(root).values())
