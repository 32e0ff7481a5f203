# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's boot messages for the checks: those that matter to any, without addresses."""

from __future__ import annotations

import re

from kexecwatchd.checks.host import Host, Source
from kexecwatchd.kernel import bootlog
from kexecwatchd.sizes import human

# Addresses as the kernel writes them, and as kernels before 6.7 do: "256MB of memory at 240MB".
_ADDRESS = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{8,})\b|(?<= at )\d+(?=MB\b)")
_SIZE = re.compile(r"\bsize:0x([0-9a-f]+)")


def without_addresses(line: str) -> str:
    """The line for everyone's eyes; sizes stay, in words where they look like addresses."""
    line = _SIZE.sub(lambda match: f"size: {human(int(match[1], 16))}", line)
    return _ADDRESS.sub("[address]", line)


def _look(host: Host) -> tuple[str, ...]:
    return tuple(without_addresses(line) for line in bootlog.read(host.root))


BOOT_LOG: Source[tuple[str, ...]] = Source("boot-log", tuple[str, ...], _look)
"""Lines of this boot that matter (the list is in kernel/bootlog.py), in their order. Whether what
is not there was not said tells kernel.bootlog.whole()."""
