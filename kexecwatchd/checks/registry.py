# SPDX-License-Identifier: GPL-2.0-or-later
"""Every check there is, in the order in which people read them."""

from __future__ import annotations

from kexecwatchd.checks import (
    boot_files,
    boot_memory,
    capture_memory,
    dump_target,
    first_megabyte,
    hotplug,
    images,
    initrd,
    lockdown,
    next_boot,
    paging_levels,
    panic,
    permission,
    read_back,
    removable_memory,
    reservation,
    rivals,
)
from kexecwatchd.checks.check import Check

CHECKS: tuple[Check, ...] = (
    images.CHECK,
    reservation.CHECK,
    next_boot.CHECK,
    permission.CHECK,
    lockdown.CHECK,
    boot_files.CHECK,
    capture_memory.CHECK,
    initrd.CHECK,
    first_megabyte.CHECK,
    paging_levels.CHECK,
    dump_target.CHECK,
    panic.CHECK,
    rivals.CHECK,
    read_back.CHECK,
    hotplug.CHECK,
    removable_memory.CHECK,
    boot_memory.CHECK,
)
