# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's build configuration: is an option set?

Asked only where nothing else tells, since not every machine has the file. It cannot change while
the kernel runs, so each answer is kept.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from pathlib import Path

from kexecwatchd.kernel import kexec_state

#: Patterns of the files that are read here.
FILES = ("proc/config.gz", "usr/lib/modules/*/config", "boot/config-*", "proc/sys/kernel/osrelease")


def is_set(root: Path, option: str) -> bool | None:
    """True when CONFIG_`option` is built in; None when no configuration can be found or read."""
    try:
        release = kexec_state.kernel_release(root)
    except (OSError, ValueError):
        return None
    for path in (
        root / "proc/config.gz",  # CONFIG_IKCONFIG_PROC
        root / f"usr/lib/modules/{release}/config",
        root / f"boot/config-{release}",
    ):
        if path.is_file():
            try:
                return _is_set(path, option)
            except (OSError, EOFError, zlib.error):
                continue
    return None


@functools.cache
def _is_set(path: Path, option: str) -> bool:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return f"CONFIG_{option}=y".encode() in data.split(b"\n")
