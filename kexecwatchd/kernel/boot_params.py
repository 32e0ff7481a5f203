# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot loader handed to an x86 kernel: struct boot_params, as the kernel keeps it.

/sys/kernel/boot_params (Documentation/ABI/testing/sysfs-kernel-boot_params); the fields: those of
Documentation/arch/x86/zero-page.rst and boot.rst. How its memory map reads: firmware_map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from

from kexecwatchd.kernel import firmware_map
from kexecwatchd.kernel.firmware_map import Entry
from kexecwatchd.ranges import Range, RangeSet

_KASLR_FLAG = 1 << 1  # loadflags: the decompressor, or the EFI stub, randomised
_KEXEC = 0xD  # type_of_loader, upper half: kexec-tools, and the kernel's own kexec_file_load(2)
_SETUP_DATA_HEADER = 16  # struct setup_data: next, type, len


@dataclass(frozen=True, slots=True)
class BootParams:
    """Addresses and sizes in bytes.

    `entries`: the e820 table's own, in its order; `extra`: those in setup_data. `initrd`: None
    without one. `cmdline`: where the command line lies. `loaded`: where the loader put the kernel
    file, before it unpacked itself. `setup_data`: the place of the first node, None without any;
    `unplaced`: how many more there are, whose places the kernel does not show. `randomised`: the
    kernel's own place was chosen by KASLR. `efi`, `kexec`: who started it.

    The kernel's own header is left out: the EFI stub makes boot_params without most of it (seen on
    6.12), so the kernel file is to be asked.
    """

    entries: tuple[Entry, ...]
    extra: tuple[Entry, ...]
    initrd: Range | None
    cmdline: int
    loaded: int
    setup_data: Range | None
    unplaced: int
    randomised: bool
    efi: bool
    kexec: bool

    def memory(self, cmdline: str) -> RangeSet:
        """What the kernel takes for memory with this command line. Raises BadFirmwareMap."""
        return firmware_map.usable((*self.entries, *self.extra), cmdline)


def read(root: Path = Path("/")) -> BootParams | None:
    """None where the kernel shows no boot_params (not x86).

    Raises OSError or firmware_map.BadFirmwareMap.
    """
    directory = root / "sys/kernel/boot_params"
    try:
        data = (directory / "data").read_bytes()
    except FileNotFoundError:
        return None
    lengths = [
        (node / "data").stat().st_size for node in firmware_map.nodes(directory / "setup_data")
    ]
    return parse(data, firmware_map.extensions(directory / "setup_data"), lengths)


def parse(data: bytes, more: bytes = b"", setup_data: list[int] | None = None) -> BootParams:
    """Of struct boot_params, the e820 entries `more` (SETUP_E820_EXT) and the lengths of the
    setup_data nodes. Raises firmware_map.BadFirmwareMap."""
    entries = firmware_map.table(data)

    def number(offset: int, layout: str = "<I") -> int:
        value: int = unpack_from(layout, data, offset)[0]
        return value

    def wide(low: int, high: int) -> int:
        return number(low) | number(high) << 32

    initrd, size = wide(0x218, 0x0C0), wide(0x21C, 0x0C4)
    first, lengths = number(0x250, "<Q"), setup_data or []
    return BootParams(
        entries=entries,
        extra=firmware_map.unpack(more),
        initrd=Range(initrd, initrd + size) if initrd and size else None,
        cmdline=wide(0x228, 0x0C8),
        loaded=number(0x214),
        setup_data=Range(first, first + _SETUP_DATA_HEADER + lengths[0])
        if first and lengths
        else None,
        unplaced=max(len(lengths) - 1, 0),
        randomised=bool(data[0x211] & _KASLR_FLAG),
        efi=data[0x1C0:0x1C4] in (b"EL32", b"EL64"),
        kexec=data[0x210] >> 4 == _KEXEC,
    )
