# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.sizes import human

GIB = 1 << 30


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        ((1 << 20) - 1, "1 MiB"),
        (4096 * 1024 - 4096, "4 MiB"),
        (3 * GIB // 2, "1.5 GiB"),
        (480 * GIB, "480 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert human(count) == text


@given(st.integers(0, 1 << 60))
def test_a_size_is_right_to_a_tenth_of_its_unit(count: int) -> None:
    number, unit = human(count).split()
    factor: int = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert abs(float(number) * factor - count) <= 0.0501 * factor
    assert float(number) < 1024 or unit == "TiB"
