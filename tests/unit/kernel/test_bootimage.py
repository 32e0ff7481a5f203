# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import contextlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import bootimage
from kexecwatchd.kernel.bootimage import BadImage, BootImage

from .trees import PT_LOAD, elf, file_of, phdr

PE = 0x80
SIGNATURE_SIZE = 512
VMLINUX_SPAN = 0x100000 + 500


def inspect(data: bytes, machine: str = "x86_64") -> BootImage:
    with file_of(data) as fd:
        return bootimage.inspect(fd, machine)


def put(data: bytes, *fields: tuple[int, str, int]) -> bytes:
    """`data` with little-endian numbers of a struct layout at some offsets."""
    changed = bytearray(data)
    for offset, layout, value in fields:
        struct.pack_into("<" + layout, changed, offset, value)
    return bytes(changed)


def with_pe(data: bytes, signed: bool) -> bytes:
    """Make it a PE file of one section, all of `data`, with or without a certificate table."""
    certificate = (len(data), SIGNATURE_SIZE) if signed else (0, 0)
    data = b"MZ" + data[2:PE] + b"PE\0\0" + data[PE + 4 :]
    data = put(
        data,
        (0x3C, "I", PE),
        (PE + 6, "H", 1),
        (PE + 20, "H", 160),
        (PE + 24, "H", 0x20B),
        (PE + 24 + 108, "I", 6),
        (PE + 24 + 144, "I", certificate[0]),
        (PE + 24 + 148, "I", certificate[1]),
        (PE + 24 + 160 + 16, "I", len(data)),
        (PE + 24 + 160 + 20, "I", 0),
    )
    return data + bytes(certificate[1])


def bzimage(size: int = 8192) -> bytes:
    data = put(
        bytes(size),
        (0x1F1, "B", 3),
        (0x1F4, "I", (size - 2048) // 16),
        (0x1FE, "H", 0xAA55),
        (0x206, "H", 0x20F),
        (0x211, "B", 1),
        (0x230, "I", 2 << 20),
        (0x236, "H", 0x7F),
        (0x238, "I", 2047),
        (0x258, "Q", 16 << 20),
        (0x260, "I", 60 << 20),
    )
    return data[:0x202] + b"HdrS" + data[0x206:]


def arm64(size: int = 4096) -> bytes:
    return put(bytes(size), (16, "Q", 40 << 20), (24, "Q", 0xA), (56, "I", 0x644D5241))


def riscv(size: int = 4096) -> bytes:
    return put(bytes(size), (16, "Q", 20 << 20), (56, "I", 0x05435352))


def loongarch(size: int = 4096) -> bytes:
    return put(bytes(size), (0, "H", 0x5A4D), (16, "Q", 30 << 20), (0x38, "I", 0x818223CD))


def vmlinux(machine: int, order: str = "<") -> bytes:
    phdrs = [
        phdr(PT_LOAD, 0x200000, 1000, offset=0x1000, order=order),
        phdr(PT_LOAD, 0x300000, 500, offset=0x2000, order=order),
    ]
    return elf(*phdrs, kind=2, order=order, machine=machine).ljust(0x2000 + 500, b"x")


class TestX86:
    def test_a_distribution_kernel(self) -> None:
        assert inspect(with_pe(bzimage(), signed=True)) == BootImage(
            cmdline_size=2047,
            five_level=True,
            memory_size=60 << 20,
            signed=True,
            alignment=2 << 20,
            preferred_address=16 << 20,
            five_level_enabled=True,
        )

    def test_release_and_unpacked_size(self) -> None:
        """kernel_version at 0x20e counts from 0x200; the payload's last four bytes are its size."""
        data = put(
            bzimage(),
            (0x20E, "H", 0x400),
            (0x248, "I", 64),
            (0x24C, "I", 104),
            (2048 + 64 + 100, "I", 57646880),
        )
        version = b"6.12.48+deb13-amd64 (build@example) #1 SMP\0"
        data = data[:0x600] + version + data[0x600 + len(version) :]
        found = inspect(data)
        assert (found.release, found.unpacked_size) == ("6.12.48+deb13-amd64", 57646880)

    def test_unsigned(self) -> None:
        assert not inspect(with_pe(bzimage(), signed=False)).signed
        assert not inspect(bzimage()).signed

    @pytest.mark.parametrize(
        ("xloadflags", "cmdline", "expected"),
        [
            (0x7F, "quiet", False),
            (0x7F, "quiet no5lvl", True),
            (0x7F, "no5lvl=1 xno5lvl", False),
            (0x3F, "quiet", True),
            (0x1F, "quiet", True),
        ],
    )
    def test_stays_four_level(self, xloadflags: int, cmdline: str, expected: bool) -> None:
        found = inspect(put(bzimage(), (0x236, "H", xloadflags)))
        assert found.stays_four_level(cmdline) is expected

    def test_without_five_levels(self) -> None:
        assert inspect(put(bzimage(), (0x236, "H", 0x5F))).five_level is False
        assert inspect(put(bzimage(), (0x236, "H", 0x3F))).five_level is True

    def test_setup_sects_of_zero_means_four(self) -> None:
        data = put(bzimage(), (0x1F1, "B", 0), (0x1F4, "I", (8192 - 2560) // 16))
        inspect(data)
        with pytest.raises(BadImage, match="truncated"):
            inspect(data[:-1])

    @pytest.mark.parametrize(
        ("field", "reason"),
        [
            ((0x1FE, "H", 0), "boot sector"),
            ((0x202, "I", 0), "no HdrS"),
            ((0x206, "H", 0x20B), "0x020b"),
            ((0x211, "B", 0), "zImage"),
            ((0x236, "H", 0x7E), "XLF_KERNEL_64"),
            ((0x236, "H", 0x7D), "ABOVE_4G"),
            ((0x1F4, "I", 1 << 20), "truncated"),
            ((0x260, "I", 4096), "init_size of 4096"),
            ((0x230, "I", 0x300000), "kernel_alignment of 0x300000"),
            ((0x230, "I", 0), "kernel_alignment of 0x0"),
        ],
    )
    def test_what_the_kernel_would_refuse(self, field: tuple[int, str, int], reason: str) -> None:
        with pytest.raises(BadImage, match=reason):
            inspect(put(bzimage(), field))

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty"),
            (bytes(1023), "too short"),
            (b"\x1f\x8b".ljust(2000), "gzip-compressed"),
            (with_pe(bytes(4096), signed=False), "unified kernel image"),
            (b"what".ljust(2000), "begins with 77686174"),
        ],
    )
    def test_what_is_no_bzimage(self, data: bytes, reason: str) -> None:
        with pytest.raises(BadImage, match=reason):
            inspect(data)

    @given(st.integers(0, len(with_pe(bzimage(), signed=True)) - 1))
    def test_every_cut_shows(self, end: int) -> None:
        with pytest.raises(BadImage):
            inspect(with_pe(bzimage(), signed=True)[:end])

    @given(st.binary(max_size=64), st.integers(0, 0x300))
    def test_damage_is_refused_or_described(self, noise: bytes, at: int) -> None:
        data = with_pe(bzimage(), signed=True)
        with contextlib.suppress(BadImage):
            inspect(data[:at] + noise + data[at + len(noise) :])


class TestElsewhere:
    def test_arm64(self) -> None:
        assert inspect(with_pe(arm64(), signed=True), "aarch64") == BootImage(
            2048, None, 40 << 20, signed=True
        )
        assert not inspect(arm64(), "aarch64").signed

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"MZ\0\0zimg".ljust(4096, b"\0"), "zboot"),
            (b"\x1f\x8b\x08\0".ljust(4096, b"\0"), "gzip-compressed"),
            (vmlinux(183), "an ELF file"),
            (put(arm64(), (16, "Q", 0)), "image_size is 0"),
            (put(arm64(), (24, "Q", 0xB)), "big-endian"),
            (with_pe(arm64(), signed=False)[:-1], "truncated: a PE section"),
            (arm64()[:20], "something"),
        ],
    )
    def test_what_arm64_would_refuse(self, data: bytes, reason: str) -> None:
        with pytest.raises(BadImage, match=reason):
            inspect(data, "aarch64")

    def test_riscv(self) -> None:
        assert inspect(riscv(), "riscv64").memory_size == 20 << 20
        assert inspect(vmlinux(243), "riscv64").memory_size == VMLINUX_SPAN
        with pytest.raises(BadImage, match="gzip"):
            inspect(b"\x1f\x8b".ljust(4096, b"\0"), "riscv64")

    def test_loongarch(self) -> None:
        assert inspect(loongarch(), "loongarch64").memory_size == 30 << 20
        assert inspect(vmlinux(258), "loongarch64").memory_size == VMLINUX_SPAN
        with pytest.raises(BadImage, match="something"):
            inspect(bytes(4096), "loongarch64")

    def test_ppc64le(self) -> None:
        data = vmlinux(21)
        assert inspect(data, "ppc64le") == BootImage(2048, None, VMLINUX_SPAN, signed=False)
        assert inspect(data + b"~Module signature appended~\n", "ppc64le").signed
        with pytest.raises(BadImage, match="truncated: a PT_LOAD"):
            inspect(data[:-1], "ppc64le")

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (vmlinux(62), "e_machine 62, 21 wanted"),
            (vmlinux(21, ">"), "another machine"),
            (elf(phdr(PT_LOAD, 0, 8), kind=1, machine=21), "no program"),
            (elf(kind=2, machine=21), "nothing to load"),
            (b"\x7fELF\x02\x01", "truncated"),
            (bytes(100), "not an ELF file"),
        ],
    )
    def test_what_ppc64le_would_refuse(self, data: bytes, reason: str) -> None:
        with pytest.raises(BadImage, match=reason):
            inspect(data, "ppc64le")

    def test_s390x(self) -> None:
        image = bytes(0x10008) + b"S390EP" + bytes(100)
        assert inspect(image, "s390x").memory_size == len(image)
        assert inspect(vmlinux(22, ">"), "s390x").memory_size == VMLINUX_SPAN
        with pytest.raises(BadImage, match="something"):
            inspect(image[:0x10008], "s390x")

    def test_an_unknown_machine(self) -> None:
        with pytest.raises(BadImage, match="parisc64"):
            inspect(bzimage(), "parisc64")


def test_not_a_regular_file() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BadImage, match="regular"):
            bootimage.inspect(reader, "x86_64")
    finally:
        os.close(reader)
        os.close(writer)


def test_the_file_position_stays() -> None:
    with file_of(bzimage()) as fd:
        os.lseek(fd, 100, os.SEEK_SET)
        bootimage.inspect(fd, "x86_64")
        assert os.lseek(fd, 0, os.SEEK_CUR) == 100
