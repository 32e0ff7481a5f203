# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel said while it booted, as far as it tells of crash dumps.

From the journal, which has the kernel's early lines (_TRANSPORT=kernel, systemd.journal-fields(7))
long after newer ones took their place in the kernel's own buffer; from that buffer (/dev/kmsg)
where the journal does not begin with the boot, as where it is not kept or not readable.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from systemd import journal

from kexecwatchd.kernel.kmsg import KernelLog

# The first line of every kernel (linux_banner, init/version-timestamp.c).
_BEGINNING = "Linux version "
_WANTED = re.compile(
    "|".join((
        _BEGINNING,
        r"cra(?:sh|hs) ?kernel",  # reserve_crashkernel*(), parse_crashkernel*(): one is misspelt
        r"KASLR",  # arm64 and riscv; x86 says it on the early console only
        r"low 1 ?MiB",  # reserve_real_mode() and crash_reserve_low_1M() in arch/x86
        r"Memory Encryption|\bSME\b|\bSEV\b|\bTDX\b",  # print_mem_encrypt_feature_info()
        r"secure ?boot|locked down",  # efi_set_secure_boot(), lock_kernel_down()
    )),
    re.IGNORECASE,
)  # fmt: skip
# They repeat crashkernel=, and may have addresses in them; /proc/cmdline is where to read it.
_COMMAND_LINE = re.compile(r"(?:kernel )?command line|unknown kernel command line", re.IGNORECASE)
# What tells of the boot is said in the boot; a log of months is not to be gone through.
_MOST = 20_000


def read(root: Path = Path("/")) -> tuple[str, ...]:
    """The lines that matter, in their order. The first begins with "Linux version" unless the
    beginning of this boot is lost (`whole`). Raises OSError."""
    lines = matters(_journal()) if root == Path("/") else ()
    if not whole(lines):
        with KernelLog(root) as log:
            lines = matters(log.since_mark()[0])
    return lines


def whole(lines: tuple[str, ...]) -> bool:
    """True when these are the lines of the whole boot: what is not there was not said."""
    return bool(lines) and lines[0].startswith(_BEGINNING)


def matters(lines: Iterable[str]) -> tuple[str, ...]:
    """Those that tell something of crash dumps."""
    return tuple(line for line in lines if _WANTED.search(line) and not _COMMAND_LINE.match(line))


def _journal() -> list[str]:
    """The kernel's own lines of this boot; none where there is no journal that we may read."""
    with journal.Reader() as reader:
        reader.this_boot()
        reader.add_match(_TRANSPORT="kernel")
        # As /dev/kmsg, the journal has lines here that programs wrote into the kernel's log.
        reader.add_match(SYSLOG_FACILITY="0")
        return [str(entry.get("MESSAGE", "")) for entry in itertools.islice(reader, _MOST)]
