# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/meminfo: is there CMA memory?

6.17 and later allocate the segments of a reboot image there first (kexec_alloc_contig() in
kernel/kexec_file.c). Format: meminfo_proc_show(), fs/proc/meminfo.c.
"""

from __future__ import annotations

from pathlib import Path


def has_cma(root: Path = Path("/")) -> bool:
    """True when CmaTotal is more than 0; without CONFIG_CMA there is no such line.

    Raises OSError.
    """
    for line in (root / "proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CmaTotal":
            return value.split()[:1] != ["0"]
    return False
