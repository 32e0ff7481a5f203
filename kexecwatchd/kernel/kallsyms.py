# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kallsyms: which functions the running kernel has, and so what it was built with.

Names are shown to everyone; addresses are not looked at. A function tells more than a system call's
own symbol, which is there for system calls that were left out, too (COND_SYSCALL in
kernel/sys_ni.c). Format: s_show() in kernel/kallsyms.c.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


def present(root: Path, names: Collection[str]) -> frozenset[str]:
    """Those of `names` that the kernel itself, not a module, has. The file has some 10 MB.

    Raises OSError, or ValueError where it tells nothing.
    """
    path = root / "proc/kallsyms"
    text = path.read_bytes()
    if not text:
        raise ValueError(f"{path} is empty")
    # A module's symbol has a tab and the module's name behind it.
    return frozenset(name for name in names if f" {name}\n".encode() in text)
