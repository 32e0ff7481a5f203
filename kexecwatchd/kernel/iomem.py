# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/iomem: where System RAM is, and the crash kernel's reservation.

The kernel describes crash memory by the same walk (walk_system_ram_res(), kernel/resource.c): every
busy System RAM resource at any depth, since driver-managed memory lies below its device
("virtio0", "dax0.0", "CXL Window 0").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kexecwatchd.model import MemoryMap
from kexecwatchd.ranges import Range, RangeSet

_LINE = re.compile(r" *([0-9a-f]+)-([0-9a-f]+) : (.*)")


class AddressesHidden(PermissionError):
    """Every address reads as zero: the reader lacks CAP_SYS_ADMIN (r_show(), kernel/resource.c)."""


class MapError(ValueError):
    """What /proc/iomem says is no memory map."""


def read_memory_map(root: Path = Path("/")) -> MemoryMap:
    """The memory map of now. Raises OSError, AddressesHidden or MapError."""
    path = root / "proc/iomem"
    try:
        return parse(path.read_text(encoding="ascii", errors="replace"))
    except MapError as error:
        raise MapError(f"{path}: {error}") from error
    except AddressesHidden as error:
        raise AddressesHidden(f"{path}: {error}") from error


def parse(text: str) -> MemoryMap:
    """The memory map that the text of /proc/iomem describes. Raises AddressesHidden or MapError."""
    resources = [_resource(number, line) for number, line in enumerate(text.splitlines(), 1)]
    if resources and not any(start or end for start, end, _ in resources):
        raise AddressesHidden(
            "all addresses read as zero; run with CAP_SYS_ADMIN in the initial user namespace"
        )
    plain = tuple(_named(resources, lambda name: name == "System RAM"))
    # In brackets: the driver that manages it, such as "System RAM (virtio_mem)".
    driver_managed = RangeSet(_named(resources, lambda name: name.startswith("System RAM (")))
    system_ram = RangeSet(plain) | driver_managed
    if not system_ram:
        raise MapError(f"no System RAM among {len(resources)} resources")
    return MemoryMap(
        system_ram=system_ram,
        crash_regions=RangeSet(_named(resources, lambda name: name == "Crash kernel")),
        resources=plain,
        driver_managed=driver_managed,
    )


def read_kernel(root: Path = Path("/")) -> Range | None:
    """The running kernel's image, from its code to the end of its bss, as it is reserved
    (early_reserve_memory(), arch/x86/kernel/setup.c); None where /proc/iomem does not say.

    Raises OSError or MapError.
    """
    text = (root / "proc/iomem").read_text(encoding="ascii", errors="replace")
    resources = (_resource(number, line) for number, line in enumerate(text.splitlines(), 1))
    found = {name: (start, end + 1) for start, end, name in resources}
    code, bss = found.get("Kernel code"), found.get("Kernel bss")
    return Range(code[0], bss[1]) if code and bss and code[0] else None


def _resource(number: int, line: str) -> tuple[int, int, str]:
    """(start, inclusive end, name) of a line."""
    match = _LINE.fullmatch(line)
    if not match:
        raise MapError(f"line {number} is no resource: {line[:80]!r}")
    start, end = int(match[1], 16), int(match[2], 16)
    if end < start:
        raise MapError(f"line {number} ends before it starts: {line[:80]!r}")
    return start, end, match[3]


def _named(
    resources: Sequence[tuple[int, int, str]], wanted: Callable[[str], bool]
) -> Iterator[Range]:
    return (Range(start, end + 1) for start, end, name in resources if wanted(name))
