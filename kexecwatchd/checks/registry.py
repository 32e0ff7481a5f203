from __future__ import annotations

from kexecwatchd.checks import (
    boot_memory,
    capture_memory,
    dump_target,
    first_megabyte,
    hotplug,
    image_files,
    images,
    initrd,
    lockdown,
    paging_levels,
    panic,
    permission,
    read_back,
    removable_memory,
    rivals,
)
from kexecwatchd.checks.check import Check

CHECKS: tuple[Check, ...] = (
    boot_memory.CHECK,
    capture_memory.CHECK,
    dump_target.CHECK,
    first_megabyte.CHECK,
    hotplug.CHECK,
    image_files.CHECK,
    images.CHECK,
    initrd.CHECK,
    lockdown.CHECK,
    paging_levels.CHECK,
    panic.CHECK,
    permission.CHECK,
    read_back.CHECK,
    removable_memory.CHECK,
    rivals.CHECK,
)
