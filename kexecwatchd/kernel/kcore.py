# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kcore: memory as the running kernel has it mapped (fs/proc/kcore.c).

An ELF64 core whose PT_LOADs carry the kernel's virtual address in p_vaddr and, for RAM and the
kernel's own image, the physical address in p_paddr. Needs CAP_SYS_RAWIO; opening it fails with
EPERM under lockdown=confidentiality. A page that the kernel has not mapped reads as zeros, without
an error.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kexecwatchd.ranges import Range

_PT_LOAD = 1


class KcoreError(ValueError):
    """The file is no ELF64 core."""


class NotMapped(ValueError):
    """No PT_LOAD covers the whole of the range that was asked for."""


@dataclass(frozen=True, slots=True)
class _Load:
    span: Range  # physical
    virtual: Range
    offset: int  # in the file


class Kcore:
    """Open /proc/kcore; close it, or use it as a context manager.

    The kernel lays the file out anew after memory hotplug, so open it afresh for each look. The
    constructor raises OSError (EPERM: lockdown, or no CAP_SYS_RAWIO), or KcoreError.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = root / "proc/kcore"
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._loads = tuple(self._program_headers())
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._fd)

    def read(self, address: int, size: int) -> bytes:
        """`size` (at least 1) bytes of physical memory from `address`.

        Raises NotMapped, or OSError.
        """
        wanted = Range(address, address + size)
        covering = [load for load in self._loads if _covers(load.span, wanted)]
        if not covering:
            raise NotMapped(
                f"{self._path} has no mapping for {wanted}; "
                "the kernel keeps that memory unmapped, or it is no RAM"
            )
        # Before 4.11 everything that is no RAM had p_paddr 0 and would seem to start there.
        load = max(covering, key=lambda load: load.span.start)
        return self._read_at(load.offset + address - load.span.start, size)

    def read_virtual(self, address: int, size: int) -> bytes:
        """`size` (at least 1) bytes from the kernel's virtual `address`, as /proc/kallsyms has it.

        Raises NotMapped, or OSError.
        """
        wanted = Range(address, address + size)
        for load in self._loads:
            if _covers(load.virtual, wanted):
                return self._read_at(load.offset + address - load.virtual.start, size)
        raise NotMapped(f"{self._path} has no mapping for the virtual addresses {wanted}")

    def _program_headers(self) -> Iterator[_Load]:
        header = self._read_at(0, 64)
        if header[:5] != b"\x7fELF\x02" or header[5] not in (1, 2):
            raise KcoreError(f"{self._path} is no ELF64 file; it begins with {header[:6]!r}")
        order = "<" if header[5] == 1 else ">"
        (phoff,) = struct.unpack_from(order + "Q", header, 32)
        entry_size, count = struct.unpack_from(order + "HH", header, 54)
        if entry_size != 56:
            raise KcoreError(f"{self._path} has program headers of {entry_size} bytes, not 56")
        table = self._read_at(phoff, entry_size * count) if count else b""
        for fields in struct.iter_unpack(order + "IIQQQQQQ", table):
            kind, _, offset, virtual, physical, _, size, _ = fields
            # What has no one physical address (vmalloc, vmemmap) has -1, where no RAM can be.
            if kind == _PT_LOAD and size:
                yield _Load(
                    Range(physical, physical + size), Range(virtual, virtual + size), offset
                )

    def _read_at(self, offset: int, size: int) -> bytes:
        parts = []
        while size:
            part = os.pread(self._fd, size, offset)
            if not part:
                raise OSError(errno.EIO, f"ends at offset {offset:#x}", str(self._path))
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)


def _covers(outer: Range, inner: Range) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end
