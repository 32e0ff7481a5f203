# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel files: would kexec_file_load(2) take this one, and what does it ask for?

The checks are those of the kernel's own loaders (arch/*/kernel/kexec_*.c), plus whether the file is
all there: a load that fails leaves the machine without a crash image, so it must not be tried with
a file that is known to be bad. Signatures are looked for, not verified.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

# Compressed and foreign formats that only some machines' loaders take, to be named in the reason.
_FORMATS = (
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"\xfd7zXZ\0", "xz-compressed"),
    (b"\x02\x21\x4c\x18", "lz4-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\x7fELF", "an ELF file"),
)
# MAX_ELFCOREHDR_STR_LEN in arch/x86/kernel/kexec-bzimage64.c: x86 keeps room for
# "elfcorehdr=0x<16 digits> " in front of the command line, for reboot images too.
ELFCOREHDR_STRING = 30
# How far 4-level paging reaches (MAX_PHYSMEM_BITS of x86_64: 46). The kernel's own reservations for
# a crash kernel end here (CRASH_ADDR_HIGH_MAX, arch/x86/include/asm/crash_reserve.h).
FOUR_LEVEL_END = 64 << 40
_APPENDED_SIGNATURE = b"~Module signature appended~\n"
_EM = {"ppc64le": 21, "s390x": 22, "riscv64": 243, "loongarch64": 258}


class BadImage(ValueError):
    """The kernel would refuse this file, or it is damaged; the text says why."""


@dataclass(frozen=True, slots=True)
class BootImage:
    """What matters of a kernel file; sizes are bytes.

    `cmdline_size`: the longest command line, the final NUL included; on x86 30 bytes less, since
    the kernel adds elfcorehdr=; None = not known. `five_level`: starts under 5-level paging (x86;
    None elsewhere). `memory_size`: RAM that it takes when loaded. `signed`: carries a signature.
    `alignment` (a power of two) and `preferred_address`: what x86's kernel_alignment and
    pref_address say; 0 elsewhere. x86 too: `five_level_enabled`: the kernel was built to run with
    5-level paging; `unpacked_size`: what the file unpacks to when it starts, relocations included,
    0 = not known. `release`: as uname -r will say it; "" = not known.
    """

    cmdline_size: int | None
    five_level: bool | None
    memory_size: int
    signed: bool
    alignment: int = 0
    preferred_address: int = 0
    five_level_enabled: bool | None = None
    unpacked_size: int = 0
    release: str = ""

    def stays_four_level(self, cmdline: str) -> bool:
        """True when it runs with 4-level paging on any CPU: an x86 kernel built so, or told so."""
        return self.five_level_enabled is False or (
            self.five_level_enabled is True and "no5lvl" in cmdline.split()
        )


def inspect(fd: int, machine: str) -> BootImage:
    """Look at the kernel file open at `fd`, for this `machine` (as uname -m says it).

    Reads a few kilobytes and leaves the file position alone. Raises BadImage, or OSError.
    """
    probe = _PROBES.get(machine)
    if probe is None:
        raise BadImage(f"no kexec_file_load is known for machine {machine}")
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("not a regular file")
    if not status.st_size:
        raise BadImage("the file is empty")
    return probe(_File(fd, status.st_size))


@dataclass(frozen=True, slots=True)
class _File:
    fd: int
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Fewer bytes than asked for where the file ends."""
        return os.pread(self.fd, size, offset)

    def number(self, layout: str, offset: int) -> int:
        """One integer of the struct module's `layout`."""
        data = self.read(offset, struct.calcsize(layout))
        if len(data) < struct.calcsize(layout):
            raise BadImage(f"truncated: {self.size} bytes, and offset {offset:#x} is needed")
        value: int = struct.unpack(layout, data)[0]
        return value

    def must_reach(self, end: int, what: str) -> None:
        if self.size < end:
            raise BadImage(f"truncated: {what} ends at {end}, the file at {self.size} bytes")


def _x86(file: _File) -> BootImage:
    """bzImage64_probe() and bzImage64_load(), arch/x86/kernel/kexec-bzimage64.c; the header's
    fields: Documentation/arch/x86/boot.rst."""
    if file.size < 1024:
        raise BadImage(f"too short for a bzImage: {file.size} bytes")
    if file.read(0x202, 4) != b"HdrS":
        raise BadImage(f"not a bzImage but {_format(file)}: no HdrS at 0x202")
    version = file.number("<H", 0x206)
    xloadflags = file.number("<H", 0x236)
    wanted = (
        (file.number("<H", 0x1FE) == 0xAA55, "no boot sector signature at 0x1fe"),
        (version >= 0x20C, f"boot protocol {version:#06x} is older than 2.12"),
        (file.number("B", 0x211) & 1, "a zImage: LOADED_HIGH is not set"),
        (xloadflags & 1, "not for 64 bits: XLF_KERNEL_64 is not set"),
        (xloadflags & 2, "XLF_CAN_BE_LOADED_ABOVE_4G is not set"),
    )
    for good, reason in wanted:
        if not good:
            raise BadImage(reason)
    setup = ((file.number("B", 0x1F1) or 4) + 1) * 512
    file.must_reach(setup + file.number("<I", 0x1F4) * 16, "the kernel proper (syssize)")
    init_size = file.number("<I", 0x260)
    if not init_size:
        raise BadImage("damaged: an init_size of 0")
    if file.size - setup > init_size:
        raise BadImage(f"{file.size - setup} bytes of kernel in an init_size of {init_size}")
    alignment = file.number("<I", 0x230)
    if alignment.bit_count() != 1:
        raise BadImage(f"damaged: a kernel_alignment of {alignment:#x} is no power of two")
    return BootImage(
        cmdline_size=file.number("<I", 0x238),
        five_level=bool(xloadflags & 0x20),
        memory_size=init_size,
        signed=_check_pe(file),
        alignment=alignment,
        preferred_address=file.number("<Q", 0x258),
        five_level_enabled=bool(xloadflags & 0x40),
        unpacked_size=_unpacked_size(file, setup),
        release=_release(file),
    )


def _unpacked_size(file: _File, setup: int) -> int:
    """z_output_len, which ends the compressed payload (arch/x86/boot/compressed/mkpiggy.c; the
    compressors' own, or size_append in scripts/Makefile.lib)."""
    offset, length = file.number("<I", 0x248), file.number("<I", 0x24C)
    if length < 4:
        return 0
    return file.number("<I", setup + offset + length - 4)


def _release(file: _File) -> str:
    """The first word of the string that kernel_version points at."""
    offset = file.number("<H", 0x20E)
    text = file.read(offset + 0x200, 256) if offset else b""
    words = text.partition(b"\0")[0].decode("ascii", "replace").split()
    return words[0] if words else ""


def _arm64(file: _File) -> BootImage:
    """image_probe() and image_load(), arch/arm64/kernel/kexec_image.c."""
    if file.read(4, 4) == b"zimg":
        raise BadImage("an EFI zboot image; the load takes only the uncompressed Image inside it")
    if file.read(56, 4) != b"ARM\x64":
        raise BadImage(f"not an arm64 Image but {_format(file)}; the load takes only the Image")
    if file.number("<Q", 24) & 1:
        raise BadImage("a big-endian kernel")
    return _flat_image(file, cmdline_size=2048)


def _riscv(file: _File) -> BootImage:
    """arch/riscv/kernel/kexec_image.c (6.16 and later) and kexec_elf.c."""
    if file.read(0, 4) == b"\x7fELF":
        return _vmlinux(file, "<", _EM["riscv64"], cmdline_size=1024)
    if file.read(56, 4) != b"RSC\x05":
        raise BadImage(f"neither a riscv Image nor an ELF file but {_format(file)}")
    return _flat_image(file, cmdline_size=1024)


def _flat_image(file: _File, cmdline_size: int) -> BootImage:
    """The header that arm64 and riscv share (Documentation/arch/arm64/booting.rst)."""
    size = file.number("<Q", 16)
    if not size:
        raise BadImage("image_size is 0: a kernel from before 3.17, or a damaged one")
    return BootImage(cmdline_size, None, size, _check_pe(file))


def _loongarch(file: _File) -> BootImage:
    """arch/loongarch/kernel/kexec_efi.c (header: arch/loongarch/kernel/head.S) and kexec_elf.c."""
    if file.read(0, 4) == b"\x7fELF":
        return _vmlinux(file, "<", _EM["loongarch64"], cmdline_size=None)
    if file.read(0, 2) != b"MZ" or file.read(0x38, 4) != b"\xcd\x23\x82\x81":
        raise BadImage(f"neither a loongarch vmlinux.efi nor an ELF file but {_format(file)}")
    return BootImage(None, None, file.number("<Q", 16), _check_pe(file))


def _ppc64le(file: _File) -> BootImage:
    """arch/powerpc/kexec/elf_64.c takes vmlinux only."""
    if file.read(0, 4) != b"\x7fELF":
        raise BadImage(f"not an ELF file (vmlinux) but {_format(file)}")
    return _vmlinux(file, "<", _EM["ppc64le"], cmdline_size=2048)


def _s390x(file: _File) -> BootImage:
    """arch/s390/kernel/kexec_elf.c and kexec_image.c; the latter takes anything, so we look for
    the mark that every bootable image has (arch/s390/boot/head.S)."""
    if file.read(0, 4) == b"\x7fELF":
        return _vmlinux(file, ">", _EM["s390x"], cmdline_size=None)
    if file.read(0x10008, 6) != b"S390EP":
        raise BadImage(f"neither a bootable s390 image nor an ELF file but {_format(file)}")
    return BootImage(None, None, file.size, _has_appended_signature(file))


def _vmlinux(file: _File, order: str, em: int, cmdline_size: int | None) -> BootImage:
    """kexec_build_elf_info(), kernel/kexec_elf.c; and all of its PT_LOADs must be there."""
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02")
    machine = file.number(order + "H", 18)
    if file.read(0, 6) != ident or machine != em:
        raise BadImage(f"an ELF file for another machine: e_machine {machine}, {em} wanted")
    if file.number(order + "H", 16) not in (2, 3):
        raise BadImage("an ELF file that is no program (e_type is not ET_EXEC or ET_DYN)")
    phoff, count = file.number(order + "Q", 32), file.number(order + "H", 56)
    first, last = 1 << 64, 0
    for at in range(phoff, phoff + 56 * count, 56):
        if file.number(order + "I", at) == 1:
            offset, physical = file.number(order + "Q", at + 8), file.number(order + "Q", at + 24)
            file.must_reach(offset + file.number(order + "Q", at + 32), "a PT_LOAD")
            first = min(first, physical)
            last = max(last, physical + file.number(order + "Q", at + 40))
    if last <= first:
        raise BadImage("an ELF file with nothing to load")
    return BootImage(cmdline_size, None, last - first, _has_appended_signature(file))


def _has_appended_signature(file: _File) -> bool:
    end = len(_APPENDED_SIGNATURE)
    return file.read(max(0, file.size - end), end) == _APPENDED_SIGNATURE


def _check_pe(file: _File) -> bool:
    """True when the file is a PE file with a certificate table (a Secure Boot signature).

    A kernel without an EFI stub is no PE file; one that is must have all its sections, which is how
    a truncated arm64 Image shows.
    """
    if file.read(0, 2) != b"MZ":
        return False
    pe = file.number("<I", 0x3C)
    if file.read(pe, 4) != b"PE\0\0":
        return False
    sections, optional_size = file.number("<H", pe + 6), file.number("<H", pe + 20)
    table = pe + 24 + optional_size
    for at in range(table, table + 40 * sections, 40):
        size, offset = file.number("<I", at + 16), file.number("<I", at + 20)
        file.must_reach(offset + size, "a PE section")
    if file.number("<H", pe + 24) != 0x20B or file.number("<I", pe + 24 + 108) < 5:
        return False
    offset, size = file.number("<I", pe + 24 + 144), file.number("<I", pe + 24 + 148)
    file.must_reach(offset + size, "the signature")
    return size > 0


def _format(file: _File) -> str:
    """A few words for what the file seems to be."""
    start = file.read(0, 8)
    if start[4:] == b"zimg":
        return "an EFI zboot image"
    if start[:2] == b"MZ":
        return "another PE file (a unified kernel image?)"
    for magic, words in _FORMATS:
        if start.startswith(magic):
            return words
    return f"something that begins with {start.hex()}"


_PROBES: dict[str, Callable[[_File], BootImage]] = {
    "x86_64": _x86,
    "aarch64": _arm64,
    "riscv64": _riscv,
    "loongarch64": _loongarch,
    "ppc64le": _ppc64le,
    "s390x": _s390x,
}
