# SPDX-License-Identifier: GPL-2.0-or-later
"""How to change crashkernel=, for the remedies of several checks.

On Debian, kdump-tools adds a crashkernel= of its own (/etc/default/grub.d/kdump-tools.cfg of 1.8.1
and 1.10.7), which is read behind /etc/default/grub; and a plain crashkernel=SIZE that comes last
counts for more than SIZE,high (parse_crashkernel() in kernel/crash_reserve.c).
"""

from __future__ import annotations

_WHERE = (
    "in the boot loader's configuration, in place of every crashkernel= that is there (on Debian:"
    " /etc/default/grub.d/kdump-tools.cfg where that exists, else /etc/default/grub, and then"
    " update-grub)"
)


def to_set(words: str) -> str:
    """A sentence that says to boot with these words."""
    return f"Set {words} {_WHERE}, and boot again."
