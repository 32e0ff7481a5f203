# SPDX-License-Identifier: GPL-2.0-or-later
"""Where each CPU's crash note lies, and vmcoreinfo: what the PT_NOTEs of an elfcorehdr must say.

Sources: crash_notes_show(), drivers/base/cpu.c; vmcoreinfo_show(), kernel/ksysfs.c. Kernels before
6.6 list the present CPUs, later ones the possible CPUs (crash_prepare_elf64_headers()).
"""

from __future__ import annotations

import errno
from pathlib import Path

from kexecwatchd.model import Note

_GONE = frozenset({errno.ENOENT, errno.ENODEV})


def crash_notes(root: Path = Path("/")) -> dict[str, Note]:
    """The notes of all present CPUs under "cpuN", and of vmcoreinfo under "vmcoreinfo".

    A CPU that leaves during the read is left out, and so is what the kernel does not offer (without
    CONFIG_KEXEC_CORE there are no notes at all). Raises OSError when a note is there but cannot be
    read, and ValueError when it is none: leaving those out would prove less than it says.
    """
    directory = root / "sys/devices/system/cpu"
    notes: dict[str, Note] = {}
    for number in _present(directory):
        name = f"cpu{number}"
        address = _read(directory / name / "crash_notes")
        size = _read(directory / name / "crash_notes_size")
        if address and size:
            notes[name] = _note(directory / name / "crash_notes", address, size, 10)
    path = root / "sys/kernel/vmcoreinfo"
    words = _read(path).split()
    if words:
        notes["vmcoreinfo"] = _note(path, words[0], words[-1], 16)
    return notes


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's list format ("0-3,8,10-11"; cpulist in cpumask_print_to_pagebuf()), ascending.

    Raises ValueError for anything else.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, dash, last = part.partition("-")
            start, end = int(first), int(last if dash else first)
            if not 0 <= start <= end:
                raise ValueError(f"{part!r} is no range of CPUs")
            numbers.update(range(start, end + 1))
    return tuple(sorted(numbers))


def _present(directory: Path) -> tuple[int, ...]:
    path = directory / "present"
    try:
        return parse_cpu_list(_read(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _note(path: Path, address: str, size: str, size_base: int) -> Note:
    try:
        return Note(int(address, 16), int(size, size_base))
    except ValueError:
        raise ValueError(
            f"{path}: {address[:40]!r}, {size[:40]!r} is no address and size"
        ) from None


def _read(path: Path) -> str:
    """ "" when there is no such file (any more)."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise
