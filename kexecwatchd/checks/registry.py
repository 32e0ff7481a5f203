# SPDX-License-Identifier: GPL-2.0-or-later
"""Every check there is, in the order in which people read them."""

from __future__ import annotations

from kexecwatchd.checks import (
    boot_memory,
    capture_memory,
    first_megabyte,
    hotplug,
    images,
    initrd,
    paging_levels,
    permission,
    removable_memory,
)
from kexecwatchd.checks.check import Check

CHECKS: tuple[Check, ...] = (
    permission.CHECK,
    images.CHECK,
    capture_memory.CHECK,
    initrd.CHECK,
    paging_levels.CHECK,
    first_megabyte.CHECK,
    hotplug.CHECK,
    removable_memory.CHECK,
    boot_memory.CHECK,
)
