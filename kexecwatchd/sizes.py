# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes in words."""

from __future__ import annotations


def human(size: int) -> str:
    """Bytes in the largest binary unit that leaves at least 1: 536870912 is "512 MiB"."""
    value, units = float(size), ["TiB", "GiB", "MiB", "KiB", "bytes"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop()
    return f"{value:.1f}".removesuffix(".0") + f" {units[-1]}"
