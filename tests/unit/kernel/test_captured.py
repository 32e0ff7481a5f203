# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole read-back, on what booted kernels showed (the names say which, and in what state)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.kernel import cpus, elfcorehdr, iomem
from kexecwatchd.kernel.kcore import Kcore
from kexecwatchd.model import CoreHeader, Drift, MemoryMap
from kexecwatchd.ranges import RangeSet

from .trees import DATA, kcore, populate

MIB = 1 << 20


def restore(root: Path, capture: str) -> tuple[MemoryMap, CoreHeader, Drift]:
    """Put a captured machine below root, then look at it.

    Of the crash region only the first page and the last MiB are there: no more is to be needed.
    """
    directory = DATA / capture
    populate(root, {"proc/iomem": (directory / "iomem").read_bytes()})
    for line in (directory / "notes").read_text().splitlines():
        path, _, content = line.partition(":")
        populate(root, {path.lstrip("/"): content + "\n"})
    (dump,) = directory.glob("elfcorehdr-*")
    address = int(dump.name.partition("-")[2], 16)
    memory = iomem.read_memory_map(root)
    (region,) = memory.crash_regions
    first, last = bytearray(4096), bytearray(MIB)
    first[0] = 1
    header = dump.read_bytes()
    if address == region.start:
        first[: len(header)] = header
    else:
        offset = address - (region.end - MIB)
        last[offset : offset + len(header)] = header
    kcore(root, {region.start: bytes(first), region.end - MIB: bytes(last)})
    with Kcore(root) as core:
        found = elfcorehdr.find(core, memory.crash_regions, None, "x86_64")
    assert found.address == address
    notes = cpus.crash_notes(root)
    return memory, found, elfcorehdr.compare(found, memory, RangeSet(), notes, "x86_64")


@pytest.mark.parametrize(
    ("capture", "drift"),
    [
        # The kernel updated the header when the DIMM came, and did not when it went.
        ("7.3-dimm-removed", Drift(extra=RangeSet.of((0x140000000, 0x160000000)))),
        ("6.1-cpu-added", Drift(missing_notes=("cpu2",))),
        ("6.1-kexec-tools", Drift()),
    ],
)
def test_what_the_machine_was_in(tmp_path: Path, capture: str, drift: Drift) -> None:
    assert restore(tmp_path, capture)[2] == drift


def test_kexec_tools_header_is_elsewhere_and_lists_low_memory(tmp_path: Path) -> None:
    memory, header, _ = restore(tmp_path, "6.1-kexec-tools")
    (region,) = memory.crash_regions
    assert (region.start, region.size) == (0xF000000, 256 * MIB)
    assert header.address == 0x1EF5D000
    assert header.loads.covers(RangeSet.of((0x1000, 0x9FC00)))
    assert header.copied == RangeSet.of((0x1000, 0x9FC00)), "by purgatory, at the crash"
    assert len(header.notes) == 4
