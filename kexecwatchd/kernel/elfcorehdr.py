# SPDX-License-Identifier: GPL-2.0-or-later
"""The elfcorehdr of the loaded crash image: find it, read it, hold it against the machine.

It is an ELF64 core header in the crash region: a PT_NOTE for each CPU and for vmcoreinfo, a PT_LOAD
for each range of RAM that a dump will have. Two programs write it: the kernel
(crash_prepare_elf64_headers(), kernel/crash_core.c), with p_offset = p_paddr throughout; and
kexec-tools (kexec/crashdump-elf.c), where the p_offset of one PT_LOAD, the low memory that
purgatory backs up, points into the crash region instead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from kexecwatchd.kernel.kcore import Kcore
from kexecwatchd.model import CoreHeader, Drift, MemoryMap, Note
from kexecwatchd.ranges import Range, RangeSet

PAGE = 4096
_X86 = frozenset({"x86_64", "i686"})
# Reserved by the kernel whatever it holds, and left out of every header of its own (since 5.5).
_LOW_1M = RangeSet.of((0, 1 << 20))

_MAGIC = b"\x7fELF"
_EHDR_SIZE = 64
_PHDR_SIZE = 56
_ET_CORE = 4
_PT_LOAD = 1
_PT_NOTE = 4
# The number in e_phnum that says the real one is elsewhere; no crash header gets that far.
_PN_XNUM = 0xFFFF
_PHYSICAL_BITS = 56

_SCAN_CHUNK = 1 << 20
_STABLE_TRIES = 5


class HeaderError(ValueError):
    """There is no elfcorehdr here, or none that can be believed; the text says why."""


def parse(data: bytes, address: int) -> CoreHeader:
    """The header that `data` begins with; `address` is where it was read, in bytes.

    Raises HeaderError for anything that the kernel and kexec-tools would not have written, such as
    the core dump of a process, which is ET_CORE too.
    """
    order, phoff, count = _identify(data)
    end = phoff + count * _PHDR_SIZE
    if len(data) < end:
        raise HeaderError(f"truncated: {len(data)} bytes of {end}")
    loads: list[Range] = []
    notes: list[Note] = []
    copied: list[Range] = []
    for fields in struct.iter_unpack(order + "IIQQQQQQ", data[phoff:end]):
        kind, _, offset, _, physical, file_size, size, _ = fields
        if (physical + size) >> _PHYSICAL_BITS or file_size != size:
            raise HeaderError(f"no physical memory: {size:#x} bytes at {physical:#x}")
        if kind == _PT_NOTE:
            if not physical or offset != physical:
                raise HeaderError("a PT_NOTE without a physical address: another program's core")
            notes.append(Note(physical, size))
        elif kind == _PT_LOAD and size:
            loads.append(Range(physical, physical + size))
            if offset != physical:
                copied.append(loads[-1])
    if not notes or not loads:
        raise HeaderError(f"{len(notes)} PT_NOTEs and {len(loads)} PT_LOADs")
    if len(copied) > 1:
        raise HeaderError(f"p_offset differs from p_paddr in {len(copied)} PT_LOADs")
    return CoreHeader(
        address=address, loads=RangeSet(loads), notes=tuple(notes), copied=RangeSet(copied)
    )


def find(kcore: Kcore, regions: RangeSet, hint: int | None, machine: str) -> CoreHeader:
    """The elfcorehdr of the loaded crash image, somewhere in `regions` (the "Crash kernel" ones).

    Only to be asked while a crash image is loaded: an unload leaves the bytes behind. `hint` is the
    address that our own load put it at; an address read back from someone else's image makes a bad
    hint, since his next load may leave a stale header there. Raises HeaderError, kcore.NotMapped
    or OSError.
    """
    if machine == "s390x":
        raise HeaderError("no elfcorehdr on s390x: the capture kernel makes its own when it boots")
    if not regions:
        raise HeaderError("/proc/iomem has no Crash kernel region")
    reasons: list[str] = []
    for region, address in _guesses(regions, hint):
        try:
            return _read_stable(kcore, address, region)
        except HeaderError as error:
            reasons.append(f"at {address:#x}: {error}")
    zeros = True
    for region, start, data in _chunks(kcore, regions):
        zeros = zeros and data == bytes(len(data))
        for address in _candidates(region, start, data):
            try:
                return _read_stable(kcore, address, region)
            except HeaderError as error:
                reasons.append(f"at {address:#x}: {error}")
    if zeros:  # as on arm64 before 6.4
        raise HeaderError(
            f"the crash region ({regions}) reads as zeros: the kernel has it unmapped"
        )
    raise HeaderError(f"no elfcorehdr in the crash region ({regions}); {'; '.join(reasons[-4:])}")


def expected_loads(memory: MemoryMap, crash_cma: RangeSet, machine: str) -> RangeSet:
    """The RAM that a header must list: elf_header_exclude_ranges(), arch/x86/kernel/crash.c."""
    expected = memory.system_ram - memory.crash_regions - crash_cma
    return expected - _LOW_1M if machine in _X86 else expected


def compare(
    header: CoreHeader,
    memory: MemoryMap,
    crash_cma: RangeSet,
    notes: Mapping[str, Note],
    machine: str,
) -> Drift:
    """How `header` differs from the machine. Fragments below a page (4096 bytes) do not count:
    firmware maps and kexec-tools round differently, and no dump can use them."""
    known = memory.system_ram | _LOW_1M if machine in _X86 else memory.system_ram
    addresses = {note.address for note in header.notes}
    return Drift(
        missing=(expected_loads(memory, crash_cma, machine) - header.loads).without_slivers(PAGE),
        extra=(header.loads - known).without_slivers(PAGE),
        missing_notes=tuple(name for name, note in notes.items() if note.address not in addresses),
    )


def _identify(data: bytes) -> tuple[str, int, int]:
    """(byte order for struct, offset of the program headers, their number)."""
    if len(data) < _EHDR_SIZE:
        raise HeaderError(f"truncated: {len(data)} bytes of {_EHDR_SIZE}")
    if data[:4] != _MAGIC:
        raise HeaderError("no ELF magic")
    if data[4] != 2 or data[5] not in (1, 2):
        raise HeaderError(f"not ELF64: class {data[4]}, data {data[5]}")
    order = "<" if data[5] == 1 else ">"
    (kind,) = struct.unpack_from(order + "H", data, 16)
    (phoff,) = struct.unpack_from(order + "Q", data, 32)
    entry_size, count = struct.unpack_from(order + "HH", data, 54)
    if kind != _ET_CORE:
        raise HeaderError(f"e_type is {kind}, not ET_CORE")
    if entry_size != _PHDR_SIZE or not 0 < count < _PN_XNUM:
        raise HeaderError(f"{count} program headers of {entry_size} bytes")
    if not _EHDR_SIZE <= phoff <= PAGE:
        raise HeaderError(f"program headers at offset {phoff:#x}")
    return order, phoff, count


def _read_stable(kcore: Kcore, address: int, region: Range) -> CoreHeader:
    """Read until two reads agree: the kernel may be rewriting the header at this moment."""
    before = b""
    for _ in range(_STABLE_TRIES):
        start = kcore.read(address, min(PAGE, region.end - address))
        _, phoff, count = _identify(start)
        size = phoff + count * _PHDR_SIZE
        if address + size > region.end:
            raise HeaderError(f"{count} program headers do not fit into the region")
        data = kcore.read(address, size)
        if data == before:
            return parse(data, address)
        before = data
    raise HeaderError(f"changed during each of {_STABLE_TRIES} reads; look again")


def _guesses(regions: RangeSet, hint: int | None) -> Iterator[tuple[Range, int]]:
    """The hint, then where the kernel's own load puts it on x86: bottom-up in the region."""
    if hint is not None:
        yield from ((r, hint) for r in regions if r.start <= hint <= r.end - _EHDR_SIZE)
    yield from ((r, r.start) for r in regions if r.start != hint and r.size >= _EHDR_SIZE)


def _chunks(kcore: Kcore, regions: RangeSet) -> Iterator[tuple[Range, int, bytes]]:
    """(region, page-aligned address, the bytes there), all of `regions` from the top down.

    kexec-tools (x86 and arm64) and the kernel on arm64 place the header before all else, so near
    the top; what an earlier load left behind lies below it.
    """
    for region in reversed(regions.ranges):
        end = region.end
        while end > region.start:
            start = max(region.start, (end - _SCAN_CHUNK) // PAGE * PAGE)
            yield region, start, kcore.read(start, end - start)
            end = start


def _candidates(region: Range, start: int, data: bytes) -> Iterator[int]:
    """Page-aligned addresses of ELF magic, from the top down."""
    at = data.rfind(_MAGIC)
    while at >= 0:
        if (start + at) % PAGE == 0 and start + at <= region.end - _EHDR_SIZE:
            yield start + at
        at = data.rfind(_MAGIC, 0, at)
