# SPDX-License-Identifier: GPL-2.0-or-later
"""ACPI memory devices (PNP0C80): memory that any kernel booted here will hot-add by itself.

That includes a capture kernel, which then takes the crashed kernel's memory for its own: it may
overwrite it, and /proc/vmcore refuses to read it ("ioremap on RAM"; seen on 6.1, 6.12 and 7.3).
The kernel parameter acpi_no_memhotplug is there to prevent it (drivers/acpi/acpi_memhotplug.c).
"""

from __future__ import annotations

from pathlib import Path

#: Without it on its command line, a capture kernel hot-adds these devices.
NO_MEMORY_HOTPLUG = "acpi_no_memhotplug"

# _STA: the device is present (ACPI specification, 6.3.7).
_PRESENT = 1


def memory_present(root: Path = Path("/")) -> bool:
    """True when firmware offers at least one memory device that is there."""
    for status in (root / "sys/bus/acpi/devices").glob("PNP0C80:*/status"):
        try:
            if int(status.read_text()) & _PRESENT:
                return True
        except (OSError, ValueError):
            continue  # it went away meanwhile
    return False
