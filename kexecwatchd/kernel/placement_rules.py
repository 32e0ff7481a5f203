# SPDX-License-Identifier: GPL-2.0-or-later
"""By which rules the running kernel places a reboot image outside of CMA: what differs between
kernels.

Read from what the kernel shows of itself: names in /proc/kallsyms, and the purgatory that is built
into it, through /proc/kcore. All of it stays the same until the next boot. The rules themselves are
in kexecwatchd/forecast.py.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd.kernel.kcore import Kcore, KcoreError, NotMapped

PAGE = 4096

_PURGATORY, _PURGATORY_SIZE = b"kexec_purgatory", b"kexec_purgatory_size"
_WALKS_DOWN = b"walk_system_ram_res_rev"
# What adds segments of sizes that we do not know before all others, or restricts where they go.
_SPOILERS = {
    b"ima_add_kexec_buffer": "this kernel may add a segment with IMA's measurements (IMA_KEXEC)",
    b"kho_fill_kimage": "this kernel may hand memory over to the next one (KEXEC_HANDOVER)",
}

# struct setup_data, and what bzImage64_load() makes room for behind it, used or not.
_SETUP_DATA = 16
_EFI_SETUP_DATA = _SETUP_DATA + 96
_RNG_SEED = _SETUP_DATA + 32

_SHF_ALLOC = 2
_SHT_NOBITS = 8
# Far more than any purgatory; the sizes seen are 16 to 21 KiB.
_OBJECT_MAX = 1 << 20


class RulesUnknown(Exception):
    """Nothing can be said about where an image goes; the text says why."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the running kernel places.

    `highest_first`: the System RAM resources are tried from the highest down (6.8 and later), not
    from the lowest up. `purgatory`: the size of that segment in bytes, whole pages.
    `boot_parameters`: what stands beside struct boot_params and the command line, in bytes; more
    than one where kernels differ and nothing tells which way this one goes.
    """

    highest_first: bool
    purgatory: int
    boot_parameters: tuple[int, ...]


def align(size: int, to: int = PAGE) -> int:
    """`size` up to a multiple of `to`, as the kernel's ALIGN()."""
    return -(-size // to) * to


def read_rules(root: Path, machine: str) -> Rules:
    """The running kernel's rules; `machine` as uname -m says it. Raises RulesUnknown."""
    if machine != "x86_64":
        raise RulesUnknown(f"only x86_64's rules were compared with a kernel, not {machine}'s")
    try:
        symbols = _read_symbols(root)
        return Rules(
            highest_first=_WALKS_DOWN in symbols,
            purgatory=_purgatory_size(root, symbols),
            boot_parameters=_boot_parameters(root, _WALKS_DOWN in symbols),
        )
    except OSError as error:
        # Not its own text: where a read of /proc/kcore failed, that tells an address.
        reason = os.strerror(error.errno or 0)
        raise RulesUnknown(f"cannot read {error.filename or root / 'proc'}: {reason}") from error


def _read_symbols(root: Path) -> dict[bytes, int]:
    """The addresses of the symbols that matter here.

    The file is sorted by address, and the text with all functions lies below the read-only data
    with the purgatory (include/asm-generic/vmlinux.lds.h), so no more needs to be read than that.
    """
    path = root / "proc/kallsyms"
    wanted = {_PURGATORY, _PURGATORY_SIZE, _WALKS_DOWN, *_SPOILERS}
    found: dict[bytes, int] = {}
    with path.open("rb") as file:
        for line in file:
            address, _, name = line.rstrip(b"\n").partition(b" ")
            name = name[2:]
            if name in wanted:
                found[name] = int(address, 16)
                if _PURGATORY in found and _PURGATORY_SIZE in found:
                    break
    for name, reason in _SPOILERS.items():
        if name in found:
            raise RulesUnknown(reason)
    if _PURGATORY not in found or _PURGATORY_SIZE not in found:
        raise RulesUnknown(f"{path} has no kexec_purgatory: this kernel has no kexec_file_load")
    if not found[_PURGATORY]:
        raise RulesUnknown(f"{path} hides addresses (kernel.kptr_restrict is 2, or no CAP_SYSLOG)")
    return found


def _purgatory_size(root: Path, symbols: dict[bytes, int]) -> int:
    """The memory that the embedded purgatory takes when loaded, in whole pages."""
    try:
        with Kcore(root) as core:
            (size,) = struct.unpack("<Q", core.read_virtual(symbols[_PURGATORY_SIZE], 8))
            if not 0 < size <= _OBJECT_MAX:
                raise RulesUnknown(f"a kexec_purgatory of {size} bytes cannot be")
            return _memory(core.read_virtual(symbols[_PURGATORY], size))
    except NotMapped as error:
        # As above: its own text tells an address.
        raise RulesUnknown(f"{root / 'proc/kcore'} does not show the kernel's own data") from error
    except KcoreError as error:
        raise RulesUnknown(str(error)) from error


def _memory(purgatory: bytes) -> int:
    """The memory that a purgatory takes, as kexec_purgatory_setup_kbuf() (kernel/kexec_file.c) adds
    up the sections of this relocatable ELF64 object, in whole pages. Raises RulesUnknown."""
    size = bss = 0
    alignment = bss_alignment = 1
    for kind, section_size, boundary in _allocated(purgatory):
        if kind == _SHT_NOBITS:
            bss_alignment = max(bss_alignment, boundary)
            bss = align(bss, boundary) + section_size
        else:
            alignment = max(alignment, boundary)
            size = align(size, boundary) + section_size
    alignment = max(alignment, bss_alignment)
    if not size or alignment > PAGE:
        raise RulesUnknown(f"a purgatory of {size} bytes, aligned to {alignment}, is none we know")
    return align(align(size, bss_alignment) + bss)


def _allocated(purgatory: bytes) -> Iterator[tuple[int, int, int]]:
    """(sh_type, sh_size, sh_addralign) of the sections that are loaded."""
    if purgatory[:6] != b"\x7fELF\x02\x01" or len(purgatory) < 64:
        raise RulesUnknown(f"kexec_purgatory is no ELF64 object; it begins with {purgatory[:6]!r}")
    (offset,) = struct.unpack_from("<Q", purgatory, 40)
    entry_size, count = struct.unpack_from("<HH", purgatory, 58)
    if entry_size != 64 or offset + entry_size * count > len(purgatory):
        raise RulesUnknown("the section headers of kexec_purgatory lie outside of it")
    table = purgatory[offset : offset + entry_size * count]
    for _, kind, flags, _, _, size, _, _, boundary, _ in struct.iter_unpack("<IIQQQQIIQQ", table):
        if flags & _SHF_ALLOC:
            yield kind, size, max(boundary, 1)


def _boot_parameters(root: Path, has_seed: bool) -> tuple[int, ...]:
    """The EFI memory map and the setup_data. The seed for the random number generator came with 6.0
    (68b8e9713c8e), which nothing tells but the later change of the walk."""
    efi_map = 0
    entries = root / "sys/firmware/efi/runtime-map"
    if entries.is_dir():
        # efi_info.efi_memdesc_size of the boot parameters (Documentation/arch/x86/zero-page.rst).
        boot_params = (root / "sys/kernel/boot_params/data").read_bytes()
        efi_map = len(list(entries.iterdir())) * int.from_bytes(boot_params[0x1C8:0x1CC], "little")
    least = align(efi_map, 16) + _EFI_SETUP_DATA
    return (least + _RNG_SEED,) if has_seed else (least, least + _RNG_SEED)
