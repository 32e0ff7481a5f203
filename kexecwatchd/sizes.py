# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes in words."""

from __future__ import annotations


def human(size: int) -> str:
    """Bytes in binary units, a tenth at the finest: `512 MiB`, `1.5 GiB`."""
    value, units = float(size), ["TiB", "GiB", "MiB", "KiB", "B"]
    # Not 1024 itself: 1023.96 KiB would come out as "1024 KiB".
    while value >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop()
    return f"{value:.1f}".removesuffix(".0") + f" {units[-1]}"
