# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/meminfo: what memory is used for, and whether there is CMA memory.

6.17 and later allocate the segments of a reboot image there first (kexec_alloc_contig() in
kernel/kexec_file.c). Format: meminfo_proc_show(), fs/proc/meminfo.c.
"""

from __future__ import annotations

from pathlib import Path


def has_cma(root: Path = Path("/")) -> bool:
    """True when CmaTotal is more than 0; without CONFIG_CMA there is no such line.

    Raises OSError.
    """
    return amounts(root).get("CmaTotal", 0) != 0


def amounts(root: Path = Path("/")) -> dict[str, int]:
    """The lines that are in kB, in bytes. Raises OSError."""
    found = {}
    for line in (root / "proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        match value.split():
            case [number, "kB"] if number.isdecimal():
                found[name] = int(number) << 10
    return found
