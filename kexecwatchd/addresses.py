# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical addresses are root's alone: not for the journal, nor for what everyone may read."""

from __future__ import annotations

import re

# 0x12ab, 0x12ab-0x12ff and, as /proc/iomem writes them, 12ab-12ff.
_ADDRESS = re.compile(r"0x[0-9a-f]+(?:-0x[0-9a-f]+)?|\b[0-9a-f]{4,}-[0-9a-f]{4,}\b")


def without_addresses(text: str) -> str:
    """A message for everyone's eyes."""
    return _ADDRESS.sub("[address]", text)
