# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what the kernel would show: files below a root, ELF headers, kernel images, archives."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DATA = Path(__file__).parent / "data"

PT_LOAD = 1
PT_NOTE = 4


def populate(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write each file below root, with the directories above it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextmanager
def file_of(content: bytes) -> Iterator[int]:
    """A descriptor of a file with that content."""
    fd = os.memfd_create("test")
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def phdr(kind: int, physical: int, size: int, offset: int | None = None, order: str = "<") -> bytes:
    """An ELF64 program header; p_offset is p_paddr unless said otherwise."""
    where = physical if offset is None else offset
    return struct.pack(order + "IIQQQQQQ", kind, 7, where, 0, physical, size, size, 0)


def elf(*phdrs: bytes, kind: int = 4, order: str = "<", machine: int = 62) -> bytes:
    """An ELF64 file with these program headers right behind its header."""
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01" + bytes(9)
    fields = (kind, machine, 1, 0, 64, 0, 0, 64, 56, len(phdrs), 0, 0, 0)
    return ident + struct.pack(order + "HHIQQQIHHHHHH", *fields) + b"".join(phdrs)


def kcore(
    root: Path,
    memory: Mapping[int, bytes],
    order: str = "<",
    image: Mapping[int, bytes] | None = None,
) -> None:
    """/proc/kcore with these pieces of physical memory, and a vmalloc range without address.

    `image`: pieces of the kernel's own image, by virtual address.
    """
    image = image or {}
    offset = 64 + 56 * (len(memory) + len(image) + 2)
    phdrs = [
        struct.pack(order + "IIQQQQQQ", PT_NOTE, 0, 0, 0, 0, 0, 0, 0),
        struct.pack(order + "IIQQQQQQ", PT_LOAD, 7, 0, 1, (1 << 64) - 1, 1 << 45, 1 << 45, 4096),
    ]
    for address, data in memory.items():
        phdrs.append(phdr(PT_LOAD, address, len(data), offset, order))
        offset += len(data)
    for address, data in image.items():
        fields = (PT_LOAD, 7, offset, address, (1 << 64) - 1, len(data), len(data), 4096)
        phdrs.append(struct.pack(order + "IIQQQQQQ", *fields))
        offset += len(data)
    content = b"".join((*memory.values(), *image.values()))
    populate(root, {"proc/kcore": elf(*phdrs, order=order) + content})


def relocatable(*sections: tuple[int, int, int, int]) -> bytes:
    """A relocatable ELF64 object of sections (sh_type, sh_flags, sh_size, sh_addralign), all of
    them without content: what a loader would make room for."""
    headers = [(0, 0, 0, 0), *sections]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, kind, flags, 0, 64, size, 0, 0, align, 0)
        for kind, flags, size, align in headers
    )
    fields = (1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, len(headers), 0)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", *fields) + table


def crash_header(loads: Mapping[int, int], notes: Mapping[int, int], order: str = "<") -> bytes:
    """An elfcorehdr as crash_prepare_elf64_headers() writes it: {address: size}."""
    phdrs = [phdr(PT_NOTE, address, size, order=order) for address, size in notes.items()]
    phdrs += [phdr(PT_LOAD, address, size, order=order) for address, size in loads.items()]
    return elf(*phdrs, order=order)


def kexec_rules(root: Path) -> None:
    """What a kernel of today shows of how it places a reboot image: /proc/kallsyms, and a purgatory
    of 5 pages in /proc/kcore."""
    purgatory, size = 0xFFFFFFFF82001000, 0xFFFFFFFF82008000
    content = relocatable((1, 2, 0x4000, 4096), (8, 2, 0x1000, 4096))
    length = struct.pack("<Q", len(content))
    kcore(root, {0x1000: b"RAM"}, image={purgatory: content, size: length})
    symbols = (
        "ffffffff810010e0 T walk_system_ram_res_rev\n"
        f"{purgatory:x} D kexec_purgatory\n"
        f"{size:x} D kexec_purgatory_size\n"
    )
    populate(root, {"proc/kallsyms": symbols})
