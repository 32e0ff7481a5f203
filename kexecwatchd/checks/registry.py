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
    rivals,
)
from kexecwatchd.checks.check import Check

CHECKS: tuple[Check, ...] = (
    boot_memory.CHECK,
    capture_memory.CHECK,
    first_megabyte.CHECK,
    hotplug.CHECK,
    images.CHECK,
    initrd.CHECK,
    paging_levels.CHECK,
    permission.CHECK,
    removable_memory.CHECK,
    rivals.CHECK,
)
