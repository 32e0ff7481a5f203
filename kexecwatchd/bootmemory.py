# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that this boot began with: what is not in it was hot-added, and is meant to go again.

The kernel does not tell the two apart afterwards. So a unit of its own
(kexecwatchd-boot-memory.service) records the memory map before anything in user space can add to
it; where that did not run in this boot, the daemon records what it finds at its first start.

Imported by that unit's program, which runs early: no pydantic, no D-Bus, nothing slow.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kexecwatchd.kernel import firmware_map, iomem, kexec_state
from kexecwatchd.model import BootMemory
from kexecwatchd.ranges import RangeSet


def record(root: Path = Path("/")) -> None:
    """Write down the System RAM of now, unless this boot's was recorded before.

    Memory that a driver manages is left out: it comes and goes. Raises OSError or ValueError.
    """
    boot_id = kexec_state.boot_id(root)
    if _recorded(root, boot_id) is not None:
        return
    memory = iomem.read_memory_map(root)
    content = {
        "boot_id": boot_id,
        "system_ram": [(r.start, r.end) for r in memory.system_ram - memory.driver_managed],
    }
    path = _path(root)
    new = path.with_name(f".{path.name}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        json.dump(content, file)
    os.replace(new, path)


def read(root: Path, boot_id: str) -> BootMemory | None:
    """What this boot began with; None where it was not recorded, or not in this boot.

    Where firmware's own map can be read, only memory that it described counts: a DIMM that firmware
    left to ACPI is removable though it was there from the start. That also makes a late record
    right, since no hot-added memory is in firmware's map.
    """
    recorded = _recorded(root, boot_id)
    if recorded is None:
        return None
    try:
        firmware = firmware_map.read(root)
    except (OSError, ValueError):
        firmware = None
    if firmware is None:
        return BootMemory(recorded)
    ram = recorded & (firmware.ram - firmware.taken_out)
    return BootMemory(ram, handed_on=ram, hidden=firmware.ram & firmware.taken_out)


def main() -> int:
    """The early unit's program; exit code 1 when nothing could be recorded."""
    try:
        record()
    except (OSError, ValueError) as error:
        # Not the message, which may have addresses in it: the journal is not root's alone.
        print(
            f"the memory of this boot could not be recorded: {type(error).__name__};"
            " look at /proc/iomem as root, and at /run/kexecwatchd",
            file=sys.stderr,
        )
        return 1
    return 0


def _recorded(root: Path, boot_id: str) -> RangeSet | None:
    try:
        content = json.loads(_path(root).read_bytes())
        if content["boot_id"] != boot_id:
            return None
        return RangeSet.of(*content["system_ram"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(root: Path) -> Path:
    return root / "run/kexecwatchd/boot-memory.json"
